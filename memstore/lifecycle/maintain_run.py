"""Carry out what was planned: in an order, each action once, within a time limit, as far as there is room.

What cannot be done is said and left for the next run; nothing that fails keeps the rest from being done.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable

from memstore.engine.engine import Engine
from memstore.errors import MemstoreError
from memstore.lifecycle.action import Action, Withheld, order_actions
from memstore.lifecycle.commit import SourcesChangedError
from memstore.lifecycle.maintain_report import NO_ROOM, MaintainReport
from memstore.lifecycle.room import Room
from memstore.lifecycle.turn import is_wanted
from memstore.lifecycle.worker import ActionResult, Worker

_log = logging.getLogger(__name__)
Progress = Callable[[int, int], None]
"""Told how many actions of a round are done, and how many there are."""


class MaintainRun:
    """One run. Used by one thread, which holds the lifecycle lock.

    Attributes:
        report: what it did so far.

    Args:
        engine: the store.
        worker: performs actions.
        now_us: the moment for which all of it is done.
        time_limit_s: begin no action after so long.
        progress: see `Progress`.
        stop: asked before each action; begin none once it says so.
        on_done: told of each action as it is done.
    """

    def __init__(
        self,
        engine: Engine,
        worker: Worker,
        *,
        now_us: int,
        time_limit_s: float | None,
        progress: Progress | None,
        stop: Callable[[], bool] | None,
        on_done: Callable[[ActionResult], None] | None,
    ) -> None:
        self.report = MaintainReport()
        self._engine = engine
        self._worker = worker
        self._room = Room(engine)
        self._now_us = now_us
        self._progress = progress
        self._tried: set[object] = set()
        self._stop = stop
        self._on_done = on_done
        self._ends_s = None if time_limit_s is None else engine.clock.monotonic_s() + time_limit_s

    def attempt(self, action: Action, work: Callable[[], None]) -> None:
        """Something that is always done; a failure is reported and the rest goes on."""
        try:
            work()
        except MemstoreError as error:
            self.report.failed.append((action, error))

    def perform(self, actions: Iterable[Action]) -> bool:
        """Carry them out, each at most once in a run; whether another round makes sense."""
        fresh = [action for action in actions if _told_apart(action) not in self._tried]
        ordered = order_actions(fresh, short_of_space=any(not self._room.has(action) for action in fresh))
        done = 0
        for index, action in enumerate(ordered):
            self._tried.add(_told_apart(action))
            if isinstance(action, Withheld):
                self.report.skipped.append((action, action.why))
                continue
            if self._is_over():
                self.report.finished = False
                return False
            done += self._perform(action)
            if self._progress is not None:
                self._progress(index + 1, len(ordered))
        return done > 0

    def _perform(self, action: Action) -> bool:
        if not self._room.has(action) and not self._room.give_up_ballast(action):
            free, reserve = self._room.free_bytes(action), self._room.reserve_bytes
            why = f"{NO_ROOM}it needs {action.needs_bytes} bytes and a reserve of {reserve}, and {free} are free"
            self.report.skipped.append((action, why))
            return False
        try:
            result = self._worker.perform(action, now_us=self._now_us)
        except SourcesChangedError as changed:
            self.report.skipped.append((action, f"what it was planned on has changed: {changed}"))
            return False
        except MemstoreError as error:
            _log.warning("%s %s", action.sentence, error)
            self.report.failed.append((action, error))
            return False
        self.report.done.append(result)
        if self._on_done is not None:
            self._on_done(result)
        return True

    def _is_over(self) -> bool:
        timed_out = self._ends_s is not None and self._engine.clock.monotonic_s() >= self._ends_s
        stopped = self._stop is not None and self._stop()
        return timed_out or stopped or is_wanted(self._engine.storage, self._engine.paths)


def _told_apart(action: Action) -> object:
    """What an action is recognized by in the next round of a run, whatever its estimates are by then."""
    return (action.kind, action.agent, action.touched) if action.touched else action
