"""A storage that refuses on command: wraps a real one, counts what passes, and fails the calls a test names.

Every call on it and on its files has a kind: the name of the protocol's method. A test arms `Fault`s by kind and
path; each fault lets ``after`` matching calls pass and then fails ``times`` of them. ``before_call`` is told of every
call first, so that a test can copy the store as it stands at that very instruction.
"""

from __future__ import annotations

import fnmatch
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from memstore.errors import StorageError, StorageFullError
from memstore.fs.storage import DirectoryEntry, FileIdentity, Storage, StorageFile

CHANGING_KINDS = frozenset(
    {
        "open_write",
        "create",
        "make_directory",
        "rename",
        "link",
        "unlink",
        "remove_directory",
        "sync_directory",
        "allocate",
        "write",
        "truncate",
        "sync_data",
        "sync_file_system",
    }
)
"""Calls that change what is on disk, or what is durable there."""

_SPACE_KINDS = frozenset({"create", "make_directory", "allocate", "write"})


@dataclass(slots=True)
class Fault:
    """One thing that goes wrong.

    Attributes:
        kinds: names of protocol methods.
        path: a pattern of `fnmatch` that the path has to match.
        after: matching calls that pass first.
        times: how many then fail.
        error: what they raise, made anew for each.
        written_bytes: for ``write``: how much of the data reaches the file before the error.
    """

    kinds: frozenset[str]
    path: str = "*"
    after: int = 0
    times: int = 1
    error: Callable[[str], StorageError] = field(default=lambda path: StorageError(f"{path}: injected fault"))
    written_bytes: int = 0

    def strikes(self, kind: str, path: str) -> bool:
        """Whether this call fails; counts it."""
        if kind not in self.kinds or not fnmatch.fnmatch(path, self.path) or self.times == 0:
            return False
        if self.after:
            self.after -= 1
            return False
        self.times -= 1
        return True


def disk_full(path: str) -> StorageFullError:
    """What a full disk says."""
    return StorageFullError(f"{path}: no space left (injected)")


class FaultyStorage:
    """Delegates to ``inner``. Thread-safe.

    Attributes:
        calls: ``(kind, path)`` of every call, in order, while ``recording`` is on.
        counts: how many calls of each kind there were.
        recording: whether ``calls`` is filled.
        before_call: told of each call before it is carried out or fails.
        answers: fixed answers by method name, for ``is_writable``, ``free_bytes`` and ``file_system_type``.
    """

    def __init__(self, inner: Storage) -> None:
        self._inner = inner
        self._lock = threading.Lock()
        self._faults: list[Fault] = []
        self.calls: list[tuple[str, str]] = []
        self.counts: Counter[str] = Counter()
        self.recording = False
        self.before_call: Callable[[str, str], None] | None = None
        self.answers: dict[str, Any] = {}

    def arm(self, fault: Fault) -> Fault:
        """Add a fault; it stays until it is used up or `disarm` is called."""
        with self._lock:
            self._faults.append(fault)
        return fault

    def fail(self, *kinds: str, path: str = "*", after: int = 0, times: int = 1) -> Fault:
        """Let calls of these kinds fail with `StorageError`."""
        return self.arm(Fault(frozenset(kinds), path=path, after=after, times=times))

    def fill(self, *, path: str = "*", written_bytes: int = 0) -> Fault:
        """No space for anything until `disarm`; writes reach the file with their first ``written_bytes`` only."""
        return self.arm(Fault(_SPACE_KINDS, path=path, times=-1, error=disk_full, written_bytes=written_bytes))

    def disarm(self) -> None:
        """The disk is well again."""
        with self._lock:
            self._faults.clear()

    def strike(self, kind: str, path: str) -> Fault | None:
        """Note a call; the fault that befalls it, if one does."""
        if self.before_call is not None:
            self.before_call(kind, path)
        with self._lock:
            self.counts[kind] += 1
            if self.recording:
                self.calls.append((kind, path))
            return next((fault for fault in self._faults if fault.strikes(kind, path)), None)

    def _pass(self, kind: str, path: str) -> None:
        fault = self.strike(kind, path)
        if fault is not None:
            raise fault.error(path)

    def _file(self, kind: str, path: str, opener: Callable[[str], StorageFile]) -> StorageFile:
        self._pass(kind, path)
        return FaultyFile(self, opener(path))

    def open_read(self, path: str) -> StorageFile:
        return self._file("open_read", path, self._inner.open_read)

    def open_write(self, path: str) -> StorageFile:
        return self._file("open_write", path, self._inner.open_write)

    def open_update(self, path: str) -> StorageFile:
        return self._file("open_update", path, self._inner.open_update)

    def create(self, path: str) -> StorageFile:
        return self._file("create", path, self._inner.create)

    def open_directory(self, path: str) -> StorageFile:
        return self._file("open_directory", path, self._inner.open_directory)

    def identify(self, path: str) -> FileIdentity | None:
        self._pass("identify", path)
        return self._inner.identify(path)

    def exists(self, path: str) -> bool:
        self._pass("exists", path)
        return self._inner.exists(path)

    def list_directory(self, path: str) -> list[DirectoryEntry]:
        self._pass("list_directory", path)
        return self._inner.list_directory(path)

    def make_directory(self, path: str) -> None:
        self._pass("make_directory", path)
        self._inner.make_directory(path)

    def rename(self, source: str, target: str) -> None:
        self._pass("rename", source)
        self._inner.rename(source, target)

    def link(self, source: str, target: str) -> None:
        self._pass("link", source)
        self._inner.link(source, target)

    def unlink(self, path: str) -> None:
        self._pass("unlink", path)
        self._inner.unlink(path)

    def remove_directory(self, path: str) -> None:
        self._pass("remove_directory", path)
        self._inner.remove_directory(path)

    def sync_directory(self, path: str) -> None:
        self._pass("sync_directory", path)
        self._inner.sync_directory(path)

    def allocate(self, path: str, length_bytes: int) -> None:
        self._pass("allocate", path)
        self._inner.allocate(path, length_bytes)

    def is_writable(self, path: str) -> bool:
        self._pass("is_writable", path)
        return bool(self.answers.get("is_writable", self._inner.is_writable(path)))

    def free_bytes(self, path: str) -> int:
        self._pass("free_bytes", path)
        return int(self.answers.get("free_bytes", self._inner.free_bytes(path)))

    def file_system_type(self, path: str) -> str:
        self._pass("file_system_type", path)
        return str(self.answers.get("file_system_type", self._inner.file_system_type(path)))


class FaultyFile:
    """An open file of a `FaultyStorage`."""

    def __init__(self, storage: FaultyStorage, inner: StorageFile) -> None:
        self._storage = storage
        self._inner = inner

    @property
    def path(self) -> str:
        return self._inner.path

    @path.setter
    def path(self, path: str) -> None:
        self._inner.path = path

    def _pass(self, kind: str) -> None:
        fault = self._storage.strike(kind, self._inner.path)
        if fault is not None:
            raise fault.error(self._inner.path)

    def read(self, offset_bytes: int, length_bytes: int) -> bytes:
        self._pass("read")
        return self._inner.read(offset_bytes, length_bytes)

    def write(self, data: bytes, offset_bytes: int) -> None:
        fault = self._storage.strike("write", self._inner.path)
        if fault is None:
            self._inner.write(data, offset_bytes)
            return
        if fault.written_bytes:
            self._inner.write(data[: fault.written_bytes], offset_bytes)
        raise fault.error(self._inner.path)

    def truncate(self, length_bytes: int) -> None:
        self._pass("truncate")
        self._inner.truncate(length_bytes)

    def identity(self) -> FileIdentity:
        self._pass("identity")
        return self._inner.identity()

    def size_bytes(self) -> int:
        self._pass("size_bytes")
        return self._inner.size_bytes()

    def sync_data(self) -> None:
        self._pass("sync_data")
        self._inner.sync_data()

    def sync_file_system(self) -> None:
        self._pass("sync_file_system")
        self._inner.sync_file_system()

    def try_lock(self) -> bool:
        self._pass("try_lock")
        return self._inner.try_lock()

    def close(self) -> None:
        self._inner.close()
