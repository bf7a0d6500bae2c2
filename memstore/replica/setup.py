"""Give a store a second copy, take it away, and make the copy the store."""

from __future__ import annotations

import logging
import os

import msgspec

from memstore.clock import Clock
from memstore.engine.catalog import Catalog
from memstore.engine.engine import Engine
from memstore.engine.mirroring import Mirroring
from memstore.engine.second_copy import read_store_file, standing_of
from memstore.errors import CorruptionError, LockedError, NotFoundError, UsageError
from memstore.format.names import (
    TRASH_DIRECTORY,
    StorePaths,
    is_lane_name,
    replica_root,
    shard_name,
    tier_of,
)
from memstore.format.store_file import (
    CopyEntry,
    Placement,
    ReplicaEntry,
    ShardEntry,
    StoreFile,
    encode_store_file,
)
from memstore.fs.atomic import TEMPORARY_PREFIX, make_durable_directories, replace_file, try_unlink
from memstore.fs.lock import locked, try_lock_file
from memstore.fs.storage import Storage
from memstore.ids import WRITER_NUMBER_MAX
from memstore.manifest.index import Manifest
from memstore.manifest.reader import load_manifest
from memstore.metrics import Metrics
from memstore.replica.covered_lanes import is_mirrored

_log = logging.getLogger(__name__)
WRITER_NUMBERS_SKIPPED = 1 << 20
"""A copy that is made the store begins so far behind the last writer number it knows of: the store may have given out
more since, and an id is unique by its writer number."""


def add_replica(engine: Engine, volume: str) -> str:
    """Lay out a copy on a volume and write every lane to it from now on; its root.

    Args:
        engine: the store.
        volume: a directory on another volume.

    Raises:
        UsageError: the store has a copy; the directory lies in the store, or holds a copy already.
        NotFoundError: the directory is not there.
        UnsupportedError: it lies on a network file system.
    """
    engine.check_writable()
    storage, state = engine.storage, engine.catalog.reload()
    volume = os.path.abspath(volume)
    if state.store.replica is not None:
        raise UsageError(f"the store has a second copy at {state.store.replica.path}; take that out first")
    if storage.identify(volume) is None:
        raise NotFoundError(f"volume {volume} is not there; mount it first")
    if f"{volume}/".startswith(f"{engine.paths.root}/"):
        raise UsageError(f"{volume} lies in the store itself; name a directory on another volume")
    engine.check_file_system(volume)
    paths = StorePaths(replica_root(volume, state.store.id))
    if storage.identify(paths.store_file) is not None:
        raise UsageError(f"{paths.root} holds a copy of this store already; move it away or remove it first")
    ours, theirs = storage.identify(engine.paths.root), storage.identify(volume)
    if ours is not None and theirs is not None and ours.device == theirs.device:
        _log.warning("%s lies on the store's own file system: it helps against damage, not against its loss", volume)
    engine.catalog.raise_version()
    _lay_out(storage, paths, engine.catalog.state.store, of=engine.paths.root)
    at_us = engine.clock.now_us()

    def change(store: StoreFile) -> StoreFile:
        if store.replica is not None:
            return store
        return msgspec.structs.replace(store, replica=ReplicaEntry(path=paths.root, state="joining", since=at_us))

    found = engine.catalog.update(change).store.replica
    if found is None or found.path != paths.root:
        raise UsageError("another process has given the store a second copy meanwhile")
    return paths.root


def _lay_out(storage: Storage, paths: StorePaths, store: StoreFile, *, of: str) -> None:
    """An empty copy. Its agents are placed by a ring of its own: how the store places them is no matter to it."""
    shards = [ShardEntry(index=index) for index in range(len(store.shards))]
    directories = [
        paths.root,
        paths.locks,
        paths.lanes,
        paths.archive,
        *(os.path.join(paths.shards, shard_name(s.index)) for s in shards),
    ]
    for directory in directories:
        make_durable_directories(storage, directory)
    content = StoreFile(
        id=store.id,
        created=store.created,
        epoch=1,
        next_writer=store.next_writer,
        shards=shards,
        placement=Placement(shards=[each.index for each in shards]),
        copy_of=CopyEntry(of=of),
    )
    replace_file(storage, paths.store_file, encode_store_file(content))


def remove_replica(engine: Engine) -> str:
    """Write to the copy no more; its root. Its files stay, and count for nothing.

    Raises:
        UsageError: the store has none.
    """
    engine.check_writable()
    entry = engine.catalog.reload().store.replica
    if entry is None:
        raise UsageError("the store has no second copy")
    engine.catalog.update(lambda store: msgspec.structs.replace(store, replica=None))
    return entry.path


def force_alone(storage: Storage, root: str, *, clock: Clock) -> None:
    """Let a copy that is alone be written: by its root, be it the store's or the second one. Idempotent.

    Raises:
        NotFoundError: no store is there.
        LockedError: processes of the store still write to the copy.
    """
    paths = StorePaths(root)
    store = read_store_file(storage, paths)
    if store is None:
        raise NotFoundError(f"{root} holds no store")
    if store.copy_of is not None:
        promote(storage, root)
        return
    if store.replica is None:
        return
    standing = standing_of(storage, store.replica, store.id, root=root)
    catalog = Catalog(storage, paths)
    if standing == "away":
        Mirroring(storage, paths, catalog=catalog, clock=clock, metrics=Metrics()).note_behind(
            "the store was forced to go on alone"
        )
    elif standing != "copy":
        _log.warning("%s goes on without a second copy: %s is none any more", root, store.replica.path)
        catalog.update(lambda known: msgspec.structs.replace(known, replica=None))


def promote(storage: Storage, root: str) -> None:
    """Make a second copy the store. The store that it was a copy of is refused for writing from then on.

    Raises:
        NotFoundError: no store is there.
        UsageError: it is no second copy.
        LockedError: processes of the store still write to it.
    """
    paths = StorePaths(root)
    if read_store_file(storage, paths) is None:
        raise NotFoundError(f"{root} holds no store")
    lock = try_lock_file(storage, paths.lock("replica"))
    if lock is None:
        raise LockedError(f"{root}: a process of the store is bringing it up to date; stop every process of it first")
    try:
        of = _promote_locked(storage, paths)
    finally:
        lock.close()
    _log.warning("%s is the store from now on; %s must not be written any more", root, of)


def _promote_locked(storage: Storage, paths: StorePaths) -> str:
    """`promote` with the lock held under which a pass writes; the root of the store that it was a copy of."""
    root = paths.root
    with locked(storage, paths.lock("store")):
        store = read_store_file(storage, paths)
        if store is None or store.copy_of is None:
            raise UsageError(f"{root} is no second copy: it is the store already")
        for entry in storage.list_directory(paths.lanes):
            if is_lane_name(entry.name) and is_mirrored(storage, os.path.join(paths.lanes, entry.name)):
                raise LockedError(
                    f"{root}: a process of the store still writes to {entry.name}; stop every process of "
                    f"{store.copy_of.of} first"
                )
        writers = [int(e.name[:8], 16) for e in storage.list_directory(paths.lanes) if is_lane_name(e.name)]
        next_writer = max([store.next_writer, *(number + 1 for number in writers)]) + WRITER_NUMBERS_SKIPPED
        if not store.copy_of.complete:
            _log.warning("%s: what was there before it became a copy was never copied whole: it lacks records", root)
        _tidy(storage, Catalog(storage, paths))
        changed = msgspec.structs.replace(store, copy_of=None, next_writer=min(next_writer, WRITER_NUMBER_MAX))
        replace_file(storage, paths.store_file, encode_store_file(changed))
    return store.copy_of.of


def _tidy(storage: Storage, catalog: Catalog) -> None:
    """Remove what a pass that was stopped has left: bytes and files that no MANIFEST counts."""
    for shard in catalog.state.shard_paths.values():
        for entry in storage.list_directory(shard):
            if not entry.is_directory or entry.name.startswith("."):
                continue
            home = os.path.join(shard, entry.name)
            try:
                manifest = load_manifest(storage, home)
            except CorruptionError:  # reads and `memstore check` tell of it
                continue
            archive = os.path.join(catalog.state.archive, entry.name)
            for directory in (home, archive):
                for place in (directory, os.path.join(directory, TRASH_DIRECTORY)):
                    _tidy_directory(storage, place, manifest)


def _tidy_directory(storage: Storage, directory: str, manifest: Manifest | None) -> None:
    try:
        names = [entry.name for entry in storage.list_directory(directory)]
    except FileNotFoundError:
        return
    in_trash = os.path.basename(directory) == TRASH_DIRECTORY
    live = set() if manifest is None else {*manifest.day_files, *manifest.packed}
    trash = set() if manifest is None else set(manifest.trash)
    for name in names:
        path = os.path.join(directory, name)
        if name.startswith(TEMPORARY_PREFIX) or (
            tier_of(name) is not None and name not in (trash if in_trash else live)
        ):
            try_unlink(storage, path)
        elif manifest is not None and name in manifest.day_files:
            _cut(storage, path, manifest.day_files[name])


def _cut(storage: Storage, path: str, committed: int) -> None:
    file = storage.open_update(path)
    try:
        if file.identity().size_bytes > committed:
            file.truncate(committed)
            file.sync_data()
    finally:
        file.close()
