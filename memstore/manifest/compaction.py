"""Write a MANIFEST anew: one state line for all that its lines had said. The caller holds the agent's shard lock.

The new version is written aside, synced, and renamed over the name, so that a reader finds the old or the new one
whole. A compaction must not forget a lane that a reader may have listed before: lanes that still stand forbid it where
a merge may have to be repeated from them, and tokens stay for an hour after their merge.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Collection
from collections.abc import Set as AbstractSet

from memstore.format.manifest import Block, Chunk, State, encode_manifest_header, encode_state
from memstore.format.names import MANIFEST
from memstore.fs.atomic import replace_file
from memstore.fs.storage import Storage
from memstore.manifest.index import BlockRef, Manifest

TOKEN_KEPT_US = 3_600_000_000
"""An hour: longer than any reader takes from listing the lanes to reading the MANIFEST."""


def compact_manifest(
    storage: Storage,
    manifest: Manifest,
    *,
    at_us: int,
    standing: AbstractSet[str],
    there: Collection[str],
    forget_ids: AbstractSet[str] = frozenset(),
) -> None:
    """Replace an agent's MANIFEST by one that says the same in fewer lines.

    Args:
        storage: where it lies.
        manifest: what it says now, loaded under the lock and whole.
        at_us: now.
        standing: tokens of the lanes that are kept for repair; none of those to be merged may cite this agent.
        there: names of files that are dropped and still on disk.
        forget_ids: ids of tombstones that must not be written again.

    Raises:
        StorageFullError: no space; the old one stands.
    """
    error = manifest.damage()
    if error is not None:
        raise error
    # Not before what it names, should the clock have been set back: by this what comes behind it is told from that.
    begun_us = max([at_us, *manifest.ingested.values()])
    header = encode_manifest_header(agent=manifest.agent, at=begun_us, compaction_id=secrets.token_hex(8))
    state = compacted_state(manifest, at_us=at_us, standing=standing, there=there, forget_ids=forget_ids)
    replace_file(storage, os.path.join(manifest.directory, MANIFEST), header + encode_state(state))


def compacted_state(
    manifest: Manifest,
    *,
    at_us: int,
    standing: AbstractSet[str],
    there: Collection[str],
    forget_ids: AbstractSet[str] = frozenset(),
) -> State:
    """What the state line says; see `compact_manifest`."""
    merge_at = {token: merge.at for merge in manifest.merges for token in merge.lanes}
    lanes = [
        token
        for token in manifest.merged
        if token in standing or merge_at.get(token, manifest.begun) > at_us - TOKEN_KEPT_US
    ]
    return State(
        at=at_us,
        next_version=manifest.next_version,
        lanes=sorted(lanes),
        days=[_chunk(manifest, name) for name in sorted(manifest.day_files)],
        ingested=dict(manifest.ingested),
        packed=list(manifest.packed.values()),
        trash=list(manifest.trash.values()),
        hidden=sorted(manifest.hidden.ids - forget_ids),
        purged=sorted(manifest.purged - forget_ids),
        dropped={name: at for name, at in manifest.dropped.items() if name in there},
    )


def _chunk(manifest: Manifest, name: str) -> Chunk:
    refs = [ref for ref in manifest.file_refs(name) if isinstance(ref, BlockRef)]
    refs.sort(key=lambda ref: ref.offset)
    assert refs, name
    assert refs[0].offset == 0, name
    return Chunk(name, 0, [Block(ref.length, ref.records, ref.t_min, ref.t_max, ref.xxh3) for ref in refs])
