"""Which directory an agent lives in: STORE.json, the ring, and the shards on their volumes.

STORE.json is read when the store is opened and again whenever somebody finds an agent missing; it is changed only
under ``locks/store``, by replacing it whole. While agents are being moved it holds the previous placement too, and an
agent is looked for at its new place, its old one, and the new one once more (DESIGN 7).
"""

from __future__ import annotations

import os
import secrets
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache

import msgspec

from memstore.clock import Clock
from memstore.errors import NotFoundError, StorageError
from memstore.format.names import StorePaths, shard_name
from memstore.format.store_file import Placement, ShardEntry, StoreFile, decode_store_file, encode_store_file
from memstore.format.version import FORMAT_VERSION
from memstore.fs.atomic import make_durable_directories, replace_file
from memstore.fs.lock import locked
from memstore.fs.storage import FileIdentity, Storage, StorageFile
from memstore.ids import WRITER_NUMBER_MAX, agent_directory
from memstore.ring import Ring, build_ring


@lru_cache(maxsize=16)
def _ring_of(shards: tuple[int, ...]) -> Ring:
    return build_ring(shards)


@dataclass(frozen=True, slots=True)
class CatalogState:
    """One reading of STORE.json.

    Attributes:
        store: what it says.
        identity: of the file it was read from.
        file: that file, held open: as long as it is, no later version can get its inode and be taken for it.
        shard_paths: directory of each shard by index.
        archive: directory under which each agent has one for its cold files.
    """

    store: StoreFile
    identity: FileIdentity
    file: StorageFile
    shard_paths: dict[int, str]
    archive: str

    def archive_of(self, agent: str) -> str:
        """Directory of the agent's cold files; it need not exist."""
        return os.path.join(self.archive, agent_directory(agent))

    def shard_of(self, agent: str) -> int:
        """Index of the shard where the agent belongs."""
        return _place(self.store.placement, agent)

    def homes(self, agent: str) -> list[str]:
        """Directories where the agent may be: its new place first, then its old one while agents are being moved."""
        return agent_homes(self.store, self.shard_paths, agent)


def agent_homes(store: StoreFile, shard_paths: Mapping[int, str], agent: str) -> list[str]:
    """Directories where an agent may be: its new place first, then its old one while agents are being moved."""
    places = [_place(store.placement, agent)]
    if store.previous is not None:
        old = _place(store.previous, agent)
        if old != places[0]:
            places.append(old)
    return [f"{shard_paths[index]}/{agent_directory(agent)}" for index in places]


def check_shard_is_there(storage: Storage, path: str) -> None:
    """See that a shard's directory is there: an agent must not seem empty because its volume is not mounted.

    Raises:
        StorageError: it is not.
    """
    if storage.identify(path) is None:
        raise StorageError(f"{path}: the shard's directory is missing; mount its volume, or restore it from a backup")


def _place(placement: Placement, agent: str) -> int:
    pinned = placement.pins.get(agent)
    return _ring_of(tuple(placement.shards)).shard_of(agent) if pinned is None else pinned


class Catalog:
    """The store's STORE.json. Thread-safe."""

    def __init__(self, storage: Storage, paths: StorePaths) -> None:
        self._storage = storage
        self._paths = paths
        self._lock = threading.Lock()
        self._state = self._read()

    @property
    def state(self) -> CatalogState:
        """The last reading."""
        return self._state

    def reload(self) -> CatalogState:
        """Read STORE.json again if it has been replaced."""
        if self._storage.identify(self._paths.store_file) != self._state.identity:
            with self._lock:
                self._state = self._read()
        return self._state

    def update(self, change: Callable[[StoreFile], StoreFile]) -> CatalogState:
        """Replace STORE.json durably with what ``change`` makes of its present content, under ``locks/store``."""
        with locked(self._storage, self._paths.lock("store")), self._lock:
            current = self._read()
            # Whoever changes it may from now on write what older versions cannot read.
            changed = msgspec.structs.replace(change(current.store), version=FORMAT_VERSION)
            if changed != current.store:
                replace_file(self._storage, self._paths.store_file, encode_store_file(changed))
                current = self._read()
            self._state = current
        return current

    def raise_version(self) -> None:
        """See that no older memstore opens the store, before something is written that it could not read."""
        if self._state.store.version < FORMAT_VERSION:
            self.update(lambda store: store)

    def take_writer_number(self) -> int:
        """A writer number that nobody has had and nobody will get again.

        Raises:
            StorageError: all 2^31 are used up.
        """
        taken: list[int] = []

        def take(store: StoreFile) -> StoreFile:
            taken.append(store.next_writer)
            if store.next_writer > WRITER_NUMBER_MAX:
                raise StorageError(f"{self._paths.store_file}: all {WRITER_NUMBER_MAX} writer numbers are used up")
            return msgspec.structs.replace(store, next_writer=store.next_writer + 1)

        self.update(take)
        return taken[0]

    def reset_lock(self) -> None:
        """A new lock for a forked child."""
        self._lock = threading.Lock()

    def close(self) -> None:
        """Let go of the file: a volume can be unmounted once all of its stores are closed."""
        self._state.file.close()

    def _read(self) -> CatalogState:
        path = self._paths.store_file
        # Replaced by rename: what was opened is one whole version.
        file = self._storage.open_read(path)
        try:
            identity = file.identity()
            store = decode_store_file(file.read(0, identity.size_bytes), path)
        except BaseException:
            file.close()
            raise
        shard_paths = {
            shard.index: shard.path or os.path.join(self._paths.shards, shard_name(shard.index))
            for shard in store.shards
        }
        return CatalogState(store, identity, file, shard_paths, store.archive or self._paths.archive)


def archive_path_on(volume: str, store_id: str) -> str:
    """Where cold files lie on another volume."""
    return os.path.join(os.path.abspath(volume), f"memstore-{store_id}", "archive")


def shard_path_on(volume: str, store_id: str, index: int) -> str:
    """Where a shard lies on another volume."""
    return os.path.join(os.path.abspath(volume), f"memstore-{store_id}", shard_name(index))


def create_store(
    storage: Storage, paths: StorePaths, *, clock: Clock, shards: int, volumes: list[str], ballast_bytes: int
) -> None:
    """Lay out a new store; STORE.json comes last, so that a store without it was never begun.

    Safe against a second creator at the same time.

    Raises:
        NotFoundError: a volume is not there.
    """
    for volume in volumes:
        if storage.identify(volume) is None:
            raise NotFoundError(f"volume {volume} is not there; mount it first")
    for directory in (paths.root, paths.locks, paths.lanes, paths.shards):
        make_durable_directories(storage, directory)
    with locked(storage, paths.lock("store")):
        if storage.identify(paths.store_file) is not None:
            return
        store_id = secrets.token_hex(16)
        entries = [
            ShardEntry(index=i, path=shard_path_on(volumes[i % len(volumes)], store_id, i) if volumes else None)
            for i in range(shards)
        ]
        for entry in entries:
            make_durable_directories(storage, entry.path or os.path.join(paths.shards, shard_name(entry.index)))
        if ballast_bytes and storage.free_bytes(paths.root) > 4 * ballast_bytes:
            storage.allocate(paths.ballast, ballast_bytes)
        content = StoreFile(
            id=store_id,
            created=clock.now_us(),
            epoch=1,
            next_writer=1,
            shards=entries,
            placement=Placement(shards=[entry.index for entry in entries]),
        )
        replace_file(storage, paths.store_file, encode_store_file(content))
