"""The end of a MANIFEST that does not verify: a merge that was cut off, or damage?

A merge that was cut off has lost nothing: the lanes it copied are unlinked only after its MANIFEST line has been
synced, so they still stand. Where they do not, the line had been whole and the records it cites are known to nothing
else: that is damage, to be reported and never cut away. Three things give it away: the lanes that can still be read in
the line, day files that are longer than what the MANIFEST commits and the waiting lanes hold together, and files that
have gone. A day file whose first lanes all stand has not: its name was never synced, and the merge will be repeated.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

from memstore.errors import CorruptionError
from memstore.format.names import MANIFEST, file_version, parse_day_file_name, parse_warm_file_name
from memstore.fs.storage import Storage
from memstore.manifest.index import SETTLED, BlockRef, Manifest

LINES_MISSING = "lines are missing at its end: files beside it hold more than it says, and no lane does"
ONLY_DAY_FILES = "it is missing or empty, and day files stand beside it"
_TOKEN = re.compile(rb'"([0-9a-f]{32})"')


@dataclass(frozen=True, slots=True)
class TornTail:
    """What stands behind the last whole line.

    Attributes:
        path: the MANIFEST.
        offset: where it begins.
        length: how long it is.
        lanes: tokens of lanes that can be read in it.
        surplus: by day file name, the committed length and the bytes behind it.
        missing: files that the whole lines say are there and that are not, each with the lanes that the merge copied
            which made it: a move took their place, and its line was what stands here, unless all those lanes stand.
    """

    path: str
    offset: int
    length: int
    lanes: frozenset[str]
    surplus: Mapping[str, tuple[int, int]]
    missing: Mapping[str, frozenset[str]] = field(default_factory=dict)

    def damage(self, *, lanes: AbstractSet[str], waiting_bytes: Mapping[str, int]) -> CorruptionError | None:
        """The damage that it is, or None where a merge that was cut off explains it.

        Args:
            lanes: tokens of the lanes there are.
            waiting_bytes: by UTC day, what they hold of the agent that is not merged.
        """
        unexplained = not self.lanes <= lanes
        for made_from in self.missing.values():
            unexplained |= not made_from or not made_from <= lanes
        for name, (_, behind) in self.surplus.items():
            unexplained |= behind > waiting_bytes.get(name.partition(".")[0], 0)
        if not unexplained:
            return None
        return CorruptionError(
            self.path,
            offset_bytes=self.offset,
            length_bytes=self.length,
            reason=self._reason(),
        )

    def _reason(self) -> str:
        if self.length:
            return "its last line does not verify, and the lanes it merged or the files it moved are gone"
        if self.offset:
            return LINES_MISSING
        return ONLY_DAY_FILES


def torn_tail(storage: Storage, directory: str, known: Manifest | None) -> TornTail | None:
    """What stands behind an agent's last whole MANIFEST line, or None where nothing does.

    Args:
        storage: where it lies.
        directory: the agent's.
        known: what its MANIFEST says; None where not even its first line verifies, or where it has none. Day files
            without a MANIFEST are a torn tail too: of one that was never written, or was lost.
    """
    path = os.path.join(directory, MANIFEST)
    end = 0 if known is None else known.end
    try:
        entries = storage.list_directory(directory)
        tail = _read_from(storage, path, end)
    except FileNotFoundError:  # there is none yet, or it was moved to another shard meanwhile
        return None
    surplus = _surplus(storage, directory, {entry.name for entry in entries}, known)
    if not tail and not (known is None and surplus):
        return None
    tokens = frozenset(token.decode() for token in _TOKEN.findall(tail))
    return TornTail(path, end, len(tail), tokens, surplus, _missing(known, {entry.name for entry in entries}))


def lost_lines(storage: Storage, directory: str, known: Manifest) -> TornTail | None:
    """What tells that a MANIFEST was cut at the end of a line; None where nothing does.

    A file system that brings back an older length leaves one that verifies from end to end. What its last merges wrote
    stands beside it, though, or what its last moves made, while the files they were made of have gone. Tombstones
    leave nothing to be told by.
    """
    try:
        there = {entry.name for entry in storage.list_directory(directory)}
    except FileNotFoundError:  # it was moved to another shard meanwhile
        return None
    surplus = _surplus(storage, directory, there, known)
    is_moved = any(parse_warm_file_name(name) is not None and is_newer(name, known) for name in there)
    missing = _missing(known, there) if is_moved else {}
    if not surplus and not missing:
        return None
    return TornTail(os.path.join(directory, MANIFEST), known.end, 0, frozenset(), surplus, missing)


def _surplus(
    storage: Storage, directory: str, there: AbstractSet[str], known: Manifest | None
) -> dict[str, tuple[int, int]]:
    """Day files that are longer than what is known of them: the committed length, and the bytes behind it."""
    surplus: dict[str, tuple[int, int]] = {}
    for name in there:
        committed = 0 if known is None else known.day_files.get(name, 0)
        if parse_day_file_name(name) is None or not (known is None or committed or is_newer(name, known)):
            continue
        identity = storage.identify(os.path.join(directory, name))
        if identity is not None and identity.size_bytes > committed:
            surplus[name] = (committed, identity.size_bytes - committed)
    return surplus


def is_newer(name: str, known: Manifest) -> bool:
    """Whether a file's version is one that the MANIFEST has not given out: the file is not one that was dropped."""
    version = file_version(name)
    return version is not None and version >= known.next_version


def _missing(known: Manifest | None, there: set[str]) -> dict[str, frozenset[str]]:
    """Files of the agent's directory that count and are not there, with the lanes from which they were made.

    No lanes for those whose names are durable for sure: of moves, and of merges whose lanes are known to have gone.
    """
    if known is None:
        return {}
    warm = {name for name in known.packed if parse_warm_file_name(name) is not None}
    missing = dict.fromkeys(warm - there, frozenset[str]())
    for name in known.day_files.keys() - there:
        first = next((ref.merge for ref in known.file_refs(name) if isinstance(ref, BlockRef)), SETTLED)
        missing[name] = frozenset() if first == SETTLED else frozenset(known.merges[first].lanes)
    return missing


def _read_from(storage: Storage, path: str, offset: int) -> bytes:
    """A MANIFEST from an offset on; nothing where it is missing."""
    identity = storage.identify(path)
    if identity is None:
        return b""
    file = storage.open_read(path)
    try:
        return file.read(offset, identity.size_bytes - offset)
    finally:
        file.close()
