"""A storage that can lose its power: in memory, it forgets what was never synced.

What is on disk for sure and what a power cut may lose are kept apart: the bytes of each file
(`memstore.testing.unsynced_content`) and the names in each directory (`memstore.testing.unsynced_names`). As POSIX has
it, a sync of a file's data says nothing of its name, and a sync of a directory nothing of what its files hold.

::

    storage = CrashingStorage()
    storage.power.at_call(17)
    ...                            # PowerCut is raised by the 17th changing call and all calls after it, in all threads
    storage = storage.crash(seed)  # what the machine finds when it is on again; the same seed finds the same

Several engines over one storage are several processes of one machine: locks belong to descriptors. The idea is that of
redb's ``tests/crash_consistency.rs``.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from random import Random

from memstore.errors import StorageError, StorageFullError
from memstore.fs.storage import DirectoryEntry, FileIdentity
from memstore.testing.node_tree import NodeTree, NotADirectoryInPathError
from memstore.testing.power import Power, PowerCut, Verdict
from memstore.testing.unsynced_content import UnsyncedContent
from memstore.testing.unsynced_names import Node

__all__ = ["CrashingFile", "CrashingStorage", "PowerCut"]
_PLENTY_BYTES = 1 << 40


class CrashingStorage:
    """A tree of files in memory that begins with ``/`` alone. Thread-safe; see the module.

    Args:
        mounts: directories that are file systems of their own; they are there from the start.
        capacity_bytes: what all files may hold together; a write that does not fit is cut short.
        reuse_inodes: a new file gets the inode number of the file that was gone last, as on real file systems.
        changes_per_tick: so many changes share one ``FileIdentity.changed_ns``, as the kernel's clock ticks are coarse.

    Attributes:
        power: counts calls, cuts the power and refuses calls.
        capacity_bytes: may be changed at any time.
    """

    def __init__(
        self,
        *,
        mounts: Iterable[str] = (),
        capacity_bytes: int | None = None,
        reuse_inodes: bool = True,
        changes_per_tick: int = 1,
    ) -> None:
        self.power = Power()
        self.capacity_bytes = capacity_bytes
        # Reentrant: a descriptor whose last reference goes is closed by whoever runs then.
        self._lock = threading.RLock()
        self._tree = NodeTree(mounts=mounts, reuse_inodes=reuse_inodes, changes_per_tick=changes_per_tick)

    # -- what a test does to it

    def crash(self, seed: int | str) -> CrashingStorage:
        """What the machine finds after a power cut; this storage is dead from now on.

        All that was synced, and of everything else what the seed says. The same calls on a new storage and then the
        same seed find the same.
        """
        with self._lock:
            self.power.cut()
            found = CrashingStorage(capacity_bytes=self.capacity_bytes)
            found._tree = self._tree.after_power_cut(Random(seed))
            return found

    def flip(self, path: str, offset_bytes: int, bit: int) -> None:
        """Turn one bit of a file at rest."""
        with self._lock:
            self._tree.content_of(path, "flip")[1].flip(offset_bytes, bit)

    def files(self, below: str = "/") -> dict[str, bytes]:
        """Content of every file that a name leads to, by path, as programs see it."""
        with self._lock:
            found: dict[str, bytes] = {}
            waiting = [(below.rstrip("/"), self._tree.find(below))]
            while waiting:
                path, node = waiting.pop()
                if node.content is not None:
                    found[path] = bytes(node.content.data)
                waiting.extend((f"{path}/{name}", child) for name, child in node.names.items())
            return dict(sorted(found.items()))

    # -- the storage protocol

    def open_read(self, path: str) -> CrashingFile:
        with self._lock:
            self.power.check()
            return CrashingFile(self, self._tree.find(path), path, writable=False)

    def open_write(self, path: str) -> CrashingFile:
        with self._lock:
            self.power.check()
            parent, name = self._tree.parent(path)
            if name not in parent.names:  # only then it changes anything
                self.enter("open_write", path)
                self._tree.make(parent, name, directory=False)
            return self.open_update(path)

    def open_update(self, path: str) -> CrashingFile:
        with self._lock:
            self.power.check()
            return CrashingFile(self, self._tree.content_of(path, "open for writing")[0], path, writable=True)

    def create(self, path: str) -> CrashingFile:
        with self._lock:
            self.enter("create", path)
            node = self._tree.make(*self._tree.vacancy(path), directory=False)
            return CrashingFile(self, node, path, writable=True)

    def open_directory(self, path: str) -> CrashingFile:
        with self._lock:
            self.power.check()
            return CrashingFile(self, self._tree.directory(path), path, writable=False)

    def identify(self, path: str) -> FileIdentity | None:
        with self._lock:
            self.power.check()
            try:
                return identity_of(self._tree.find(path))
            except (FileNotFoundError, NotADirectoryInPathError):
                return None

    def exists(self, path: str) -> bool:
        return self.identify(path) is not None

    def list_directory(self, path: str) -> list[DirectoryEntry]:
        with self._lock:
            self.power.check()
            return [DirectoryEntry(name, node.is_directory) for name, node in self._tree.directory(path).names.items()]

    def make_directory(self, path: str) -> None:
        with self._lock:
            self.enter("make_directory", path)
            self._tree.make(*self._tree.vacancy(path), directory=True)

    def rename(self, source: str, target: str) -> None:
        with self._lock:
            self.enter("rename", source)
            node = self._tree.find(source)
            parent, name = self._tree.parent(target)
            there = parent.names.get(name)
            if node.device != parent.device:
                raise StorageError(f"{source}: cannot rename to {target}: invalid cross-device link")
            if there is not None and (there.is_directory != node.is_directory or there.names):
                raise StorageError(f"{source}: cannot rename to {target}: what stands there cannot be replaced by it")
            self._tree.move(self._tree.parent(source), (parent, name))

    def link(self, source: str, target: str) -> None:
        with self._lock:
            self.enter("link", source)
            node, _ = self._tree.content_of(source, "link")
            parent, name = self._tree.vacancy(target)
            if node.device != parent.device:
                raise StorageError(f"{source}: cannot link to {target}: invalid cross-device link")
            self._tree.link(node, parent, name)

    def unlink(self, path: str) -> None:
        with self._lock:
            self.enter("unlink", path)
            self._tree.content_of(path, "remove")
            self._tree.remove(*self._tree.parent(path))

    def remove_directory(self, path: str) -> None:
        with self._lock:
            self.enter("remove_directory", path)
            if self._tree.directory(path).names:
                raise StorageError(f"{path}: cannot remove the directory: it is not empty")
            self._tree.remove(*self._tree.parent(path))

    def sync_directory(self, path: str) -> None:
        with self._lock:
            if self.enter("sync_directory", path):
                self._tree.names.sync(self._tree.names.inside(self._tree.directory(path)))

    def allocate(self, path: str, length_bytes: int) -> None:
        with self._lock:
            self.enter("allocate", path)
            parent, name = self._tree.parent(path)
            if name not in parent.names:
                self._tree.make(parent, name, directory=False)
            node, content = self._tree.content_of(path, "reserve space in")
            if length_bytes - node.size_bytes > self._room_bytes():
                raise StorageFullError(f"{path}: no space left to reserve {length_bytes} bytes")
            if length_bytes > node.size_bytes:
                content.set_length(length_bytes)
                self._tree.touch(node)

    def is_writable(self, path: str) -> bool:
        identity = self.identify(path)
        return identity is not None

    def free_bytes(self, path: str) -> int:
        with self._lock:
            self.power.check()
            self._tree.find(path)
            return self._room_bytes()

    def file_system_type(self, path: str) -> str:  # noqa: ARG002 - all of them are of one kind
        self.power.check()
        return "crashing"

    # -- for its files

    @property
    def lock(self) -> threading.RLock:
        """Held for every look at a node."""
        return self._lock

    @property
    def tree(self) -> NodeTree:
        """All that there is; the lock guards it."""
        return self._tree

    def enter(
        self, kind: str, path: str, node: Node | None = None, *, partly: Callable[[int], None] | None = None
    ) -> bool:
        """Count a changing call before it is carried out; the lock is held.

        Args:
            kind: the name of the protocol's method.
            path: what it is called for.
            node: the file of a sync.
            partly: carries out a write that is cut short, as far as it is told.

        Returns:
            Whether to carry it out; False for a sync that lies.

        Raises:
            PowerCut: there is no power, from this call on.
        """
        ruling = self.power.judge(kind, path)
        if ruling.verdict is Verdict.LOSE and node is not None:
            lost = self._tree.contents(node.device) if kind == "sync_file_system" else [node.content]
            for content in lost:
                if content is not None:
                    content.fail_sync()
        if ruling.error is not None:
            if partly is not None and ruling.written_bytes:
                partly(ruling.written_bytes)
            raise ruling.error
        return ruling.verdict is Verdict.CARRY_OUT

    def write(self, node: Node, path: str, data: bytes, offset_bytes: int) -> None:
        """Write to a file, as far as the capacity goes; the lock is held."""
        assert node.content is not None
        fits = self._room_bytes() + max(node.size_bytes - offset_bytes, 0)
        if data and fits:
            node.content.write(data[:fits], offset_bytes)
            self._tree.touch(node)
        if fits < len(data):
            raise StorageFullError(f"{path}: the disk took only {fits} of {len(data)} bytes; free some space")

    def _room_bytes(self) -> int:
        if self.capacity_bytes is None:
            return _PLENTY_BYTES
        return max(self.capacity_bytes - sum(len(content.data) for content in self._tree.contents()), 0)


class CrashingFile:
    """A descriptor of a `CrashingStorage`; closed at the latest when the last reference goes."""

    def __init__(self, storage: CrashingStorage, node: Node, path: str, *, writable: bool) -> None:
        self.path = path
        self._storage = storage
        self._node = node
        self._writable = writable
        self._tree = storage.tree
        self._lock_token = object()  # not the file itself: who holds a lock must still be closed when he is forgotten
        self._is_open = True
        self._tree.opened(node)

    def read(self, offset_bytes: int, length_bytes: int) -> bytes:
        with self._storage.lock:
            content = self._content("read")
            return bytes(content.data[offset_bytes : offset_bytes + length_bytes])

    def write(self, data: bytes, offset_bytes: int) -> None:
        with self._storage.lock:
            self._content("write", changes=True)

            def write(length_bytes: int) -> None:
                self._storage.write(self._node, self.path, data[:length_bytes], offset_bytes)

            self._storage.enter("write", self.path, partly=write)
            write(len(data))

    def truncate(self, length_bytes: int) -> None:
        with self._storage.lock:
            content = self._content("truncate", changes=True)
            self._storage.enter("truncate", self.path)
            content.set_length(length_bytes)
            self._tree.touch(self._node)

    def identity(self) -> FileIdentity:
        with self._storage.lock:
            self._check("stat")
            return identity_of(self._node)

    def size_bytes(self) -> int:
        return self.identity().size_bytes

    def sync_data(self) -> None:
        with self._storage.lock:
            content = self._content("sync")
            if self._storage.enter("sync_data", self.path, self._node):
                content.sync()

    def sync_file_system(self) -> None:
        with self._storage.lock:
            self._check("sync the file system of")
            if self._storage.enter("sync_file_system", self.path, self._node):
                for content in self._tree.contents(self._node.device):
                    content.sync()
                self._tree.names.sync_device(self._node.device)

    def try_lock(self) -> bool:
        with self._storage.lock:
            self._check("lock")
            if self._node.holder is None:
                self._node.holder = self._lock_token
            return self._node.holder is self._lock_token

    def close(self) -> None:
        with self._storage.lock:
            if self._is_open:
                self._is_open = False
                if self._node.holder is self._lock_token:
                    self._node.holder = None
                self._tree.closed(self._node)

    def __del__(self) -> None:
        self.close()

    def _check(self, action: str) -> None:
        self._storage.power.check()
        if not self._is_open:
            raise StorageError(f"{self.path}: cannot {action}: bad file descriptor")

    def _content(self, action: str, *, changes: bool = False) -> UnsyncedContent:
        self._check(action)
        if self._node.content is None:
            raise StorageError(f"{self.path}: cannot {action}: it is a directory")
        if changes and not self._writable:
            raise StorageError(f"{self.path}: cannot {action}: it was opened for reading")
        return self._node.content


def identity_of(node: Node) -> FileIdentity:
    """What ``stat`` says of a node."""
    return FileIdentity(node.device, node.number, node.size_bytes, node.changed_ns)
