"""A repair that is under way: what it works with, what it has told so far, and what it could not do."""

from __future__ import annotations

import logging
from collections.abc import Callable

from memstore.clock import Clock
from memstore.errors import MemstoreError
from memstore.format.names import StorePaths
from memstore.fs.storage import Storage
from memstore.ops.repair.good_copies import OrderedCopies
from memstore.ops.repair.quarantine import Quarantine
from memstore.ops.repair.repair_report import RepairReport
from memstore.ops.repair.repair_step import RepairStep

_log = logging.getLogger(__name__)


class RepairRun:
    """One repair. Used by one thread.

    Attributes:
        storage: where the store lies.
        paths: its root.
        clock: for stamps.
        copies: where good copies may be had.
        report: what it told so far.
        plan_only: whether nothing is to be changed.
        quarantine: where files are set aside.

    Args:
        on_step: told of each step: before it is done, unless ``plan_only``.
    """

    def __init__(
        self,
        storage: Storage,
        paths: StorePaths,
        clock: Clock,
        copies: OrderedCopies,
        report: RepairReport,
        *,
        plan_only: bool,
        on_step: Callable[[RepairStep], None] | None,
    ) -> None:
        self.storage = storage
        self.paths = paths
        self.clock = clock
        self.copies = copies
        self.report = report
        self.plan_only = plan_only
        self.quarantine = Quarantine(storage, paths, now_us=clock.now_us())
        self._on_step = on_step

    def tell(self, *steps: RepairStep) -> None:
        """Tell what is done next, or would be; what was told is not told again."""
        for step in steps:
            if step in self.report.steps:
                continue
            self.report.steps.append(step)
            _log.info("%s", step.sentence)
            if self._on_step is not None:
                self._on_step(step)

    def attempt(self, path: str, work: Callable[[], None]) -> None:
        """What fails is told, and the rest is done all the same."""
        try:
            work()
        except MemstoreError as error:
            _log.warning("%s: %s", path, error)
            self.report.failed.append((path, error))
