"""The lifecycle manager: says what is to be done (`plan`), and does it (`maintain`).

Policies decide, the worker does; this is where the one meets the other: one process at a time (``locks/lifecycle``), in
rounds, for what is done makes other things due.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from memstore.engine.engine import Engine
from memstore.errors import StorageError, UsageError
from memstore.format.forgotten import text_hash
from memstore.lifecycle.action import (
    Action,
    AddShard,
    CleanUp,
    Expire,
    MergeLanes,
    MoveAgent,
    Purge,
    Withheld,
)
from memstore.lifecycle.clock_watch import ClockWatch
from memstore.lifecycle.growth import plan_growth
from memstore.lifecycle.holds import HoldsFile
from memstore.lifecycle.maintain_report import BUSY, MaintainReport
from memstore.lifecycle.maintain_run import MaintainRun, Progress
from memstore.lifecycle.policy import plan_agent
from memstore.lifecycle.retention import Rules
from memstore.lifecycle.survey import Survey
from memstore.lifecycle.sweep import sweep
from memstore.lifecycle.turn import try_turn
from memstore.lifecycle.worker import ActionResult, Worker
from memstore.timestamps import US_PER_DAY, iso_text

ROUNDS_MAX = 4
"""What an action makes possible is done in the same run: warm, then cold, then retention; then nothing is left."""
DRAIN_WAIT_S = 5.0
"""How long other writers have to seal their lanes; what they do not is merged at the next run."""
AHEAD_US_MAX = US_PER_DAY
"""A plan for later than this does not remove by age: the clock does not say that the time has come."""
_PAST_US_MAX = 60_000_000
Part = Literal["tiers", "retention", "growth"]
ALL_PARTS: frozenset[Part] = frozenset({"tiers", "retention", "growth"})


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
            run = MaintainRun(
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
        erasing = self._engine.forgotten.unfinished()
        for state in states:
            if text_hash(state.agent) in erasing:
                # Its MANIFEST has to go on telling what was there when the erasure began.
                why = "its erasure was begun and waits, be it for a hold to be removed"
                actions.append(Withheld(agent=state.agent, what="everything", why=why))
                continue
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


def _part_of(action: Action) -> Part:
    if isinstance(action, AddShard | MoveAgent) or (isinstance(action, Withheld) and not action.agent):
        return "growth"
    return "retention" if isinstance(action, Expire | Purge) else "tiers"
