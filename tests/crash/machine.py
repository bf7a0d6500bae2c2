"""A simulated machine for crash tests: a storage that can lose its power, engines on it, and the journal of it all.

`explore` runs a scenario with the power cut at call after call, recovers, and compares with the oracle. Everything
hangs on the case's number and seed; a failure names the command that replays it.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from random import Random
from typing import Any

from oracle import Journal, check
from support import QUIET, T0_US, make_engine, put, put_many

from memstore.clock import ManualClock
from memstore.engine.engine import Engine
from memstore.fs.storage import Storage
from memstore.testing.crashing import CrashingStorage, PowerCut

ROOT = "/store"
SECOND_VOLUME = "/mnt/two"
BACKUP_VOLUME = "/mnt/backup"
REPLAY = "POWER_CUT_SEED"
ROUNDS = float(os.environ.get("POWER_CUT_ROUNDS", "1"))
"""How many cases are run: a share of the default, or a multiple."""

Scenario = Callable[["Machine"], None]


class Machine:
    """One machine through all its crashes.

    Attributes:
        storage: its disk as it is now; a new one after each crash.
        journal: what was asked of the store.
        clock: stands still but for a second at each start.
        points: of its backup repository, those that were acknowledged, each with the ids it has to hold.
        wrap: what stands between its engines and its disk, if anything does.
        chance: of the case's seed.

    Args:
        seed: what `chance` is made from.
        settings: of its engines.
        ignores_sync: until the first crash, see `Power.ignores_sync`: for engines that forget to sync.
        storage: a disk that was written before; empty unless given.
        journal: of that disk.
        clock: of that machine.
    """

    def __init__(
        self,
        seed: int | str,
        *,
        settings: dict[str, Any] | None = None,
        ignores_sync: Callable[[str, str], bool] | None = None,
        storage: CrashingStorage | None = None,
        journal: Journal | None = None,
        clock: ManualClock | None = None,
    ) -> None:
        self.chance = Random(seed)
        self.settings = QUIET if settings is None else settings
        self.journal = journal or Journal()
        self.clock = clock or ManualClock(T0_US)
        self.storage = storage or CrashingStorage(mounts=[SECOND_VOLUME, BACKUP_VOLUME])
        self.storage.power.on_cut = self._power_cut
        self.storage.power.ignores_sync = ignores_sync
        self.points: dict[str, frozenset[str]] = {}
        self.wrap: Callable[[CrashingStorage], Storage] | None = None
        self._engines: list[Engine] = []

    def engine(self, *, background: bool = False) -> Engine:
        """A new process's engine, watched by the journal.

        Args:
            background: its maintenance thread works; left out, what happens hangs on the scenario alone.
        """
        storage = self.storage if self.wrap is None else self.wrap(self.storage)
        engine = make_engine(ROOT, storage, settings=self.settings, clock=self.clock)
        if not background:
            engine.maintenance._run = lambda _: None
        self._engines.append(engine)
        return self.journal.watch(engine)

    def engine_of(self, root: str) -> Engine:
        """A reader of another store on the same disk: a point of a backup."""
        engine = make_engine(root, self.storage, settings=self.settings, clock=self.clock, read_only=True, create=False)
        self._engines.append(engine)
        return engine

    def kill(self, engine: Engine) -> None:
        """The engine's process is killed: its descriptors close, nothing is sealed."""
        self._engines.remove(engine)
        _stop(engine)

    def run(self, scenario: Scenario, *, cut_at: int = 0) -> bool:
        """Run a scenario; whether the power was cut, instead of the ``cut_at``-th changing call."""
        if cut_at:
            self.storage.power.at_call(cut_at)
        with _quiet_deaths():
            try:
                scenario(self)
            except PowerCut:
                pass
            finally:
                for engine in self._engines if not self.storage.power.on else ():
                    _stop(engine)
        return not self.storage.power.on

    def crash(self) -> None:
        """The power goes, if it has not yet, and comes back."""
        self.die()
        self.come_back(self.chance.getrandbits(64))

    def die(self) -> None:
        """The power goes, if it has not yet."""
        with _quiet_deaths():
            self.storage.power.cut()
            for engine in self._engines:
                _stop(engine)
        self._engines = []

    def found(self, seed: int) -> Machine:
        """One of the machines that may be found after `die`, with a journal and a clock of its own."""
        storage = self.storage.crash(seed)
        storage.capacity_bytes = None
        clock = ManualClock(self.clock.now_us() + 1_000_000)
        found = Machine(seed, settings=self.settings, storage=storage, journal=self.journal.copy(), clock=clock)
        found.points = dict(self.points)
        return found

    def come_back(self, seed: int) -> None:
        """The power is there again; the disk holds what the seed says."""
        self.storage = self.storage.crash(seed)
        self.journal.power_on()
        self.storage.capacity_bytes = None  # if it was full, somebody has made room
        self.storage.power.on_cut = self._power_cut
        self.clock.advance(1)

    def _power_cut(self) -> None:
        """Who waits for a thread that is gone has gone himself."""
        self.journal.power_cut()
        for engine in list(self._engines):
            committer = engine._committer
            if committer is not None:
                with committer._mutex:
                    committer._closing = True
                    committer._work.notify_all()
                    committer._let_on()

    def recover(self, *, crashes_max: int = 2) -> None:
        """Crash, start again, compare, go on working; now and then the power goes again meanwhile."""
        for _ in range(self.chance.randint(0, crashes_max)):
            self.crash()
            if not self.run(go_on, cut_at=self.chance.randint(1, 60)):
                break
        self.crash()
        assert not self.run(go_on)
        self.crash()
        check(self.engine(), self.journal)


def go_on(machine: Machine) -> None:
    """What a store does after a power cut: it is as it should be, before a merge, after it, and with more records."""
    engine = machine.engine()
    check(engine, machine.journal)
    report = engine.drain(timeout_s=0)
    assert report.pending == [], f"lanes that cannot be merged: {report.pending}"
    check(engine, machine.journal)
    put(engine, "a", "goes on")
    put_many(engine, [{"agent_id": agent, "content": "goes on"} for agent in ("b", "new")])
    check(engine, machine.journal)
    assert engine.drain(timeout_s=0).pending == []
    check(engine, machine.journal)
    engine.close()
    # Another process without anything in its caches.
    check(machine.engine(), machine.journal)


def calls_of(scenario: Scenario, **machine: Any) -> int:
    """How many changing calls a scenario makes; the same at every run but for threads."""
    sample = Machine(0, **machine)
    assert not sample.run(scenario)
    calls = sample.storage.power.calls
    check(sample.engine(), sample.journal)
    return calls


def explore(
    scenario: Scenario, *, cases: int, after: Callable[[Machine], None] = Machine.recover, **machine: Any
) -> None:
    """Run a scenario with the power cut at every changing call, or at some, and recover from each.

    Args:
        scenario: what is done until the power goes; the same calls at every run.
        cases: how many cuts, spread evenly over all calls; more than there are calls, and each is cut more than once.
        after: what follows the power cut.
        machine: arguments of `Machine`.
    """
    calls = calls_of(scenario, **machine)
    count = _count(cases)
    cuts = [1 + number * calls // count if count < calls else 1 + number % calls for number in range(count)]
    _run_cases(scenario, cuts, after, machine)


def explore_at_random(
    scenario: Scenario,
    *,
    cases: int,
    calls_max: int,
    after: Callable[[Machine], None] = Machine.recover,
    **machine: Any,
) -> None:
    """Like `explore` for a scenario that draws from ``Machine.chance`` what it does, so that no run is like another."""
    chance = Random(cases)
    _run_cases(scenario, [chance.randint(1, calls_max) for _ in range(_count(cases))], after, machine)


def _count(cases: int) -> int:
    return max(int(cases * ROUNDS), 1)


def _run_cases(
    scenario: Scenario, cuts: list[int], after: Callable[[Machine], None], arguments: dict[str, Any]
) -> None:
    replay = os.environ.get(REPLAY)
    if replay is not None:
        cut_at, _, seed = replay.partition(":")
        _run_case(scenario, int(cut_at), int(seed), after, arguments)
        return
    for number, cut_at in enumerate(cuts):
        _run_case(scenario, cut_at, number, after, arguments)


def _run_case(
    scenario: Scenario, cut_at: int, seed: int, after: Callable[[Machine], None], arguments: dict[str, Any]
) -> None:
    machine = Machine(f"{cut_at}:{seed}", **arguments)
    try:
        machine.run(scenario, cut_at=cut_at)
        after(machine)
    except BaseException as error:
        test = os.environ.get("PYTEST_CURRENT_TEST", "").partition(" ")[0]
        error.add_note(f"the power was cut at call {cut_at}; to replay: {REPLAY}={cut_at}:{seed} pytest '{test}'")
        raise


def _stop(engine: Engine) -> None:
    """End an engine's threads as the end of its process does, and close what its writer holds."""
    engine.maintenance._closing = True
    engine.maintenance._bell.ring()
    if engine.maintenance._thread is not None:
        engine.maintenance._thread.join()
    committer = engine._committer
    if committer is not None:
        committer.close()
        lane = committer.release_lane()
        for each in (*engine.maintenance._own, *([] if lane is None else [lane])):
            each.close()


@contextmanager
def _quiet_deaths() -> Iterator[None]:
    """Threads that the power cut ends have nothing to report."""
    report = threading.excepthook

    def hook(death: threading.ExceptHookArgs) -> None:
        if not issubclass(death.exc_type, PowerCut):
            report(death)

    threading.excepthook = hook
    try:
        yield
    finally:
        threading.excepthook = report
