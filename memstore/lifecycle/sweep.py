"""Remove what nobody will ask for again, store-wide: temporary files, and what moves of agents left behind.

Everything is looked at under the lock that its makers hold, so that what is found was left by somebody who died.
"""

from __future__ import annotations

import os

from memstore.engine.engine import Engine
from memstore.format.names import INCOMING_DIRECTORY, MANIFEST, SHARD_LOCK, TRASH_DIRECTORY
from memstore.fs.atomic import TEMPORARY_PREFIX, try_unlink
from memstore.fs.lock import locked, try_lock_file
from memstore.fs.trees import remove_tree


def sweep(engine: Engine) -> int:
    """Remove leftovers outside of agents' directories; how many files and directories that were.

    Raises:
        LockedError: somebody else held a lock all the time; the next run does it.
        StorageError: the disk refused.
    """
    storage, paths = engine.storage, engine.paths
    removed = 0
    with locked(storage, paths.lock("store")):
        removed += _remove_temporary(engine, paths.root)
    merging = try_lock_file(storage, paths.lock("merge"))
    if merging is not None:  # otherwise the next run does it
        try:
            removed += _remove_temporary_lanes(engine)
        finally:
            merging.close()
    rebalance = try_lock_file(storage, paths.lock("rebalance"))
    if rebalance is None:
        return removed  # agents are being moved: what looks left over may be in the making
    try:
        state = engine.catalog.reload()
        if state.store.previous is None:  # otherwise a move was interrupted, and goes on from there
            for shard in state.shard_paths.values():
                removed += _clear_shard(engine, shard)
    finally:
        rebalance.close()
    return removed


def _clear_shard(engine: Engine, shard: str) -> int:
    """Copies that were never completed, and originals whose copies count."""
    storage = engine.storage
    found = [
        os.path.join(shard, directory, entry.name)
        for directory in (INCOMING_DIRECTORY, TRASH_DIRECTORY)
        if storage.identify(os.path.join(shard, directory)) is not None
        for entry in storage.list_directory(os.path.join(shard, directory))
    ]
    if found:
        with locked(storage, os.path.join(shard, SHARD_LOCK)):
            for path in found:
                remove_tree(storage, path, last=MANIFEST)
    return len(found)


def _remove_temporary(engine: Engine, directory: str) -> int:
    storage = engine.storage
    names = [e.name for e in storage.list_directory(directory) if e.name.startswith(TEMPORARY_PREFIX)]
    return sum(try_unlink(storage, os.path.join(directory, name)) for name in names)


def _remove_temporary_lanes(engine: Engine) -> int:
    """Lanes whose writer died before they had a name, and SEAL marks; the merge lock is held.

    A living writer holds the lock of its lane from before the first byte; an empty one may be about to be locked.
    """
    storage, lanes = engine.storage, engine.paths.lanes
    removed = 0
    for entry in storage.list_directory(lanes):
        if not entry.name.startswith(TEMPORARY_PREFIX):
            continue
        path = os.path.join(lanes, entry.name)
        try:
            file = storage.open_update(path)
        except FileNotFoundError:
            continue
        try:
            identity = file.identity()
            if identity.size_bytes and file.try_lock() and storage.identify(path) == identity:
                removed += try_unlink(storage, path)
        finally:
            file.close()
    return removed
