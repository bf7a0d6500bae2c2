"""What the scheduler runs: merge, tier, retention, backup, scrub, and the hook of others.

Whatever happens is logged as an event with fields (``extra={"event": ..., "fields": ...}``), which a daemon prints as
JSON, and counted.
"""

from __future__ import annotations

import functools
import logging
import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from memstore.config import SchedulingSettings
from memstore.engine.merge import MergeReport
from memstore.errors import MemstoreError, StorageError
from memstore.lifecycle.action import Action
from memstore.lifecycle.job import Job, Work
from memstore.lifecycle.maintain_report import MaintainReport
from memstore.lifecycle.scrub_report import ScrubReport
from memstore.lifecycle.worker import ActionResult

_log = logging.getLogger(__name__)


class Maintain(Protocol):
    """`Manager.maintain`, or a part of it."""

    def __call__(self, *, stop: Callable[[], bool], on_done: Callable[[ActionResult], None]) -> MaintainReport:
        """Do what is due; begin nothing once ``stop`` says so; tell ``on_done`` of each action."""
        ...


Scrub = Callable[[threading.Event], ScrubReport]
"""`memstore.ops.scrub.Scrub.run`, or what somebody has in its place: read all there is until the event is set."""


@dataclass(slots=True)
class Counters:
    """What the jobs of this process have done."""

    lanes_merged: int = 0
    records_merged: int = 0
    actions_done: int = 0
    actions_skipped: int = 0
    actions_failed: int = 0
    records_moved: int = 0
    bytes_freed: int = 0
    bytes_scrubbed: int = 0
    damage_found: int = 0


class LifecycleJobs:
    """Makes the jobs of one store, and counts what they do. The jobs run in threads of their own.

    Args:
        scheduling: how often each runs.
        merge: seals what is due and merges what is waiting; None where there was nothing to do.
        tier: performs what is due but retention.
        retention: performs what retention asks for; None leaves it to another process.
        analytics: is called at its interval, where it is given.
        scrub: reads everything to find damage, where it is given. Slowly, so that the others do not wait for it.
        index: brings the search index up to date.
        backup: takes a backup, where the settings say where to.
        replica: brings the second copy up to date, where there is one.
    """

    def __init__(
        self,
        scheduling: SchedulingSettings,
        *,
        merge: Callable[[], MergeReport | None],
        tier: Maintain,
        retention: Maintain | None = None,
        analytics: Work | None = None,
        scrub: Scrub | None = None,
        index: Work | None = None,
        backup: Work | None = None,
        replica: Work | None = None,
    ) -> None:
        self.counters = Counters()
        self._scheduling = scheduling
        self._merge = merge
        self._tier = tier
        self._retention = retention
        self._analytics = analytics
        self._scrub = scrub
        self._index = index
        self._backup = backup
        self._replica = replica

    def jobs(self, heartbeat: Work | None = None) -> list[Job]:
        """Those that there is work for; the heartbeat, which must not wait for anything, comes first."""
        every = self._scheduling
        planned: tuple[tuple[str, float, Work | None, bool], ...] = (
            ("heartbeat", every.heartbeat_s, heartbeat, False),
            ("merge", every.merge_s, self._run_merge, False),
            ("index", every.index_s, self._index, False),
            ("replica", every.replica_s, self._replica, False),
            ("tier", every.tier_s, self._work_of(self._tier), True),
            ("retention", every.retention_s, self._work_of(self._retention), True),
            ("analytics", every.analytics_s, self._analytics, True),
        )
        made = [Job(name, every_s, work, alone=alone) for name, every_s, work, alone in planned if work is not None]
        if self._backup is not None:
            made.append(Job("backup", every.backup_s, self._backup, costly=True))
        if self._scrub is not None:
            made.append(Job("scrub", every.scrub_s, functools.partial(self._run_scrub, self._scrub), costly=True))
        return made

    def figures(self) -> dict[str, int]:
        """The counters by name."""
        return asdict(self.counters)

    def _run_merge(self, _stop: threading.Event) -> None:
        report = self._merge()
        if report is None or not report.lanes:
            return
        self.counters.lanes_merged += len(report.lanes)
        self.counters.records_merged += report.records
        fields = {"lanes": len(report.lanes), "records": report.records}
        _tell("merge", f"Merged {len(report.lanes)} lanes.", fields)

    def _run_scrub(self, scrub: Scrub, stop: threading.Event) -> None:
        """Scrub until all was read or it is to stop.

        Raises:
            StorageError: there is damage; each piece of it has been logged.
        """
        report = scrub(stop)
        self.counters.bytes_scrubbed += report.bytes
        self.counters.damage_found += report.damage
        fields = {
            "files": report.files,
            "bytes": report.bytes,
            "damage": report.damage,
            "finished": report.finished,
        }
        _tell("scrub", f"Read {report.files} files again.", fields)
        if report.errors:
            raise report.errors[0]

    def _work_of(self, maintain: Maintain | None) -> Work | None:
        return None if maintain is None else functools.partial(self._run_maintain, maintain)

    def _run_maintain(self, maintain: Maintain, stop: threading.Event) -> None:
        """Maintain until all is done or it is to stop.

        Raises:
            StorageError: actions failed; each has been logged.
        """
        report = maintain(stop=stop.is_set, on_done=self._tell_done)
        for action, why in report.skipped:
            self.counters.actions_skipped += 1
            _tell("skipped", f"{action.sentence} {why}", {**action.as_dict(), "skipped_because": why})
        for action, error in report.failed:
            self._tell_failed(action, error)
        if len(report.failed) == 1:
            raise report.failed[0][1]
        if report.failed:
            action, error = report.failed[0]
            raise StorageError(f"{len(report.failed)} actions failed; the first: {action.sentence} {error}")

    def _tell_failed(self, action: Action, error: MemstoreError) -> None:
        self.counters.actions_failed += 1
        fields = {**action.as_dict(), "error": f"{type(error).__name__}: {error}"}
        _log.error("%s %s", action.sentence, error, extra={"event": "failed", "fields": fields})

    def _tell_done(self, result: ActionResult) -> None:
        self.counters.actions_done += 1
        self.counters.records_moved += result.records
        self.counters.bytes_freed += result.bytes_before - result.bytes_after
        fields = {
            **result.action.as_dict(),
            "records_done": result.records,
            "bytes_before": result.bytes_before,
            "bytes_after": result.bytes_after,
            "seconds": round(result.seconds, 3),
        }
        _tell("action", result.action.sentence, fields)


def _tell(event: str, message: str, fields: dict[str, Any]) -> None:
    _log.info("%s", message, extra={"event": event, "fields": fields})
