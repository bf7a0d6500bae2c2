"""Make many written files durable: one by one where they are few, else by one ``syncfs`` per file system.

``fdatasync`` on each of 1,000 files took 94 % of a merge's time; one ``syncfs`` is as fast as not syncing at all
(FACTS). The descriptors for ``syncfs`` are opened before the first write, because the kernel reports a write-back
error only to those that were open when it happened.
"""

from __future__ import annotations

from memstore.fs.local import can_sync_file_system
from memstore.fs.storage import Storage, StorageFile


class SyncSet:
    """What one piece of maintenance has written. Used by one thread.

    Args:
        storage: where it all lies.
        roots: a directory on every file system that may be written to.
        file_syncs_max: up to so many files are synced one by one.
    """

    def __init__(self, storage: Storage, roots: list[str], *, file_syncs_max: int) -> None:
        self._storage = storage
        self._file_syncs_max = file_syncs_max
        self._roots = [storage.open_directory(root) for root in roots]
        self._files: list[StorageFile] | None = []
        self._directories: set[str] = set()

    def add_file(self, file: StorageFile) -> None:
        """A file that was written; closed by this set, now or after its sync."""
        if self._files is None:
            file.close()
            return
        self._files.append(file)
        if len(self._files) > self._file_syncs_max:
            at_once = can_sync_file_system()
            for each in self._files:
                if not at_once:
                    each.sync_data()
                each.close()
            self._files = None if at_once else []

    def add_directory(self, path: str) -> None:
        """A directory that gained an entry."""
        self._directories.add(path)

    def sync(self) -> None:
        """Make it all durable, files before the names that lead to them.

        Raises:
            StorageError: it is unknown what is on disk; write it all again before trusting it.
        """
        if self._files is None:
            # Names too: the kernel writes every dirty inode and commits the journal. A sync of each directory after it
            # would find nothing to do and still ask the disk to flush, 1,000 times for 1,000 agents.
            for root in self._roots:
                root.sync_file_system()
            return
        for file in self._files:
            file.sync_data()
        for directory in sorted(self._directories, key=len, reverse=True):
            try:
                self._storage.sync_directory(directory)
            except FileNotFoundError:  # moved to another shard meanwhile: the move has synced it
                continue

    def close(self) -> None:
        """Close what is open."""
        for file in self._files or ():
            file.close()
        for root in self._roots:
            root.close()
        self._files = []
