"""How DuckDB opens a `RecordFile`: a file system of one file that can be read and not written.

DuckDB knows file systems in Python by the interface of fsspec. It opens the file once for each of its threads, asks for
its size, and then seeks and reads.
"""

from __future__ import annotations

import threading
from typing import Any

import fsspec

from memstore.sql.columns import PATH, SCHEME
from memstore.sql.record_file import RecordFile


class RecordFileSystem(fsspec.AbstractFileSystem):  # type: ignore[misc] # it has no types
    """Thread-safe. Lives as long as the connection that it is registered with."""

    protocol = SCHEME
    cachable = False
    """fsspec hands out an older instance made with equal arguments, unless it is told not to."""

    def __init__(self, file: RecordFile) -> None:
        super().__init__(skip_instance_cache=True)
        self._file = file

    def open(self, path: str, mode: str = "rb", **_options: Any) -> _Handle:
        """The file, for reading.

        Raises:
            PermissionError: for writing.
            FileNotFoundError: another name.
        """
        if mode not in ("r", "rb"):
            raise PermissionError(f"{path}: a store is only read by SQL")
        if path != PATH:
            raise FileNotFoundError(path)
        return _Handle(self._file)

    def glob(self, path: str, **_options: Any) -> list[str]:
        """Itself, where it is the file's."""
        return [path] if path == PATH else []

    def exists(self, path: str, **_options: Any) -> bool:
        """Whether it is the file's."""
        return path == PATH

    def size(self, path: str) -> int:
        """Bytes of the file."""
        return int(self.info(path)["size"])

    def info(self, path: str, **_options: Any) -> dict[str, Any]:
        """Name, size and kind.

        Raises:
            FileNotFoundError: another name.
        """
        if path != PATH:
            raise FileNotFoundError(path)
        return {"name": path, "size": self._file.size_bytes, "type": "file"}


class _Handle:
    """One opening of the file, by one thread or several.

    DuckDB reads either from place to place, or one after the other. In the first way each thread says where by a seek
    before each read, and another thread's seek may come between the two; in the second nobody does. So a read is at the
    place that its own thread has said since the last read, or else where the last read ended.
    """

    def __init__(self, file: RecordFile) -> None:
        self._file = file
        self._lock = threading.Lock()
        self._said: dict[int, int] = {}
        self._next = 0

    def seek(self, offset: int, _whence: int = 0) -> int:
        with self._lock:
            self._said[threading.get_ident()] = self._next = offset
        return offset

    def tell(self) -> int:
        with self._lock:
            return self._said.get(threading.get_ident(), self._next)

    def read(self, length: int = -1) -> bytes:
        with self._lock:
            offset = self._said.pop(threading.get_ident(), None)
            if offset is None:
                self._said.clear()
                offset = self._next
            if length < 0:
                length = self._file.size_bytes
            self._next = offset + length
        return self._file.read(offset, length)

    def close(self) -> None:
        """Nothing to let go of: the file belongs to the connection."""
