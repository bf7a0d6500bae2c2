"""The real disk: thin over the system calls, translating errors where they enter.

Borrowed facts: ``os.write`` may write part of what it was given on a full disk without an exception, so writes loop;
``flock`` is shared with forked children, so a child closes (never unlocks) what it inherits.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import re
import sys
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from io import FileIO

from memstore.errors import StorageError, StorageFullError
from memstore.fs.storage import DirectoryEntry, FileIdentity

if sys.platform == "win32":
    raise ImportError("memstore needs the locks and syncs of POSIX: Linux first, macOS with slower merges; not Windows")

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_MOUNT_ESCAPE = re.compile(r"\\([0-7]{3})")
"""How ``/proc/self/mountinfo`` writes white space in paths."""
_MODE = 0o644
_DIRECTORY_MODE = 0o755


def _load_syncfs() -> ctypes._NamedFuncPointer | None:
    if not sys.platform.startswith("linux"):
        return None
    return getattr(ctypes.CDLL(None, use_errno=True), "syncfs", None)


_syncfs = _load_syncfs()


@contextmanager
def _translated(action: str, path: str) -> Iterator[None]:
    try:
        yield
    except (FileNotFoundError, FileExistsError):
        raise
    except OSError as error:
        raise storage_error(action, path, error) from error


def storage_error(action: str, path: str, error: OSError) -> StorageError:
    """The typed error of a refused system call."""
    if error.errno in _FULL:
        return StorageFullError(f"{path}: no space left to {action}; free some, and the store works again by itself")
    return StorageError(f"{path}: cannot {action}: {error.strerror or error}")


class LocalFile:
    """A raw descriptor. Thread-safe but for ``close``; closed at the latest when the last reference goes.

    That of a lock is owned by an object of C: Ctrl-C may come inside a ``__del__``, which is not called again, and the
    lock would be held for as long as the process lives.
    """

    __slots__ = ("__weakref__", "_fd", "_owner", "path")

    def __init__(self, path: str, fd: int) -> None:
        self.path = path
        self._fd = fd
        self._owner: FileIO | None = None

    def read(self, offset_bytes: int, length_bytes: int) -> bytes:
        """See `StorageFile.read`."""
        try:
            data = os.pread(self._fd, length_bytes, offset_bytes)
            if len(data) == length_bytes or not data:
                return data
            parts = [data]
            got = len(data)
            while got < length_bytes:
                data = os.pread(self._fd, length_bytes - got, offset_bytes + got)
                if not data:
                    break
                parts.append(data)
                got += len(data)
            return b"".join(parts)
        except OSError as error:
            raise storage_error("read", self.path, error) from error

    def write(self, data: bytes, offset_bytes: int) -> None:
        """See `StorageFile.write`."""
        try:
            written = os.pwrite(self._fd, data, offset_bytes)
            if written == len(data):
                return
            view = memoryview(data)
            while written < len(data):
                count = os.pwrite(self._fd, view[written:], offset_bytes + written)
                if count == 0:
                    raise StorageFullError(
                        f"{self.path}: the disk took only {written} of {len(data)} bytes; free some space"
                    )
                written += count
        except OSError as error:
            raise storage_error("write", self.path, error) from error

    def truncate(self, length_bytes: int) -> None:
        """See `StorageFile.truncate`."""
        with _translated("truncate", self.path):
            os.ftruncate(self._fd, length_bytes)

    def identity(self) -> FileIdentity:
        """See `StorageFile.identity`."""
        with _translated("stat", self.path):
            status = os.fstat(self._fd)
        return FileIdentity(status.st_dev, status.st_ino, status.st_size, status.st_ctime_ns)

    def size_bytes(self) -> int:
        """See `StorageFile.size_bytes`. Seeking costs a quarter of ``fstat``; nothing here uses the position."""
        try:
            return os.lseek(self._fd, 0, os.SEEK_END)
        except OSError as error:
            raise storage_error("seek", self.path, error) from error

    def sync_data(self) -> None:
        """See `StorageFile.sync_data`."""
        with _translated("sync", self.path):
            if hasattr(os, "fdatasync"):
                os.fdatasync(self._fd)
            else:  # macOS: fsync alone stays in the drive's cache
                fcntl.fcntl(self._fd, getattr(fcntl, "F_FULLFSYNC", 51))

    def sync_file_system(self) -> None:
        """See `StorageFile.sync_file_system`.

        Needs Linux; elsewhere files are synced one by one (`can_sync_file_system`).
        """
        assert _syncfs is not None, "ask can_sync_file_system first"
        if _syncfs(self._fd) != 0:
            number = ctypes.get_errno()
            raise storage_error("sync the file system of", self.path, OSError(number, os.strerror(number)))

    def try_lock(self) -> bool:
        """See `StorageFile.try_lock`."""
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError as error:
            raise storage_error("lock", self.path, error) from error
        if self._owner is None:
            self._owner = FileIO(self._fd)
        _locked_files.add(self)
        return True

    def close(self) -> None:
        """See `StorageFile.close`. Unlocks by hand first: a forked child may still hold the descriptor."""
        if self._fd < 0:
            return
        if self._owner is None:
            self._close()
        else:
            fcntl.flock(self._fd, fcntl.LOCK_UN)
            self._close()
            _locked_files.discard(self)

    def close_inherited(self) -> None:
        """In a forked child: close without unlocking, for the lock is the parent's."""
        if self._fd >= 0:
            self._close()

    def _close(self) -> None:
        # Ctrl-C does not come between the two steps of either way, so that the descriptor is closed just once.
        if self._owner is not None:
            self._fd = -1
            self._owner.close()
        else:
            fd, self._fd = self._fd, -1
            os.close(fd)

    def __del__(self) -> None:
        if getattr(self, "_fd", -1) >= 0:  # it has none where Ctrl-C came before it was made
            self.close()


_locked_files: weakref.WeakSet[LocalFile] = weakref.WeakSet()


def _close_locks_in_child() -> None:
    for file in list(_locked_files):
        file.close_inherited()
    _locked_files.clear()


os.register_at_fork(after_in_child=_close_locks_in_child)


def can_sync_file_system() -> bool:
    """Whether one call can sync a whole file system here (Linux)."""
    return _syncfs is not None


class LocalStorage:
    """The machine's file systems. Stateless and thread-safe."""

    def open_read(self, path: str) -> LocalFile:
        """See `Storage.open_read`."""
        with _translated("open", path):
            return LocalFile(path, os.open(path, os.O_RDONLY | os.O_CLOEXEC))

    def open_write(self, path: str) -> LocalFile:
        """See `Storage.open_write`."""
        with _translated("open for writing", path):
            return LocalFile(path, os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, _MODE))

    def open_update(self, path: str) -> LocalFile:
        """See `Storage.open_update`."""
        with _translated("open for writing", path):
            return LocalFile(path, os.open(path, os.O_RDWR | os.O_CLOEXEC))

    def create(self, path: str) -> LocalFile:
        """See `Storage.create`."""
        with _translated("create", path):
            return LocalFile(path, os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _MODE))

    def open_directory(self, path: str) -> LocalFile:
        """See `Storage.open_directory`."""
        with _translated("open", path):
            return LocalFile(path, os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))

    def identify(self, path: str) -> FileIdentity | None:
        """See `Storage.identify`."""
        try:
            status = os.stat(path)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise storage_error("stat", path, error) from error
        return FileIdentity(status.st_dev, status.st_ino, status.st_size, status.st_ctime_ns)

    def exists(self, path: str) -> bool:
        """See `Storage.exists`."""
        return os.access(path, os.F_OK)

    def list_directory(self, path: str) -> list[DirectoryEntry]:
        """See `Storage.list_directory`."""
        try:
            with os.scandir(path) as entries:
                return [DirectoryEntry(e.name, e.is_dir(follow_symlinks=False)) for e in entries]
        except FileNotFoundError:
            raise
        except OSError as error:
            raise storage_error("list", path, error) from error

    def make_directory(self, path: str) -> None:
        """See `Storage.make_directory`."""
        with _translated("create the directory", path):
            os.mkdir(path, _DIRECTORY_MODE)

    def rename(self, source: str, target: str) -> None:
        """See `Storage.rename`."""
        with _translated(f"rename to {target}", source):
            os.rename(source, target)

    def link(self, source: str, target: str) -> None:
        """See `Storage.link`."""
        with _translated(f"link to {target}", source):
            os.link(source, target)

    def unlink(self, path: str) -> None:
        """See `Storage.unlink`."""
        with _translated("remove", path):
            os.unlink(path)

    def remove_directory(self, path: str) -> None:
        """See `Storage.remove_directory`."""
        with _translated("remove the directory", path):
            os.rmdir(path)

    def sync_directory(self, path: str) -> None:
        """See `Storage.sync_directory`."""
        with _translated("sync the directory", path):
            fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.fsync(fd)
            finally:
                os.close(fd)

    def allocate(self, path: str, length_bytes: int) -> None:
        """See `Storage.allocate`."""
        with _translated("reserve space in", path):
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, _MODE)
            try:
                if hasattr(os, "posix_fallocate"):
                    os.posix_fallocate(fd, 0, length_bytes)
                else:
                    os.ftruncate(fd, length_bytes)
            finally:
                os.close(fd)

    def is_writable(self, path: str) -> bool:
        """See `Storage.is_writable`."""
        return os.access(path, os.W_OK | os.X_OK)

    def free_bytes(self, path: str) -> int:
        """See `Storage.free_bytes`."""
        with _translated("ask for the free space of", path):
            status = os.statvfs(path)
        return status.f_bavail * status.f_frsize

    def file_system_type(self, path: str) -> str:
        """See `Storage.file_system_type`. The longest mount point above the path decides."""
        try:
            with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as mounts:
                lines = mounts.readlines()
        except OSError:
            return ""
        real = os.path.realpath(path)
        best, kind = -1, ""
        for line in lines:
            left, _, right = line.partition(" - ")
            point = _MOUNT_ESCAPE.sub(lambda code: chr(int(code[1], 8)), left.split(" ")[4])
            inside = point in {"/", real} or real.startswith(point + "/")
            if inside and len(point) >= best:
                best, kind = len(point), right.split(" ")[0]
        return kind
