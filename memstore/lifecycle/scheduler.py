"""Decides when: jobs at their intervals, in the background of one process.

APScheduler 3 keeps the times, and only here; each run has a daemon thread of its own, so that the timer's thread never
waits and an interpreter that ends does not wait for a month's archive (every action may be cut off anywhere). What a
job does it does not know. A job that fails is logged and counted and runs again at its next time.

When each job last ran stands in SCHEDULE.json: a process that was off for longer than a job's interval runs that job
once, soon after its start, however many runs were missed.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import logging
import os
import threading
import weakref
from collections.abc import Iterable
from types import TracebackType
from typing import Any, Self

from memstore.clock import MICROSECONDS_PER_SECOND, Clock
from memstore.errors import MemstoreError, UnsupportedError
from memstore.format.names import StorePaths
from memstore.fs.storage import Storage
from memstore.lifecycle.job import Course, Every, Job
from memstore.lifecycle.schedule_file import ScheduleFile

_log = logging.getLogger(__name__)
REMEMBERED_FROM_S = 300.0
"""Jobs that run more often always run at a start; writing down each of their runs would cost more than that."""
STAGGER_S = 1.0
"""Between the first runs of jobs that were missed: not all of them begin with the process."""
CLOCK_LOOK_S = 10.0
"""How often the wall clock is compared with the monotonic one."""
CLOCK_STEP_S = 2.0
"""A wall clock that falls behind by more was set back. NTP slews what is smaller."""


class LifecycleScheduler:
    """Runs jobs in the background. Thread-safe; ``start`` it once, ``close`` it; a forked child has no scheduler.

    Args:
        jobs: each with a name of its own.
        storage: where the store lies.
        paths: of the store; SCHEDULE.json is written there.
        clock: when a job ran last is told by it.
    """

    def __init__(self, jobs: Iterable[Job], *, storage: Storage, paths: StorePaths, clock: Clock) -> None:
        self._courses = {job.name: Course(job) for job in jobs}
        self._root = paths.root
        self._schedule = ScheduleFile(storage, paths)
        self._clock = clock
        self._lock = threading.Lock()
        self._turn = threading.Lock()
        self._stop = threading.Event()
        self._timer: Any = None
        self._ahead_us = self._wall_ahead_us()
        _schedulers.add(self)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    # -- life

    def start(self) -> None:
        """Begin. Jobs that were missed run soon, one after another; the others when they are due.

        Raises:
            UnsupportedError: this process may not have threads (uWSGI without ``--enable-threads``).
        """
        # Only here: importing APScheduler takes 60 ms, and most processes never start it.
        from apscheduler.executors.debug import DebugExecutor  # noqa: PLC0415
        from apscheduler.schedulers.background import BackgroundScheduler  # noqa: PLC0415
        from apscheduler.triggers.base import BaseTrigger  # noqa: PLC0415

        BaseTrigger.register(Every)
        # The "debug" executor calls in the timer's own thread: all that is called there is `_fire`, which starts ours.
        timer = BackgroundScheduler(
            timezone=dt.UTC,
            daemon=True,
            executors={"default": DebugExecutor()},
            job_defaults={"coalesce": True, "max_instances": 1, "misfire_grace_time": None},
        )
        for name, delay_s in self._first_delays_s().items():
            trigger = Every(dt.timedelta(seconds=self._courses[name].job.every_s))
            first = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=delay_s)
            timer.add_job(self._fire, trigger, args=(name,), id=name, name=name, next_run_time=first)
        with self._lock:
            assert self._timer is None, "a scheduler is started once"
            if self._stop.is_set():
                return
            try:
                timer.start()
            except RuntimeError as error:
                raise UnsupportedError(f"{self._root}: jobs cannot run in the background here: {error}") from error
            self._timer = timer
        threading.Thread(target=self._watch_clock, name="memstore-scheduler-clock", daemon=True).start()

    def close(self) -> None:
        """Start nothing more, and wait for what is running to come to the end of its step. Idempotent."""
        with self._lock:
            self._stop.set()
            timer, self._timer = self._timer, None
        if timer is not None:
            timer.shutdown(wait=False)
        for course in self._courses.values():
            thread = course.thread
            if thread is not None and thread is not threading.current_thread():
                thread.join()

    def run_all(self) -> None:
        """Run every job once, here and now, in the order in which they were given; costly ones only if they are due."""
        last = self._schedule.read()
        for name, course in self._courses.items():
            is_due = self._waits_s(course.job, last.get(name)) is None
            if not self._stop.is_set() and (is_due or not course.job.costly):
                self._run(course)

    # -- what it tells

    def status(self) -> dict[str, dict[str, Any]]:
        """How each job goes.

        Returns:
            By name: ``every_s, last`` (when it last began, in this or an earlier process), ``next, seconds`` (how long
            the last run took), ``runs, failures`` (of this process), ``error`` (of the last run) and ``running``.
        """
        timer = self._timer
        planned = {} if timer is None else {each.id: each.next_run_time for each in timer.get_jobs()}
        return {name: course.as_dict(planned.get(name)) for name, course in self._courses.items()}

    @property
    def failed_with(self) -> type[Exception] | None:
        """The class of the error of the first job whose last run failed, or None."""
        return next((course.failed_with for course in self._courses.values() if course.failed_with), None)

    # -- when

    def _first_delays_s(self) -> dict[str, float]:
        """Seconds from now to each job's first run."""
        last = self._schedule.read()
        delays: dict[str, float] = {}
        missed = 0
        for name, course in self._courses.items():
            course.last_us = last.get(name)
            waits_s = self._waits_s(course.job, course.last_us)
            if waits_s is None:
                waits_s = min(missed * STAGGER_S, course.job.every_s)
                missed += 1
            delays[name] = waits_s
        return delays

    def _waits_s(self, job: Job, last_us: int | None) -> float | None:
        """Seconds until a job is due; None where it is, or where it runs so often that nobody asks."""
        if last_us is None or job.every_s < REMEMBERED_FROM_S:
            return None
        # A time in the future is a clock that was set back since: no reason to wait longer than ever.
        since_s = max((self._clock.now_us() - last_us) / MICROSECONDS_PER_SECOND, 0.0)
        return job.every_s - since_s if since_s < job.every_s else None

    def _wall_ahead_us(self) -> int:
        return self._clock.now_us() - int(self._clock.monotonic_s() * MICROSECONDS_PER_SECOND)

    def _watch_clock(self) -> None:
        while not self._stop.wait(CLOCK_LOOK_S):
            self.look_at_clock()

    def look_at_clock(self) -> None:
        """Move the next runs along with a wall clock that was set back: else all would wait until it has caught up."""
        ahead_us = self._wall_ahead_us()
        behind_s = (self._ahead_us - ahead_us) / MICROSECONDS_PER_SECOND
        self._ahead_us = ahead_us
        if behind_s <= CLOCK_STEP_S:
            return
        _log.warning("%s: the clock was set back by %.0f s; the jobs keep their intervals", self._root, behind_s)
        timer = self._timer
        with contextlib.suppress(LookupError):  # the scheduler was closed meanwhile
            for planned in () if timer is None else timer.get_jobs():
                planned.modify(next_run_time=planned.next_run_time - dt.timedelta(seconds=behind_s))

    # -- running

    def _fire(self, name: str) -> None:
        """In the timer's thread: hand the run to a thread of its own, unless the last one still goes on."""
        course = self._courses[name]
        with self._lock:
            if self._stop.is_set() or course.running:
                return
            course.running = True
            course.thread = threading.Thread(target=self._run, args=(course,), name=f"memstore-job-{name}", daemon=True)
            try:
                course.thread.start()
            except RuntimeError as error:  # no thread to be had: too many, or the interpreter is ending
                course.running, course.thread = False, None
                self._note_failure(course, error)

    def _run(self, course: Course) -> None:
        course.running = True
        try:
            if course.job.alone:
                with self._turn:
                    self._run_now(course)
            else:
                self._run_now(course)
        finally:
            course.running = False

    def _run_now(self, course: Course) -> None:
        if self._stop.is_set():
            return
        began_us, began_s = self._clock.now_us(), self._clock.monotonic_s()
        try:
            course.job.work(self._stop)
            course.error = course.failed_with = None
        except Exception as error:  # noqa: BLE001 - logged and counted; the other jobs must go on
            self._note_failure(course, error)
        course.seconds = round(self._clock.monotonic_s() - began_s, 3)
        course.runs += 1
        if self._stop.is_set():
            return  # it may have ended early: then the next start is where it goes on
        course.last_us = began_us
        if course.job.every_s >= REMEMBERED_FROM_S:
            self._schedule.note(course.job.name, began_us)

    def _note_failure(self, course: Course, error: Exception) -> None:
        course.note_failure(error)
        unforeseen = None if isinstance(error, MemstoreError) else error
        _log.error(
            "%s: the job %s failed and runs again in %g s: %s",
            self._root,
            course.job.name,
            course.job.every_s,
            error if isinstance(error, MemstoreError) else course.error,
            exc_info=unforeseen,
        )

    def _forget(self) -> None:
        """In a forked child: the threads are the parent's, and so are the jobs."""
        self._timer = None
        self._lock, self._turn = threading.Lock(), threading.Lock()
        self._schedule.reset_lock()
        self._stop = threading.Event()
        self._stop.set()
        for course in self._courses.values():
            course.running, course.thread = False, None


_schedulers: weakref.WeakSet[LifecycleScheduler] = weakref.WeakSet()


def _forget_in_child() -> None:
    for scheduler in list(_schedulers):
        scheduler._forget()  # noqa: SLF001 - its own module


os.register_at_fork(after_in_child=_forget_in_child)
