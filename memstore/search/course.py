"""How one run of the indexer goes: what it has done so far, who is told, and whether it is to stop."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

Progress = Callable[[int, int], None]
"""Told how many records have been indexed, and how many there are to index (an estimate)."""


@dataclass(slots=True)
class IndexReport:
    """What a run did.

    Attributes:
        added: records that were added to partitions.
        built: months that were built anew.
        finished: whether the index was up to date at the end.
    """

    added: int = 0
    built: list[str] = field(default_factory=list)
    finished: bool = True

    def as_dict(self) -> dict[str, Any]:
        """For machines."""
        return {"added": self.added, "built": self.built, "finished": self.finished}


class Course:
    """Used by one thread.

    Args:
        stop: asked between batches.
        progress: see `Progress`; None where nobody looks.
        count: how many records there are; asked once, where somebody looks.
    """

    def __init__(self, *, stop: Callable[[], bool] | None, progress: Progress | None, count: Callable[[], int]) -> None:
        self.report = IndexReport()
        self._stop = stop
        self._progress = progress
        self._count = count
        self._total = 0

    @property
    def is_to_stop(self) -> bool:
        """Whether to leave the rest to the next run."""
        return self._stop is not None and self._stop()

    def added(self, records: int) -> None:
        """So many records more are in partitions."""
        self.report.added += records
        if self._progress is not None:
            self._total = self._total or self._count()
            self._progress(self.report.added, max(self._total, self.report.added))
