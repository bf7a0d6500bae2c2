"""Partitions that are open for searching, and those that turned out to be damaged."""

from __future__ import annotations

import threading

from memstore.engine.engine import Engine
from memstore.fs.lock import is_locked
from memstore.search.indexer import LOCK
from memstore.search.partition import Partition
from memstore.search.schema import Analyzer
from memstore.search.state import IndexState, PartitionEntry


class OpenPartitions:
    """By directory; each is verified when it is opened. Thread-safe."""

    def __init__(self, engine: Engine, *, analyzer: Analyzer) -> None:
        self._engine = engine
        self._analyzer = analyzer
        self.forget_after_fork()

    def forget_after_fork(self) -> None:
        """In a forked child: a new lock, and nothing open."""
        self._lock = threading.Lock()
        self._open: dict[str, tuple[PartitionEntry, Partition]] = {}
        self._verified: set[str] = set()
        self._damaged: set[str] = set()
        self._reported: set[str] = set()

    def clear(self) -> None:
        """Close everything."""
        with self._lock:
            self._open.clear()

    def keep(self, state: IndexState) -> None:
        """Close what a new state does not name. What is built anew has another name, and is looked at anew."""
        with self._lock:
            self._damaged, self._reported = set(), set()
            kept = {entry.directory for entry in state.partitions.values()}
            self._open = {name: opened for name, opened in self._open.items() if name in kept}

    def is_damaged(self, month: str) -> bool:
        """Whether the month's partition could not be used."""
        return month in self._damaged

    def add_damaged(self, months: set[str]) -> None:
        """Note that partitions could not be used."""
        with self._lock:
            self._damaged |= months

    def give_up(self, partition: Partition) -> None:
        """A partition has failed while it was searched: its month is damaged."""
        with self._lock:
            for directory, (_, opened) in list(self._open.items()):
                if opened is partition:
                    del self._open[directory]
                    self._damaged.add(directory.partition(".")[0])

    def take_damaged(self) -> set[str]:
        """Months whose partition cannot be used, as found since the last call."""
        with self._lock:
            damaged, self._reported = self._damaged - self._reported, set(self._damaged)
            return damaged

    def open(self, entry: PartitionEntry) -> Partition:
        """A partition, verified.

        Raises:
            IndexFailedError: it is damaged, or gone.
        """
        with self._lock:
            known = self._open.get(entry.directory)
            if known is not None and known[0] == entry:
                return known[1]
            partition = Partition.open(
                self._engine.storage,
                self._engine.paths.search,
                entry,
                analyzer=self._analyzer,
                verified=self._verified,
                is_written=self._is_written,
            )
            self._open[entry.directory] = (entry, partition)
            return partition

    def _is_written(self) -> bool:
        """Whether somebody holds the index lock."""
        return is_locked(self._engine.storage, self._engine.paths.lock(LOCK))
