"""Where good copies of damaged bytes may be had: a backup, a replica, or any tree that has the same files.

The one thing a source has to do is to give bytes of a file by its name; whether they are good is for the repair to
judge, which has their checksum, or what the file's own lines say. So anything that can open a file can be a source.
"""

from __future__ import annotations

import os
from typing import Protocol

from memstore.errors import NotFoundError, StorageError
from memstore.fs.storage import Storage


class GoodCopies(Protocol):
    """A tree with the same relative names as the store, and, where it is as old as they are, the same bytes."""

    @property
    def name(self) -> str:
        """What people call it."""
        ...

    def size(self, path: str) -> int | None:
        """How long its file of this relative path is; None where it has none."""
        ...

    def read(self, path: str, offset: int, length: int) -> bytes | None:
        """Bytes of a file; fewer where it is shorter; None where it has none or cannot read it."""
        ...


class DirectoryCopies:
    """A plain copy of a store's directory, such as a backup that was unpacked or a replica's root.

    Args:
        storage: reads it.
        root: the copy's directory.

    Raises:
        NotFoundError: there is no such directory.
    """

    def __init__(self, storage: Storage, root: str) -> None:
        self._storage = storage
        self._root = os.path.abspath(root)
        if storage.identify(self._root) is None:
            raise NotFoundError(f"{root} is not there; --from takes the directory of a copy of this store")

    @property
    def name(self) -> str:
        """Its directory."""
        return self._root

    def size(self, path: str) -> int | None:
        """See `GoodCopies`."""
        try:
            identity = self._storage.identify(os.path.join(self._root, path))
        except StorageError:
            return None
        return None if identity is None else identity.size_bytes

    def read(self, path: str, offset: int, length: int) -> bytes | None:
        """See `GoodCopies`."""
        try:
            file = self._storage.open_read(os.path.join(self._root, path))
        except (StorageError, FileNotFoundError):
            return None
        try:
            return file.read(offset, length)
        except StorageError:
            return None
        finally:
            file.close()


class NoCopies:
    """There is none."""

    name = ""

    def size(self, path: str) -> int | None:  # noqa: ARG002 - as the protocol has it
        """See `GoodCopies`."""
        return None

    def read(self, path: str, offset: int, length: int) -> bytes | None:  # noqa: ARG002
        """See `GoodCopies`."""
        return None
