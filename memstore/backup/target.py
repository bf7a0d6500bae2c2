"""Where a restored store goes: built beside its place, and swapped in at the end; what stood there is kept."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from memstore.errors import LockedError, UsageError
from memstore.format.backup_names import point_name
from memstore.format.names import LANE_SUFFIX, StorePaths
from memstore.format.store_file import StoreFile, decode_store_file
from memstore.fs.atomic import make_durable_directories, read_file
from memstore.fs.lock import try_lock_file
from memstore.fs.storage import Storage
from memstore.fs.trees import remove_tree

_BUILDING = ".restoring-"
_KEPT = ".before-restore-"
_LOCK = "restore"


class Target:
    """The root that a store is restored to.

    Args:
        storage: where it lies.
        root: absolute.
        store_id: whose backup is restored.
        replace: whether a store of this id that is there may be swapped for the restored one.

    Raises:
        UsageError: something is there that may not be replaced.
    """

    def __init__(self, storage: Storage, root: str, *, store_id: str, replace: bool) -> None:
        self._storage = storage
        self._root = root
        self._paths = StorePaths(root)
        self.store = self._there(store_id, replace=replace)

    @property
    def root(self) -> str:
        """The root that a store is restored to."""
        return self._root

    def _there(self, store_id: str, *, replace: bool) -> StoreFile | None:
        """STORE.json of the store that is there; None where nothing is."""
        if self._storage.identify(self._root) is None:
            return None
        data = read_file(self._storage, self._paths.store_file)
        if data is None:
            if self._storage.list_directory(self._root):
                raise UsageError(f"{self._root} is not empty and holds no store; name a new directory")
            return None
        store = decode_store_file(data, self._paths.store_file)
        if store.id != store_id:
            raise UsageError(f"{self._root} holds another store ({store.id}); this is a backup of {store_id}")
        if not replace:
            raise UsageError(
                f"{self._root} holds a store; name a new directory, or ask for it to be replaced (it is kept beside it)"
            )
        return store

    @contextmanager
    def building(self) -> Iterator[str]:
        """A directory beside the root, removed again unless it was swapped in.

        What a killed restore of the same root left is removed first.
        """
        self._sweep()
        path = f"{self._root}{_BUILDING}{secrets.token_hex(8)}"
        make_durable_directories(self._storage, os.path.dirname(path))
        self._storage.make_directory(path)
        self._storage.make_directory(StorePaths(path).locks)
        lock = try_lock_file(self._storage, StorePaths(path).lock(_LOCK))
        try:
            yield path
        finally:
            if lock is not None:
                lock.close()
            remove_tree(self._storage, path, durably=False)

    def _sweep(self) -> None:
        parent, name = os.path.split(self._root)
        if self._storage.identify(parent) is None:
            return
        for entry in self._storage.list_directory(parent):
            if not entry.is_directory or not entry.name.startswith(name + _BUILDING):
                continue
            path = os.path.join(parent, entry.name)
            paths = StorePaths(path)
            if self._storage.identify(paths.locks) is not None:
                lock = try_lock_file(self._storage, paths.lock(_LOCK))
                if lock is None:
                    continue  # that restore goes on
                lock.close()
            remove_tree(self._storage, path, durably=False)

    def swap(self, built: str, *, at_us: int) -> str | None:
        """Put what was built in its place, durably; where the old store is kept, None where there was none.

        Raises:
            LockedError: a process still writes to the old store.
        """
        storage, parent = self._storage, os.path.dirname(self._root)
        kept: str | None = None
        with ExitStack() as held:
            if self.store is not None:
                self._hold_still(held)
                kept = f"{self._root}{_KEPT}{point_name(at_us)}"
                storage.rename(self._root, kept)
            elif storage.identify(self._root) is not None:
                storage.remove_directory(self._root)
            storage.rename(built, self._root)
            storage.sync_directory(parent)
        return kept

    def _hold_still(self, held: ExitStack) -> None:
        """See that nobody writes to the old store, and keep it so."""
        for name in ("lifecycle", "merge", "store"):
            lock = try_lock_file(self._storage, self._paths.lock(name))
            if lock is None:
                raise self._in_use()
            held.callback(lock.close)
        for entry in self._storage.list_directory(self._paths.lanes):
            if entry.name.endswith(LANE_SUFFIX):
                lane = self._storage.open_update(os.path.join(self._paths.lanes, entry.name))
                if not lane.try_lock():
                    lane.close()
                    raise self._in_use()
                held.callback(lane.close)

    def _in_use(self) -> LockedError:
        return LockedError(
            f"{self._root}: a process still writes to the store that is there; stop it first. Nothing was changed"
        )
