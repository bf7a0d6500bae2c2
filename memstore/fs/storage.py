"""The storage protocol: the one door to the disk.

Every system call that touches a store goes through these two protocols, so that a test can forget what was never
synced, fail the n-th call, or fill the disk. Narrow on purpose: no buffering, no text, no modes beyond what the
engine needs.

What an implementation may raise: ``FileNotFoundError`` and ``FileExistsError`` where a name decides the outcome (a
signal, not a fault), `StorageFullError` for no space, `StorageError` for every other refusal of the system.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True, slots=True)
class FileIdentity:
    """What tells one state of a file from another without reading it.

    ``changed_ns`` is when the file was last written, linked or renamed. It takes no part in comparisons, because it is
    no proof of anything but this: where a file has taken the place of another and got its inode and its size, it
    differs.
    """

    device: int
    inode: int
    size_bytes: int
    changed_ns: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class DirectoryEntry:
    """A name in a directory."""

    name: str
    is_directory: bool


class StorageFile(Protocol):
    """An open file. Reads and writes are positional, so threads may share one. Closed when the last reference goes."""

    path: str
    """Where it was opened, and what its errors name; who renames it while it is open says so here."""

    def read(self, offset_bytes: int, length_bytes: int) -> bytes:
        """Bytes from an offset; shorter only at the end of the file."""
        ...

    def write(self, data: bytes, offset_bytes: int) -> None:
        """Write all of ``data`` at an offset, looping on short writes; what was written before an error stays."""
        ...

    def truncate(self, length_bytes: int) -> None:
        """Cut the file, or extend it with zeros."""
        ...

    def identity(self) -> FileIdentity:
        """Device, inode and size of the open file."""
        ...

    def size_bytes(self) -> int:
        """How long the open file is now; the cheapest of all questions, for what is asked at every read."""
        ...

    def sync_data(self) -> None:
        """Make content and size durable (``fdatasync``).

        After a failure the file must not be synced again: the next call lies.
        """
        ...

    def sync_file_system(self) -> None:
        """Make everything durable that was written to the file's file system (``syncfs``)."""
        ...

    def try_lock(self) -> bool:
        """Take the file's exclusive advisory lock, or return False where somebody holds it. Held until close."""
        ...

    def close(self) -> None:
        """Release locks and the descriptor. Idempotent."""
        ...


class Storage(Protocol):
    """A tree of files. Paths are absolute text."""

    def open_read(self, path: str) -> StorageFile:
        """Open for reading; ``FileNotFoundError`` if it is not there."""
        ...

    def open_write(self, path: str) -> StorageFile:
        """Open for reading and writing, created if it is not there, never truncated."""
        ...

    def open_update(self, path: str) -> StorageFile:
        """Open for reading and writing; ``FileNotFoundError`` if it is not there."""
        ...

    def create(self, path: str) -> StorageFile:
        """Create for reading and writing; ``FileExistsError`` if it is there."""
        ...

    def open_directory(self, path: str) -> StorageFile:
        """Open a directory, to sync its file system later; ``FileNotFoundError`` if it is not there."""
        ...

    def identify(self, path: str) -> FileIdentity | None:
        """Identity of what stands at a path, or None."""
        ...

    def exists(self, path: str) -> bool:
        """Whether something stands at a path that this process can see; cheaper than `identify` where nothing does."""
        ...

    def list_directory(self, path: str) -> list[DirectoryEntry]:
        """Entries in no order; ``FileNotFoundError`` if it is not there."""
        ...

    def make_directory(self, path: str) -> None:
        """Create one directory; ``FileExistsError`` if the name is taken."""
        ...

    def rename(self, source: str, target: str) -> None:
        """Rename within one file system, replacing a file that stands at the target."""
        ...

    def link(self, source: str, target: str) -> None:
        """Give a file a second name; ``FileExistsError`` if the name is taken.

        `StorageError` where the file system, or a border between two, does not allow it: then copy.
        """
        ...

    def unlink(self, path: str) -> None:
        """Remove a file; ``FileNotFoundError`` if it is not there."""
        ...

    def remove_directory(self, path: str) -> None:
        """Remove an empty directory."""
        ...

    def sync_directory(self, path: str) -> None:
        """Make the names in a directory durable."""
        ...

    def allocate(self, path: str, length_bytes: int) -> None:
        """Create a file with that many bytes of disk reserved for it."""
        ...

    def is_writable(self, path: str) -> bool:
        """Whether this process may create files in a directory."""
        ...

    def free_bytes(self, path: str) -> int:
        """Bytes an unprivileged writer may still use on the file system of ``path``."""
        ...

    def file_system_type(self, path: str) -> str:
        """Name of the file system (``ext4``, ``nfs4``), or empty where the platform does not say."""
        ...
