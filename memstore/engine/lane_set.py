"""Every lane there is, followed by one process: what is durable and not yet merged.

Directory times say nothing reliable, so the names in ``lanes/`` are listed at each look; a lane that is known and
sealed costs nothing more, an open one a ``stat`` and its new commit lines.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from functools import partial

from memstore.errors import CorruptionError
from memstore.format.names import KEPT_SUFFIX, LANE_SUFFIX, StorePaths, is_lane_name, lane_token
from memstore.fs.handles import ReadHandles
from memstore.fs.storage import Storage, StorageFile
from memstore.wal.begin import lanes_are_gone
from memstore.wal.reader import LaneReader

_log = logging.getLogger(__name__)


class LaneSet:
    """Thread-safe.

    Args:
        storage: where lanes lie.
        paths: the store's.
        handles: where kept lanes are opened for a read.
        index_bytes_max: budget for the indexes of open lanes; over it the largest are dropped and read again when
            needed.
        known_end: how far this process's own open lane is committed, by path.
    """

    def __init__(
        self,
        storage: Storage,
        paths: StorePaths,
        *,
        handles: ReadHandles,
        index_bytes_max: int,
        known_end: Callable[[str], int | None],
    ) -> None:
        self._storage = storage
        self._directory = paths.lanes
        self._handles = handles
        self._index_bytes_max = index_bytes_max
        self._known_end = known_end
        self._lock = threading.Lock()
        self._readers: dict[str, LaneReader] = {}
        self._unreadable: dict[str, CorruptionError] = {}
        self._listed: dict[str, str] = {}

    def refresh(self) -> list[LaneReader]:
        """All lanes as of now. A reader that is returned stays readable when its lane is unlinked."""
        with self._lock:
            unreadable: dict[str, CorruptionError] = {}
            try:
                names = self.names()
            except CorruptionError as error:
                names, unreadable[""] = [], error
            present: dict[str, LaneReader] = {}
            listed: dict[str, str] = {}
            for name in names:
                token = lane_token(name)
                path = os.path.join(self._directory, name)
                reader = self._readers.get(token)
                try:
                    if reader is None:
                        reader = LaneReader(self._open(path), token)
                    reader.refresh(known_end=self._known_end(path))
                except FileNotFoundError:  # merged and unlinked since it was listed; the MANIFESTs say so
                    continue
                except CorruptionError as error:
                    if name not in self._unreadable:
                        _log.error("%s", error)
                    unreadable[name] = error
                    continue
                if name.endswith(KEPT_SUFFIX):
                    # It waits for repair, and nothing bounds how many do: descriptors are for those that are alive.
                    reader.let_go(partial(self._handles.get, path))
                present[token], listed[token] = reader, path
            self._readers = present
            self._listed = listed
            self._unreadable = unreadable
            self._keep_budget()
            return list(present.values())

    def _open(self, path: str) -> StorageFile:
        try:
            return self._storage.open_read(path)
        except FileNotFoundError:  # a merge may have set it aside since it was listed
            return self._storage.open_read(path.removesuffix(LANE_SUFFIX) + KEPT_SUFFIX)

    def stands(self, token: str) -> bool:
        """Whether a lane of the last look is there still, be it set aside for repair meanwhile."""
        path = self._listed.get(token)
        if path is None:  # another thread has looked since
            return False
        exists = self._storage.exists
        return exists(path) or exists(path.removesuffix(LANE_SUFFIX) + KEPT_SUFFIX)

    def names(self) -> list[str]:
        """Names of all lanes, sorted.

        Raises:
            CorruptionError: their directory is not there.
        """
        try:
            entries = self._storage.list_directory(self._directory)
        except FileNotFoundError as error:
            raise lanes_are_gone(self._directory) from error
        return sorted(entry.name for entry in entries if is_lane_name(entry.name))

    def waiting(self) -> set[str]:
        """Tokens of the lanes that no merge has let go: what was merged of them may not have been synced."""
        return {lane_token(name) for name in self.names() if name.endswith(LANE_SUFFIX)}

    @property
    def unreadable(self) -> list[CorruptionError]:
        """Lanes of which nobody knows whose records they hold, as of the last refresh.

        Their first line does not verify; or the directory of all of them has gone.
        """
        return list(self._unreadable.values())

    @property
    def memory_bytes(self) -> int:
        """Estimate of what the indexes of open lanes cost."""
        return sum(reader.memory_bytes for reader in self._readers.values())

    def forget(self) -> None:
        """Drop everything known; the next look reads it again."""
        with self._lock:
            self._readers = {}

    def reset_lock(self) -> None:
        """In a forked child: a new lock, and nothing known."""
        self._lock = threading.Lock()
        self._readers = {}

    def _keep_budget(self) -> None:
        total = self.memory_bytes
        if total <= self._index_bytes_max:
            return
        for token, reader in sorted(self._readers.items(), key=lambda item: -item[1].memory_bytes)[:-1]:
            if total <= self._index_bytes_max:
                return
            total -= reader.memory_bytes
            # Whoever was handed this reader in an earlier look still has it; the next look opens the lane anew.
            del self._readers[token]
