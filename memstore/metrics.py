"""Counters of one process, for ``stats``.

Plain integers in a dict: a lost increment under a race would be harmless, but ``dict[str] += 1`` runs under a lock
because the committer, the merger and readers share it.
"""

from __future__ import annotations

import threading


class Metrics:
    """Named counters. Thread-safe; lives as long as its store."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counters: dict[str, int] = {}

    def add(self, name: str, amount: int = 1) -> None:
        """Count up."""
        with self._lock:
            self._counters[name] = self._counters.get(name, 0) + amount

    def snapshot(self) -> dict[str, int]:
        """A copy of all counters, sorted by name."""
        with self._lock:
            return dict(sorted(self._counters.items()))

    def reset_lock(self) -> None:
        """A new lock for a forked child: another thread may have held the old one."""
        self._lock = threading.Lock()
