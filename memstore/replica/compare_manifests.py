"""The copy's MANIFEST of an agent beside the store's: is it of the same, and does it say as much?"""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Set as AbstractSet

from memstore.format.forgotten import text_hash
from memstore.format.manifest import decode_manifest_line
from memstore.manifest.compaction import compacted_state
from memstore.manifest.index import Manifest


def has_lost(known: Manifest, manifest: Manifest, erased: Mapping[str, int]) -> bool:
    """Whether the store's MANIFEST is not the one that the copy knows, nor what was made of it.

    A merge begins one for an agent that has none. One that was compacted or repaired has an id.

    Args:
        known: the copy's.
        manifest: the store's.
        erased: when each agent that was erased as a whole was erased last, by the hash of its id.
    """
    line = decode_manifest_line(manifest.header.rstrip(b"\n"), manifest.path)
    is_compacted = line is not None and line.manifest is not None and bool(line.manifest.id)
    was_erased = erased.get(text_hash(manifest.agent), -1) >= known.begun
    return known.begun < manifest.begun and not is_compacted and not was_erased


def says_the_same(known: Manifest, manifest: Manifest, tokens: AbstractSet[str]) -> bool:
    """Whether the copy's MANIFEST says all that the store's does, of these lanes too."""
    if known.of is None or known.of[0] != first_line(manifest):
        return False  # of another compaction: a repair could not know what its lines had said
    if known.damaged or known.end != known.identity.size_bytes:
        return False
    if not (tokens & manifest.merged.keys()) <= known.merged.keys():
        return False
    ours, theirs = (compacted_state(each, at_us=0, standing=frozenset(), there=()) for each in (known, manifest))
    return (ours.days, ours.ingested, ours.packed, ours.trash, ours.hidden, ours.purged, ours.next_version) == (
        theirs.days,
        theirs.ingested,
        theirs.packed,
        theirs.trash,
        theirs.hidden,
        theirs.purged,
        theirs.next_version,
    )


def first_line(manifest: Manifest) -> str:
    """The line that no other MANIFEST has, without its line break."""
    return manifest.header.rstrip(b"\n").decode()
