"""``memstore daemon``: maintain a store in the background of everything else, until it is told to stop."""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import sys
import threading
from collections.abc import Iterator
from typing import Any

from memstore.cli.arguments import add_command
from memstore.cli.exit_codes import OK, PIPE_CLOSED, exit_code_of
from memstore.cli.json_log import JsonLog
from memstore.cli.opening import NotesHandler, open_for_writing
from memstore.cli.signals import StopSignals
from memstore.clock import WallClock
from memstore.errors import LockedError, UsageError
from memstore.format.names import StorePaths
from memstore.fs.local import LocalStorage
from memstore.fs.lock import try_lock_file
from memstore.lifecycle.heartbeat import Heartbeat, read_heartbeat
from memstore.lifecycle.scheduler import LifecycleScheduler
from memstore.store import MemStore, lifecycle_jobs
from memstore.timestamps import iso_text

_log = logging.getLogger(__name__)
_OUTPUT_CLOSED = "output closed"
_DONE = "done"
_DESCRIPTION = """\
Maintain the store until SIGTERM or Ctrl-C: merge, pack, remove what retention says, clean up, each at its interval
(`scheduling` in the settings). What was missed while no daemon ran is caught up once. One JSON object a line tells what
is done; logs/runtime/heartbeat.json in the store is replaced every few seconds and removed at the end. The action in
hand is finished before the daemon ends; a second signal ends it at once, and nothing is lost by that either."""


def add_parser(commands: Any) -> None:
    """Declare the command."""
    parser = add_command(commands, "daemon", run, "maintain the store until told to stop", description=_DESCRIPTION)
    parser.add_argument("--once", action="store_true", help="run every job once, one after another, and exit")
    parser.add_argument("--no-retention", action="store_true", help="remove nothing by age; another process does")


def run(args: argparse.Namespace) -> int:
    """Run until stopped; with ``--once`` the code of the first job that failed."""
    if args.output not in (None, "ndjson"):
        raise UsageError("a daemon prints JSON, one object a line: leave -o out")
    with StopSignals() as signals, _telling(signals), open_for_writing(args, create=False) as store:
        return _Daemon(store, signals, retention=not args.no_retention).run(once=args.once)


@contextlib.contextmanager
def _telling(signals: StopSignals) -> Iterator[None]:
    """All that memstore logs goes to standard output as JSON, and not to standard error as notes."""
    log = logging.getLogger("memstore")
    stream = getattr(sys.stdout.buffer, "raw", sys.stdout.buffer)  # unbuffered: a line that fails is not tried again
    handler = JsonLog(stream, on_closed=lambda: signals.wake(_OUTPUT_CLOSED))
    notes = [each for each in log.handlers if isinstance(each, NotesHandler)]
    level = log.level
    for each in notes:
        log.removeHandler(each)
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    try:
        yield
    finally:
        log.setLevel(level)
        log.removeHandler(handler)
        for each in notes:
            log.addHandler(each)


class _Daemon:
    """One run of the daemon on an open store."""

    def __init__(self, store: MemStore, signals: StopSignals, *, retention: bool) -> None:
        self._clock = WallClock()
        self._storage = LocalStorage()
        self._paths = StorePaths(store.root)
        self._heartbeat = Heartbeat(self._storage, self._paths)
        self._signals = signals
        self._every_s = store.settings.scheduling.heartbeat_s
        self._jobs = lifecycle_jobs(store, retention=retention)
        self._scheduler = LifecycleScheduler(
            self._jobs.jobs(heartbeat=self._beat), storage=self._storage, paths=self._paths, clock=self._clock
        )
        self._started = ""

    def run(self, *, once: bool) -> int:
        """Hold the daemon's lock and do the work."""
        with self._only_daemon():
            self._heartbeat.clean()
            self._started = iso_text(self._clock.now_us())
            _tell("started", root=self._paths.root, pid=os.getpid(), jobs=list(self._scheduler.status()), once=once)
            try:
                reason = self._once() if once else self._until_stopped()
            finally:
                self._scheduler.close()
                self._heartbeat.remove()
            _tell("stopped", reason=reason, **self._jobs.figures())
        if reason == _OUTPUT_CLOSED:
            return PIPE_CLOSED
        failed_with = self._scheduler.failed_with
        return exit_code_of(failed_with) if once and failed_with is not None else OK

    def _until_stopped(self) -> str:
        self._scheduler.start()
        reason = self._signals.wait()
        _tell("stopping", reason=reason)
        return reason

    def _once(self) -> str:
        """The jobs run in a thread, so that a signal finds the main thread waiting for it."""

        def run_all() -> None:
            self._scheduler.run_all()
            self._signals.wake(_DONE)

        thread = threading.Thread(target=run_all, name="memstore-once", daemon=True)
        thread.start()
        reason = self._signals.wait()
        self._scheduler.close()
        thread.join()
        return reason

    @contextlib.contextmanager
    def _only_daemon(self) -> Iterator[None]:
        """Hold ``locks/daemon``.

        Raises:
            LockedError: another daemon maintains this store.
        """
        lock = try_lock_file(self._storage, self._paths.lock("daemon"))
        if lock is None:
            other = read_heartbeat(self._storage, self._paths) or {}
            who = f" (process {other['pid']}, since {other['started']})" if {"pid", "started"} <= other.keys() else ""
            raise LockedError(f"{self._paths.root}: another daemon{who} maintains this store; one is enough")
        try:
            yield
        finally:
            lock.close()

    def _beat(self, _stop: threading.Event) -> None:
        self._heartbeat.beat(
            {
                "pid": os.getpid(),
                "time": iso_text(self._clock.now_us()),
                "every_s": self._every_s,
                "started": self._started,
                "jobs": self._scheduler.status(),
                "counters": self._jobs.figures(),
                "errors": {n: job["error"] for n, job in self._scheduler.status().items() if job["error"]},
            }
        )


def _tell(event: str, **fields: Any) -> None:
    _log.info("%s", event, extra={"event": event, "fields": fields})
