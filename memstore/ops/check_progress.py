"""How far a check is, and whether it was told to stop."""

from __future__ import annotations

import os
from collections.abc import Callable

from memstore.format.names import StorePaths, is_lane_name
from memstore.fs.storage import Storage
from memstore.ops.layout import Layout, entries_of, size_of
from memstore.ops.reading_files import OnBytes, StoppedError

Progress = Callable[[int, int], None]
"""Told how much is done, and how much there is: bytes in a full check, lanes and agents in a quick one."""


class CheckProgress:
    """Counts what one check has done. Used by one thread.

    Args:
        storage: where the store lies.
        paths: its root.
        layout: where its agents lie.
        full: whether every byte is read.
        on_progress: see `Progress`; None where nobody wants to be told.
        stop: asked between reads; None where nobody stops it.
        on_read: told of every read; may wait.
    """

    def __init__(
        self,
        storage: Storage,
        paths: StorePaths,
        layout: Layout,
        *,
        full: bool,
        on_progress: Progress | None,
        stop: Callable[[], bool] | None,
        on_read: OnBytes | None,
    ) -> None:
        self._storage = storage
        self._paths = paths
        self._layout = layout
        self._full = full
        self._progress = on_progress
        self._stop = stop
        self._on_read = on_read
        self._done = 0
        self._total = 0

    def begin(self) -> None:
        """Look how much there is, if anybody wants to be told."""
        if self._progress is not None:
            self._total = _amount(self._storage, self._paths, self._layout, full=self._full)

    def read(self, length: int) -> None:
        """Bytes are about to be read. Raises: StoppedError: the check was told to stop."""
        if self._on_read is not None:
            self._on_read(length)
        if self._stop is not None and self._stop():
            raise StoppedError
        if self._full:
            self.advance(length)

    def advance(self, amount: int) -> None:
        """So many bytes, or lanes and agents, are done."""
        self._done += amount
        self.tell()

    def tell(self) -> None:
        """Say how far the check is."""
        if self._progress is not None:
            self._progress(min(self._done, self._total) if self._full else self._done, self._total)


def _amount(storage: Storage, paths: StorePaths, layout: Layout, *, full: bool) -> int:
    """Bytes that a full check reads, about; or lanes and agents."""
    lanes = [entry.name for entry in entries_of(storage, paths.lanes) if is_lane_name(entry.name)]
    total = sum(size_of(storage, os.path.join(paths.lanes, name)) for name in lanes)
    agents = 0
    for shard in (*layout.shards.values(), layout.archive):
        for entry in entries_of(storage, shard):
            if entry.is_directory:
                agents += shard != layout.archive and not entry.name.startswith(".")
                if full:
                    total += _tree_bytes(storage, os.path.join(shard, entry.name))
    return total if full else len(lanes) + agents


def _tree_bytes(storage: Storage, directory: str) -> int:
    total = 0
    for entry in entries_of(storage, directory):
        below = os.path.join(directory, entry.name)
        total += _tree_bytes(storage, below) if entry.is_directory else size_of(storage, below)
    return total
