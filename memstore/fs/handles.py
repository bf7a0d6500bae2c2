"""Open files kept for reading: few, because descriptors are few, and shared, because opening costs more than reading.

Sound because no file of a store that can be read is ever replaced under its own name. One exception: an agent that was
moved to another volume and back stands in new files under the old names, which are longer; who reads too short a file
drops its handle and looks again (`memstore.engine.reading`).
"""

from __future__ import annotations

import threading
from collections import OrderedDict

from memstore.fs.storage import Storage, StorageFile


class ReadHandles:
    """At most ``files_max`` open files, least recently used first out. Thread-safe.

    A file that is dropped while somebody reads it stays open until that reader lets go of it.
    """

    def __init__(self, storage: Storage, *, files_max: int) -> None:
        self._storage = storage
        self._files_max = files_max
        self._files: OrderedDict[str, StorageFile] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, path: str) -> StorageFile:
        """The open file; ``FileNotFoundError`` if it has gone."""
        with self._lock:
            file = self._files.get(path)
            if file is not None:
                self._files.move_to_end(path)
                return file
        file = self._storage.open_read(path)
        with self._lock:
            self._files[path] = file
            if len(self._files) > self._files_max:
                self._files.popitem(last=False)
        return file

    def drop(self, path: str) -> None:
        """Forget one file."""
        with self._lock:
            self._files.pop(path, None)

    def drop_under(self, directory: str) -> None:
        """Forget every file below a directory that has moved."""
        prefix = directory + "/"
        with self._lock:
            for path in [p for p in self._files if p.startswith(prefix)]:
                del self._files[path]

    def clear(self) -> None:
        """Forget all; a new lock too, for a forked child may have inherited a held one."""
        self._lock = threading.Lock()
        self._files = OrderedDict()
