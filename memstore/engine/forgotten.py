"""The store's FORGOTTEN file: written by whoever makes records disappear, watched by whoever caches or derives them.

The note is written after the records are hidden and before the caller hears of it: from then on every process that asks
finds the file longer, and its cached lines stale.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator

from memstore.errors import StorageError
from memstore.format.forgotten import (
    Changing,
    Erased,
    Erasure,
    ForgottenEntry,
    ForgottenLine,
    ForgottenRecords,
    decode_forgotten,
    encode_forgotten,
)
from memstore.format.names import StorePaths
from memstore.fs.lock import locked
from memstore.fs.storage import Storage, StorageFile


class Forgotten:
    """Thread-safe."""

    def __init__(self, storage: Storage, paths: StorePaths) -> None:
        self._storage = storage
        self._path = paths.forgotten
        self._root = paths.root
        self._lock = paths.lock("forgotten")
        self._file: StorageFile | None = None
        self._begun: dict[tuple[str, str], int] = {}
        """When each erasure began that is not finished, by its id and agent, as of ``_looked_bytes``."""
        self._looked_bytes = 0
        self._begun_lock = threading.Lock()

    def epoch(self) -> int:
        """A number that grows whenever records disappear or come back, in whatever process.

        Asked at every read: so the file, which is never replaced, is kept open once it is there.
        """
        file = self._file
        if file is None:
            if not self._storage.exists(self._path):
                return 0
            file = self._file = self._storage.open_read(self._path)
        return file.size_bytes()

    def unfinished(self) -> dict[str, int]:
        """When erasures began that are not finished, by the hash of the agent."""
        with self._begun_lock:
            end = self.epoch()
            for entry in self.entries(self._looked_bytes, end) if end > self._looked_bytes else ():
                if entry.erasure is not None:
                    self._begun[entry.erasure.id, entry.erasure.agent] = entry.erasure.at
                elif entry.erased is not None:
                    finished = entry.erased.id
                    self._begun = {key: at for key, at in self._begun.items() if key[0] != finished}
            self._looked_bytes = end
            return {agent: at for (_, agent), at in sorted(self._begun.items(), key=lambda item: item[1])}

    def reset_lock(self) -> None:
        """In a forked child: a new lock."""
        self._begun_lock = threading.Lock()

    def close(self) -> None:
        """Let go of the file; the next `epoch` opens it again."""
        self._file = None

    def stir(self, changing: Changing) -> None:
        """Make every cached line stale, and say what is in doubt, before records are hidden or shown again.

        The note that says what was done comes behind it, and may fail, or its writer be killed before it.

        Raises:
            StorageError: the disk refused; nothing may be hidden now.
        """
        self._append(changing)

    def note(self, entry: ForgottenRecords | Erasure | Erased) -> None:
        """Append an entry, durably.

        Raises:
            StorageError: it may not be on disk.
        """
        self._append(entry)

    def _append(self, entry: ForgottenEntry) -> None:
        with locked(self._storage, self._lock):
            file = self._storage.open_write(self._path)
            try:
                end = file.identity().size_bytes
                line = encode_forgotten(entry)
                if end and file.read(end - 1, 1) != b"\n":
                    line = b"\n" + line  # behind a torn line, which stays: sizes only ever grow
                try:
                    file.write(line, end)
                except StorageError:
                    file.truncate(end)
                    raise
                file.sync_data()
            finally:
                file.close()
            self._storage.sync_directory(self._root)  # it may be new, made by somebody who died before this

    def entries(self, since_bytes: int = 0, until_bytes: int | None = None) -> Iterator[ForgottenLine]:
        """Every entry that verifies, oldest first.

        Args:
            since_bytes: an `epoch`: only what was appended since.
            until_bytes: an `epoch`: only what was there by then.
        """
        try:
            file = self._storage.open_read(self._path)
        except FileNotFoundError:
            return
        try:
            end = file.identity().size_bytes if until_bytes is None else until_bytes
            data = file.read(since_bytes, max(end - since_bytes, 0))
        finally:
            file.close()
        for line in data.split(b"\n"):
            entry = decode_forgotten(line)
            if entry is not None:
                yield entry
