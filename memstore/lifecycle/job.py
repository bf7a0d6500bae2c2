"""A job, and how it has gone: what the scheduler runs, and what the heartbeat tells of it."""

from __future__ import annotations

import datetime as dt
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from memstore.timestamps import iso_text

Work = Callable[[threading.Event], object]
"""What a job does. It looks at the event between its steps and returns early once that is set."""


@dataclass(frozen=True, slots=True)
class Job:
    """One thing to do again and again.

    Attributes:
        name: as logs, SCHEDULE.json and the heartbeat have it.
        every_s: seconds from the beginning of a run to that of the next.
        work: what is done.
        alone: whether it waits for other such jobs of this process: one at a time bounds memory and disk traffic.
        costly: whether it takes hours, so that who runs every job once does it only when its interval has passed.
    """

    name: str
    every_s: float
    work: Work
    alone: bool = False
    costly: bool = False


@dataclass(slots=True)
class Course:
    """How a job has gone in this process, and when it last began in any. Written by the run in progress alone.

    Attributes:
        job: which.
        last_us: when a run last began that was not cut short; None where nobody knows.
        seconds: how long the last run took.
        runs: of this process.
        failures: of this process.
        error: of the last run, as text; None where it went well.
        failed_with: its class. Not the error itself, which would keep all that its frames refer to.
        running: whether a run goes on, or waits for its turn.
        thread: of the last run.
    """

    job: Job
    last_us: int | None = None
    seconds: float | None = None
    runs: int = 0
    failures: int = 0
    error: str | None = None
    failed_with: type[Exception] | None = None
    running: bool = False
    thread: threading.Thread | None = field(default=None, repr=False)

    def note_failure(self, error: Exception) -> None:
        """A run has failed."""
        self.failures += 1
        self.error = f"{type(error).__name__}: {error}"
        self.failed_with = type(error)

    def as_dict(self, following: dt.datetime | None) -> dict[str, Any]:
        """For the heartbeat; ``following`` is when it runs next."""
        return {
            "every_s": self.job.every_s,
            "last": None if self.last_us is None else iso_text(self.last_us),
            "next": None if following is None else following.astimezone(dt.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            "seconds": self.seconds,
            "runs": self.runs,
            "failures": self.failures,
            "error": self.error,
            "running": self.running,
        }


@dataclass(frozen=True, slots=True)
class Every:
    """A trigger of APScheduler's: after a pause of any length (sleep, a clock set forward) it fires once.

    Its own interval trigger lists every missed time before it drops all but one: 3 million of them where a wrong clock
    is put right by a year.
    """

    interval: dt.timedelta

    def get_next_fire_time(self, previous: dt.datetime | None, now: dt.datetime) -> dt.datetime:
        """When to fire after ``previous``."""
        following = (now if previous is None else previous) + self.interval
        return following if following > now else now + self.interval
