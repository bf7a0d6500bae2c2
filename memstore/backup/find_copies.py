"""Which copies there are to take good bytes from: the one that is named, the second copy, the backups.

The second copy is named by STORE.json, or, where that is lost, found on the volume that the settings name. Backups are
named by the consumers that they are. All of it can be read without opening the store, which may be too damaged for it.
Of the backups the newest point is asked first.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

import orjson

from memstore.backup.repository import Repository, open_repository
from memstore.engine.consumers import Consumers
from memstore.engine.second_copy import is_copy_of, read_store_file, standing_of
from memstore.errors import CorruptionError, MemstoreError, NotFoundError, StorageError, UsageError
from memstore.format.backup_names import CONSUMER_PREFIX, RepositoryPaths
from memstore.format.names import StorePaths, is_lane_name, parse_replica_name
from memstore.format.store_file import StoreFile
from memstore.fs.atomic import read_file
from memstore.fs.storage import Storage
from memstore.ops.repair.good_copies import OrderedCopies, TreeCopies
from memstore.replica.replicator import why_not
from memstore.wal.seal import read_header

_REPLICA_PATH = re.compile(rb'"replica":\{"path":("(?:[^"\\]|\\.)+")')


def find_copies(
    storage: Storage, paths: StorePaths, *, named: str | None, known: bool, replica_volume: str | None = None
) -> OrderedCopies:
    """The copies of a store.

    Args:
        storage: where they lie.
        paths: the store's.
        named: a directory that a person names: a copy of the store's directory, a second copy, a backup, or a
            directory of backups. It is asked first.
        known: ask those that the store knows of, too.
        replica_volume: the volume on which the settings want a second copy, for a store whose STORE.json is lost.

    Raises:
        NotFoundError: what is named is not there.
        UsageError: it is that of another store.
    """
    search = _Search(storage, paths)
    if named is not None:
        search.add_named(os.path.abspath(named))
    if known:
        search.add_second_copy(replica_volume)
        search.add_backups()
    return OrderedCopies(search.found, missing=search.missing, second_copy=search.second_copy)


@dataclass(slots=True)
class _Search:
    storage: Storage
    paths: StorePaths
    found: list[TreeCopies] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    second_copy: str | None = None

    # -- whose they are

    def _store(self) -> StoreFile | None:
        try:
            return read_store_file(self.storage, self.paths)
        except CorruptionError:
            return None

    def _is_ours(self, store_id: str) -> bool:
        """Whether an id is the store's: STORE.json has it, or the lanes; where both are lost, any may be."""
        store = self._store()
        ids = set(self._ids_of_lanes()) if store is None else {store.id}
        return not ids or store_id in ids

    def _ids_of_lanes(self) -> Iterator[str]:
        try:
            entries = self.storage.list_directory(self.paths.lanes)
        except (FileNotFoundError, StorageError):
            return
        for name in (entry.name for entry in entries if is_lane_name(entry.name)):
            try:
                file = self.storage.open_read(os.path.join(self.paths.lanes, name))
            except (FileNotFoundError, StorageError):
                continue
            try:
                yield read_header(file)[0].store
            except StorageError:
                continue
            finally:
                file.close()

    def _add(self, tree: TreeCopies) -> None:
        if os.path.realpath(tree.root) not in {os.path.realpath(each.root) for each in self.found}:
            self.found.append(tree)

    # -- what is named

    def add_named(self, root: str) -> None:
        """A directory that a person names."""
        if self.storage.identify(root) is None:
            raise NotFoundError(
                f"{root} is not there; --from takes the directory of a copy of this store, or of backups"
            )
        if self.storage.exists(RepositoryPaths(root).repository_file):
            repository = open_repository(self.storage, root)
            self._check_ours(root, repository.store_id)
            self._add_points([(name, repository) for name in repository.points()])
            return
        try:
            there = read_store_file(self.storage, StorePaths(root))
        except CorruptionError:
            there = None
        if there is not None:
            self._check_ours(root, there.id)
        self._add(TreeCopies(self.storage, root, name=root))

    def _check_ours(self, root: str, store_id: str) -> None:
        if not self._is_ours(store_id):
            raise UsageError(f"{root} is of another store ({store_id}); nothing can be taken from it")

    # -- what the store knows of

    def add_second_copy(self, replica_volume: str | None) -> None:
        """The second copy, if it is there and still a copy."""
        store = self._store()
        if store is None:
            root = self._in_what_is_left() or (None if replica_volume is None else self._on_volume(replica_volume))
        elif store.replica is None:
            return
        else:
            root = store.replica.path
            standing = standing_of(self.storage, store.replica, store.id, root=self.paths.root)
            if standing != "copy":
                self.missing.append(why_not(store.replica, standing))
                return
        if root is not None:
            self.second_copy = root
            self._add(TreeCopies(self.storage, root, name=f"the second copy at {root}"))

    def _in_what_is_left(self) -> str | None:
        """Root of the second copy as a STORE.json that does not verify names it, if one of this root stands there."""
        match = _REPLICA_PATH.search(read_file(self.storage, self.paths.store_file) or b"")
        try:
            root = "" if match is None else str(orjson.loads(match[1]))
        except ValueError:
            return None
        return root if root and self._is_copy(root) else None

    def _on_volume(self, volume: str) -> str | None:
        """Root of the second copy of this root on a volume."""
        try:
            entries = self.storage.list_directory(volume)
        except (FileNotFoundError, StorageError):
            return None
        for name in (entry.name for entry in entries if parse_replica_name(entry.name) is not None):
            if self._is_copy(os.path.join(volume, name)):
                return os.path.join(volume, name)
        return None

    def _is_copy(self, root: str) -> bool:
        try:
            there = read_store_file(self.storage, StorePaths(root))
        except CorruptionError:
            return False
        return there is not None and is_copy_of(there, self.paths.root) and self._is_ours(there.id)

    def add_backups(self) -> None:
        """Every point of every backup that the store is a source of, the newest first."""
        consumers = Consumers(self.storage, self.paths, lag_bytes_max=0)
        points: list[tuple[str, Repository]] = []
        for name in consumers.names():
            if not name.startswith(CONSUMER_PREFIX):
                continue
            try:
                state = consumers.read(name)
                if state is None:
                    continue
                state.file.close()
                destination = state.content.state.get("destination")
                if destination is None:  # registered, and no backup has come to its end yet
                    continue
                repository = open_repository(self.storage, destination)
                self._check_ours(destination, repository.store_id)
                points += [(point, repository) for point in repository.points()]
            except CorruptionError as error:
                self.missing.append(f"{error.path} does not verify: name the directory of these backups with --from")
            except MemstoreError as error:
                self.missing.append(f"backups: {error}")
        self._add_points(points)

    def _add_points(self, points: list[tuple[str, Repository]]) -> None:
        points.sort(key=lambda each: each[0], reverse=True)
        asked: set[str] = set()
        for name, repository in points:
            lanes: list[str] = []
            if repository.root not in asked:  # lanes lie beside the points: once for all of them
                asked.add(repository.root)
                lanes = [repository.paths.lanes_of(each) for each in reversed(repository.lanes_points())]
            path = repository.paths.point(name)
            self._add(TreeCopies(self.storage, path, name=f"the backup {path}", lanes=lanes))
