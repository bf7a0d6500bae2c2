"""Move agents between shards: add a shard, pin an agent, resume what was interrupted (DESIGN 7).

The new placement is written to STORE.json first, beside the previous one; then every agent that is not where it
belongs is moved, each under the merge lock and both shards' locks; then the previous placement is dropped. Whatever
the instruction at which this stops, readers and merges find every agent by looking at its new place and its old one,
and the next call goes on.
"""

from __future__ import annotations

import logging
import os
import secrets
from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from memstore.engine.catalog import Catalog, check_shard_is_there, shard_path_on
from memstore.engine.home import move_to_trash
from memstore.errors import NotFoundError, StorageError
from memstore.format.names import (
    INCOMING_DIRECTORY,
    MANIFEST,
    SHARD_LOCK,
    StorePaths,
    parse_day_file_name,
    shard_name,
)
from memstore.format.store_file import Placement, ShardEntry, StoreFile
from memstore.fs.atomic import TEMPORARY_PREFIX, make_directories, make_durable_directories
from memstore.fs.handles import ReadHandles
from memstore.fs.lock import HeldLocks, locked
from memstore.fs.parts import copy_content
from memstore.fs.storage import Storage
from memstore.ids import directory_agent
from memstore.manifest.cache import ManifestCache
from memstore.manifest.reader import load_manifest

_log = logging.getLogger(__name__)
_LOCK_WAIT_S = 120.0
Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class MoveReport:
    """What a change of placement did: agents there are, and how many of them were moved."""

    agents: int
    moved: int


class Rebalancer:
    """Changes placement. One at a time per store: all of it runs under ``locks/rebalance``."""

    def __init__(
        self, storage: Storage, paths: StorePaths, *, catalog: Catalog, manifests: ManifestCache, handles: ReadHandles
    ) -> None:
        self._storage = storage
        self._paths = paths
        self._catalog = catalog
        self._manifests = manifests
        self._handles = handles

    def add_shard(self, volume: str | None, progress: Progress | None = None) -> tuple[str, MoveReport]:
        """Add a shard, on a volume of its own or below the root, and move about 1/n of the agents to it.

        Where an earlier call like this was interrupted, it is finished and no other shard is added.

        Returns:
            The new shard's name, and what was moved.

        Raises:
            NotFoundError: the volume is not there.
            LockedError: another change of placement or a long merge is under way.
        """
        if volume is not None and self._storage.identify(volume) is None:
            raise NotFoundError(f"volume {volume} is not there; mount it first")
        with locked(self._storage, self._paths.lock("rebalance"), timeout_s=_LOCK_WAIT_S):
            begun = self._catalog.reload().store
            report = self._finish(progress)
            if begun.previous is not None and begun.previous.shards != begun.placement.shards:
                last = begun.shards[-1]
                if last.path == (None if volume is None else shard_path_on(volume, begun.id, last.index)):
                    return shard_name(last.index), report  # this very call was interrupted
            state = self._catalog.reload()
            index = max(entry.index for entry in state.store.shards) + 1
            path = None if volume is None else shard_path_on(volume, state.store.id, index)
            make_durable_directories(self._storage, path or os.path.join(self._paths.shards, shard_name(index)))

            def add(store: StoreFile) -> StoreFile:
                placement = msgspec.structs.replace(store.placement, shards=[*store.placement.shards, index])
                shards = [*store.shards, ShardEntry(index=index, path=path)]
                return msgspec.structs.replace(_replaced(store, placement), shards=shards)

            self._change(add)
            return shard_name(index), self._finish(progress)

    def pin(self, agent: str, shard: str | None) -> MoveReport:
        """Keep an agent on a named shard, or, with None, let the ring place it again.

        Raises:
            NotFoundError: no shard has that name.
        """
        with locked(self._storage, self._paths.lock("rebalance"), timeout_s=_LOCK_WAIT_S):
            self._finish(progress=None)
            names = {shard_name(entry.index): entry.index for entry in self._catalog.reload().store.shards}
            if shard is not None and shard not in names:
                raise NotFoundError(f"no shard is named {shard!r}; there are {', '.join(sorted(names))}")

            def pin(store: StoreFile) -> StoreFile:
                pins = {a: s for a, s in store.placement.pins.items() if a != agent}
                if shard is not None:
                    pins[agent] = names[shard]
                placement = msgspec.structs.replace(store.placement, pins=pins)
                return store if placement == store.placement else _replaced(store, placement)

            self._change(pin)
            return self._finish(progress=None)

    def _change(self, change: Callable[[StoreFile], StoreFile]) -> None:
        # Under the merge lock, so that a merge sees one placement from its start to its end.
        with locked(self._storage, self._paths.lock("merge"), timeout_s=_LOCK_WAIT_S):
            self._catalog.update(change)

    def _finish(self, progress: Progress | None) -> MoveReport:
        state = self._catalog.reload()
        if state.store.previous is None:
            return MoveReport(0, 0)
        for path in state.shard_paths.values():
            check_shard_is_there(self._storage, path)
        directories = [
            (path, entry.name)
            for path in state.shard_paths.values()
            for entry in self._storage.list_directory(path)
            if entry.is_directory and not entry.name.startswith(".")
        ]
        moved = 0
        for done, (shard, name) in enumerate(directories):
            moved += self._move_home(shard, name)
            if progress is not None:
                progress(done + 1, len(directories))
        # Whoever moved one may have been stopped, or refused, before the sync of its name: it is to be found at its new
        # place only from here on.
        for path in state.shard_paths.values():
            self._storage.sync_directory(path)
        self._change(lambda store: msgspec.structs.replace(store, previous=None))
        return MoveReport(len(directories), moved)

    def _move_home(self, shard: str, name: str) -> bool:
        """Move one agent's directory to where it belongs, if it lies elsewhere."""
        source = os.path.join(shard, name)
        agent = self._agent_of(source)
        if agent is None:
            return False
        home = self._catalog.state.homes(agent)[0]
        target_shard = os.path.dirname(home)
        if target_shard == shard:
            return False
        with HeldLocks(self._storage) as locks:
            locks.take(self._paths.lock("merge"), timeout_s=_LOCK_WAIT_S)
            for path in sorted({shard, target_shard}):
                locks.take(os.path.join(path, SHARD_LOCK))
            if self._storage.identify(source) is None:
                return False
            if self._storage.identify(os.path.join(home, MANIFEST)) is not None:
                move_to_trash(self._storage, source)  # the copy was complete when its mover was stopped
            else:
                self._move(source, home)
            self._handles.drop_under(source)
        return True

    def _agent_of(self, source: str) -> str | None:
        """Whose directory it is; None where nothing was ever merged into it.

        Raises:
            StorageError: nobody can tell. It must not stay behind, for readers will not look for it here.
        """
        manifest = load_manifest(self._storage, source)
        if manifest is not None:
            return manifest.agent
        if not any(parse_day_file_name(entry.name) for entry in self._storage.list_directory(source)):
            return None  # a merge made it and was stopped
        agent = directory_agent(os.path.basename(source))
        if agent is None:
            raise StorageError(
                f"{os.path.join(source, MANIFEST)}: its first line does not verify, so nobody can tell whose directory "
                "is to be moved. Drain the store and try again; if that does not help, restore it from a backup"
            )
        return agent

    def _move(self, source: str, home: str) -> None:
        source_parent, target_parent = os.path.dirname(source), os.path.dirname(home)
        if self._storage.identify(home) is not None:
            self._storage.remove_directory(home)  # empty: a merge made it and was stopped before its MANIFEST
        if _device(self._storage, source_parent) == _device(self._storage, target_parent):
            self._storage.rename(source, home)
            self._storage.sync_directory(target_parent)
            self._storage.sync_directory(source_parent)
            return
        incoming = os.path.join(target_parent, INCOMING_DIRECTORY, f"{os.path.basename(home)}.{secrets.token_hex(8)}")
        self._copy_tree(source, incoming)
        self._storage.rename(incoming, home)
        self._storage.sync_directory(target_parent)
        move_to_trash(self._storage, source)

    def _copy_tree(self, source: str, target: str) -> None:
        """Everything of an agent's directory but what is temporary: that is in the making, and made again elsewhere."""
        make_directories(self._storage, target)
        for entry in self._storage.list_directory(source):
            if entry.is_directory:
                self._copy_tree(os.path.join(source, entry.name), os.path.join(target, entry.name))
            elif not entry.name.startswith(TEMPORARY_PREFIX):
                self._copy(os.path.join(source, entry.name), os.path.join(target, entry.name))
        self._storage.sync_directory(target)

    def _copy(self, source: str, target: str) -> None:
        reader = self._storage.open_read(source)
        writer = self._storage.create(target)
        try:
            copy_content(reader, writer)
            writer.sync_data()
        finally:
            writer.close()
            reader.close()


def _replaced(store: StoreFile, placement: Placement) -> StoreFile:
    return msgspec.structs.replace(store, epoch=store.epoch + 1, placement=placement, previous=store.placement)


def _device(storage: Storage, path: str) -> int:
    identity = storage.identify(path)
    assert identity is not None, path
    return identity.device
