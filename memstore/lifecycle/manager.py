"""The lifecycle manager: says what is to be done (`plan`), and does it (`maintain`).

Policies decide, the worker does; this is where the one meets the other: one process at a time (``locks/lifecycle``), in
an order, within a time limit, with room on the disk. What cannot be done is said and left for the next run; nothing
that fails keeps the rest from being done.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

from memstore.engine.engine import Engine
from memstore.errors import MemstoreError, StorageError, UsageError
from memstore.format.names import tier_of
from memstore.lifecycle.action import (
    Action,
    AddShard,
    CleanUp,
    Expire,
    MergeLanes,
    MoveAgent,
    Pack,
    Purge,
    Withheld,
    order_actions,
)
from memstore.lifecycle.clock_watch import ClockWatch
from memstore.lifecycle.commit import SourcesChangedError
from memstore.lifecycle.growth import plan_growth
from memstore.lifecycle.holds import HoldsFile
from memstore.lifecycle.policy import plan_agent
from memstore.lifecycle.retention import Rules
from memstore.lifecycle.survey import Survey
from memstore.lifecycle.sweep import sweep
from memstore.lifecycle.turn import is_wanted, try_turn
from memstore.lifecycle.worker import ActionResult, Worker
from memstore.timestamps import US_PER_DAY, iso_text

_log = logging.getLogger(__name__)
ROUNDS_MAX = 4
"""What an action makes possible is done in the same run: warm, then cold, then retention; then nothing is left."""
DRAIN_WAIT_S = 5.0
"""How long other writers have to seal their lanes; what they do not is merged at the next run."""
AHEAD_US_MAX = US_PER_DAY
"""A plan for later than this does not remove by age: the clock does not say that the time has come."""
_PAST_US_MAX = 60_000_000
BUSY = Withheld(what="maintenance", why="another process is maintaining this store")
"""What a report says was skipped where another process, or another thread, is at it."""
NO_ROOM = "no room: "
"""How the reason begins why something was skipped for lack of space."""

Part = Literal["tiers", "retention", "growth"]
ALL_PARTS: frozenset[Part] = frozenset({"tiers", "retention", "growth"})
Progress = Callable[[int, int], None]


@dataclass(slots=True)
class MaintainReport:
    """What a run of maintenance did.

    Attributes:
        done: what was carried out, in order.
        skipped: what was not, and why: no room, a hold, another process that was faster.
        failed: what could not be, and the error; what it was to replace is still there.
        finished: False where the time limit ended the run, somebody waits for an erasure or an undelete, or another
            process is maintaining the store.
    """

    done: list[ActionResult] = field(default_factory=list)
    skipped: list[tuple[Action, str]] = field(default_factory=list)
    failed: list[tuple[Action, MemstoreError]] = field(default_factory=list)
    finished: bool = True

    def as_dict(self) -> dict[str, Any]:
        """For machines."""
        return {
            "finished": self.finished,
            "done": [
                {
                    **result.action.as_dict(),
                    "seconds": round(result.seconds, 6),
                    "bytes_before": result.bytes_before,
                    "bytes_after": result.bytes_after,
                    "records_done": result.records,
                }
                for result in self.done
            ],
            "skipped": [{**action.as_dict(), "skipped_because": why} for action, why in self.skipped],
            "failed": [
                {**action.as_dict(), "error": f"{type(error).__name__}: {error}"} for action, error in self.failed
            ],
        }


class Manager:
    """Plans and maintains one open store. Thread-safe: the lifecycle lock excludes threads too."""

    def __init__(
        self,
        engine: Engine,
        *,
        worker: Worker,
        survey: Survey,
        holds: HoldsFile,
        resume_erasures: Callable[[], object],
        let_go: Callable[[], None],
    ) -> None:
        self._engine = engine
        self._worker = worker
        self._survey = survey
        self._holds = holds
        self._resume_erasures = resume_erasures
        self._let_go = let_go
        self._rules = Rules(engine.settings)
        self._watch = ClockWatch(engine.storage, engine.paths, clock=engine.clock)

    def plan(self, now_us: int | None = None, *, trust_clock: bool = False) -> list[Action]:
        """What `maintain` would do at a moment, without doing anything.

        Args:
            now_us: the moment, now or later; now unless given.
            trust_clock: plan retention even where the clock has jumped.

        Raises:
            UsageError: the moment has passed.
            CorruptionError: HOLDS.json is damaged: nobody can tell what may be removed.
        """
        now_us = self._moment(now_us)
        return self._plan(now_us, ALL_PARTS, trust_clock=trust_clock, keep=False)

    def maintain(
        self,
        now_us: int | None = None,
        *,
        time_limit_s: float | None = None,
        trust_clock: bool = False,
        progress: Progress | None = None,
        parts: frozenset[Part] = ALL_PARTS,
        stop: Callable[[], bool] | None = None,
        on_done: Callable[[ActionResult], None] | None = None,
    ) -> MaintainReport:
        """Do what is to be done at a moment.

        Args:
            now_us: the moment, now or later; now unless given. For more than a day ahead of the clock nothing is
                removed by age, unless ``trust_clock``.
            time_limit_s: begin no action after so long; the next run goes on.
            trust_clock: let retention run although the clock has jumped.
            progress: told how many of the actions of this round are done, and how many there are.
            parts: what to look after.
            stop: asked before each action; begin none once it says so, as after ``time_limit_s``.
            on_done: told of each action as it is done.

        Raises:
            UsageError: the moment has passed.
            CorruptionError: HOLDS.json is damaged.
        """
        now_us = self._moment(now_us)
        engine = self._engine
        lock = try_turn(engine.storage, engine.paths)
        if lock is None:
            return MaintainReport(skipped=[(BUSY, BUSY.why)], finished=False)
        try:
            run = _Run(
                self._engine,
                self._worker,
                now_us=now_us,
                time_limit_s=time_limit_s,
                progress=progress,
                stop=stop,
                on_done=on_done,
            )
            engine.read_notes.flush()
            # Before anything moves: a resumed erasure has to tell by their arrival which records came after it.
            run.attempt(Withheld(what="an erasure that was begun", why="it was interrupted"), self._resume)
            run.attempt(MergeLanes(lanes=engine.inventory.lanes()["sealed"], bytes=0), self._merge)
            if "tiers" in parts:
                run.attempt(CleanUp(names=()), self._sweep)
            for _ in range(ROUNDS_MAX):
                actions = self._plan(now_us, parts, trust_clock=trust_clock, keep=True)
                if not run.perform(actions):
                    break
            return run.report
        finally:
            self._let_go()
            lock.close()

    def _sweep(self) -> None:
        sweep(self._engine)

    def _merge(self) -> None:
        self._engine.drain(timeout_s=DRAIN_WAIT_S)

    def _resume(self) -> None:
        self._resume_erasures()

    def _moment(self, now_us: int | None) -> int:
        clock_us = self._engine.clock.now_us()
        if now_us is None:
            return clock_us
        if now_us < clock_us - _PAST_US_MAX:
            raise UsageError(
                f"{iso_text(now_us)} has passed; a plan is for now or later (the clock says {iso_text(clock_us)})"
            )
        return now_us

    def _plan(self, now_us: int, parts: frozenset[Part], *, trust_clock: bool, keep: bool) -> list[Action]:
        holds = self._holds.load()
        actions: list[Action] = []
        states = []
        for state in self._survey.states():
            if isinstance(state, StorageError):
                actions.append(Withheld(what="everything for one agent", why=str(state)))
            else:
                states.append(state)
        newest = max((state.ingested for state in states), default=0) or None
        doubt = self._clock_doubt(now_us, newest, trust_clock=trust_clock, keep=keep)
        for state in states:
            actions += plan_agent(
                state,
                now_us=now_us,
                settings=self._engine.settings,
                rules=self._rules,
                holds=holds,
                clock_doubt=doubt,
            )
        if "growth" in parts:
            actions += plan_growth(self._engine.inventory.shards(), self._engine.settings)
        return [action for action in actions if _part_of(action) in parts]

    def _clock_doubt(self, now_us: int, newest_us: int | None, *, trust_clock: bool, keep: bool) -> str:
        """Why nothing may be removed by age now; empty where it may."""
        ahead_us = now_us - self._engine.clock.now_us()
        if ahead_us > AHEAD_US_MAX and not trust_clock:
            days = ahead_us / US_PER_DAY
            return f"the plan is for {days:.0f} days ahead of the clock (with trust_clock it is removed all the same)"
        try:
            verdict = self._watch.look(newest_us, trust_clock=trust_clock, keep=keep)
        except StorageError as error:
            return f"the state of the clock cannot be kept: {error}"
        return "" if verdict.trusted else verdict.why


class _Run:
    """One run of maintenance."""

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
        ordered = order_actions(fresh, short_of_space=any(not self._has_room(action) for action in fresh))
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
        if not self._has_room(action) and not self._give_up_ballast(action):
            free = self._free_bytes(action)
            why = f"{NO_ROOM}it needs {action.needs_bytes} bytes and a reserve of {self._reserve}, and {free} are free"
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

    @property
    def _reserve(self) -> int:
        return self._engine.settings.storage.lifecycle.reserve_bytes

    def _has_room(self, action: Action) -> bool:
        return not action.needs_bytes or self._free_bytes(action) >= action.needs_bytes + self._reserve

    def _free_bytes(self, action: Action) -> int:
        """Free space where the result goes."""
        return self._engine.storage.free_bytes(self._goes_to(action))

    def _goes_to(self, action: Action) -> str:
        """A directory of the file system that the result goes to."""
        storage, state = self._engine.storage, self._engine.catalog.state
        tier = action.tier if isinstance(action, Pack) else tier_of(next(iter(action.touched), ""))
        if tier == "cold":
            volume = self._engine.settings.storage.lifecycle.archive_volume
            # Before the first cold file is made there is no archive yet, only where it will be.
            for directory in (state.archive, volume if state.store.archive is None else None):
                if directory and storage.identify(directory) is not None:
                    return directory
        if action.agent:
            shard = os.path.dirname(state.homes(action.agent)[0])
            if storage.identify(shard) is not None:
                return shard
        return self._engine.paths.root

    def _give_up_ballast(self, action: Action) -> bool:
        """Make room with the reserve that is kept for this; what the action frees restores it."""
        storage, path = self._engine.storage, self._engine.paths.ballast
        ballast = storage.identify(path)
        if ballast is None or action.frees_bytes <= 0:
            return False
        target = storage.identify(self._goes_to(action))
        if target is None or target.device != ballast.device:
            return False  # it would make room where none is needed
        if self._free_bytes(action) + ballast.size_bytes < action.needs_bytes:
            return False
        _log.warning("%s: the disk is nearly full; giving up the ballast to make room", path)
        storage.unlink(path)
        return self._free_bytes(action) >= action.needs_bytes


def _told_apart(action: Action) -> object:
    """What an action is recognized by in the next round of a run, whatever its estimates are by then."""
    return (action.kind, action.agent, action.touched) if action.touched else action


def _part_of(action: Action) -> Part:
    if isinstance(action, AddShard | MoveAgent) or (isinstance(action, Withheld) and not action.agent):
        return "growth"
    return "retention" if isinstance(action, Expire | Purge) else "tiers"
