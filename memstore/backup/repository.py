"""A backup repository: one directory that holds the points of one store, and says so.

A point is a directory named by its UTC time that holds a plain store and, written last, its list. What is in the making
or is being removed has a name with a dot in front; a crash leaves nothing else, and the next backup removes it.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager

from memstore.errors import LockedError, NotFoundError, UsageError
from memstore.format.backup_file import (
    BackupHead,
    BackupList,
    LanesFile,
    RepositoryFile,
    decode_backup_head,
    decode_backup_list,
    decode_lanes_file,
    decode_repository_file,
    encode_repository_file,
)
from memstore.format.backup_names import GOING_PREFIX, INCOMING_PREFIX, RepositoryPaths, point_time
from memstore.fs.atomic import TEMPORARY_PREFIX, make_durable_directories, read_file, replace_file, try_unlink
from memstore.fs.lock import try_lock_file
from memstore.fs.storage import Storage
from memstore.fs.trees import remove_tree
from memstore.wal.scan import LineWindow


class Repository:
    """Reads take no lock; whoever adds or removes points holds `locked`.

    Args:
        storage: where it lies.
        root: its directory, absolute.
        content: of REPOSITORY.json.
    """

    def __init__(self, storage: Storage, root: str, content: RepositoryFile) -> None:
        self.storage = storage
        self.paths = RepositoryPaths(root)
        self.store_id = content.store

    @property
    def root(self) -> str:
        """Its directory."""
        return self.paths.root

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Be the only one who adds or removes points; what others left half done is removed.

        Raises:
            LockedError: another backup or prune is at it.
        """
        lock = try_lock_file(self.storage, self.paths.lock)
        if lock is None:
            raise LockedError(f"{self.root}: another backup or prune is at work there; try again when it is done")
        try:
            self._sweep()
            yield
        finally:
            lock.close()

    def points(self) -> list[str]:
        """Names of all points, oldest first."""
        return [name for name in self._names(self.root) if self.storage.exists(self.paths.point_list(name))]

    def lanes_points(self) -> list[str]:
        """Names of the points whose lanes are kept, oldest first; the points themselves may be gone."""
        return [name for name in self._names(self.paths.archive) if self.storage.exists(self.paths.lanes_list(name))]

    def read_list(self, name: str) -> BackupList:
        """The list of a point.

        Raises:
            NotFoundError: there is no such point.
            VersionError: a newer memstore wrote it.
            CorruptionError: it does not verify.
        """
        path = self.paths.point_list(name)
        return decode_backup_list(self._read(path, name), path)

    def read_head(self, name: str) -> BackupHead:
        """The first line of a point's list; raises as `read_list`."""
        path = self.paths.point_list(name)
        try:
            file = self.storage.open_read(path)
        except FileNotFoundError:
            raise self._no_point(name) from None
        try:
            return decode_backup_head(LineWindow(file).line_at(0) or b"", path)
        finally:
            file.close()

    def read_lanes(self, name: str) -> LanesFile:
        """The list of a point's lanes; raises as `read_list`."""
        path = self.paths.lanes_list(name)
        return decode_lanes_file(self._read(path, name), path)

    def incoming(self) -> str:
        """A new directory for a point in the making."""
        path = os.path.join(self.root, f"{INCOMING_PREFIX}{secrets.token_hex(8)}")
        self.storage.make_directory(path)
        return path

    def remove(self, path: str) -> None:
        """Remove the directory of a point or of its lanes: from the first moment on it is none."""
        going = os.path.join(self.root, f"{GOING_PREFIX}{secrets.token_hex(8)}")
        self.storage.rename(path, going)
        self.storage.sync_directory(os.path.dirname(path))
        remove_tree(self.storage, going, durably=False)

    def _sweep(self) -> None:
        for entry in self.storage.list_directory(self.root):
            path = os.path.join(self.root, entry.name)
            if entry.is_directory and entry.name.startswith((INCOMING_PREFIX, GOING_PREFIX)):
                remove_tree(self.storage, path, durably=False)
            elif not entry.is_directory and entry.name.startswith(TEMPORARY_PREFIX):
                try_unlink(self.storage, path)

    def _names(self, directory: str) -> list[str]:
        try:
            entries = self.storage.list_directory(directory)
        except FileNotFoundError:
            return []
        return sorted(entry.name for entry in entries if entry.is_directory and point_time(entry.name) is not None)

    def _read(self, path: str, name: str) -> bytes:
        data = read_file(self.storage, path)
        if data is None:
            raise self._no_point(name)
        return data

    def _no_point(self, name: str) -> NotFoundError:
        return NotFoundError(f"{self.root} has no backup {name!r}; `memstore backup list` shows those it has")


def open_repository(storage: Storage, destination: str) -> Repository:
    """The repository at a place.

    Raises:
        NotFoundError: there is none.
        VersionError: a newer memstore made it.
        CorruptionError: its REPOSITORY.json does not verify.
    """
    root = os.path.abspath(destination)
    path = RepositoryPaths(root).repository_file
    data = read_file(storage, path)
    if data is None:
        raise NotFoundError(f"{root} holds no backups: no {os.path.basename(path)} is there")
    return Repository(storage, root, decode_repository_file(data, path))


def repository_for(storage: Storage, destination: str, *, store_id: str, at_us: int) -> Repository:
    """The repository of a store at a place, made there if nothing is.

    Raises:
        UsageError: something else is there, or the backups of another store.
        VersionError: a newer memstore made it.
        StorageError: it cannot be made.
    """
    root = os.path.abspath(destination)
    make_durable_directories(storage, root)
    paths = RepositoryPaths(root)
    if not storage.exists(paths.repository_file):
        foreign = [
            entry.name
            for entry in storage.list_directory(root)
            if entry.name not in (os.path.basename(paths.lock), "lost+found")
            and not entry.name.startswith(TEMPORARY_PREFIX)
        ]
        if foreign:
            raise UsageError(f"{root} is not empty and holds no backups; name a new or an empty directory")
        replace_file(storage, paths.repository_file, encode_repository_file(RepositoryFile(store=store_id, at=at_us)))
    found = open_repository(storage, root)
    if found.store_id != store_id:
        raise UsageError(
            f"{root} holds the backups of another store ({found.store_id}, not {store_id}); each store needs a "
            "directory of its own"
        )
    return found
