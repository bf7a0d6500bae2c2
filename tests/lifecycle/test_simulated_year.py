"""A year of a store in a minute: agents write, late records come, records are forgotten and erased, disks fill up,
clocks jump, processes are killed behind every action and at any call, and a dict keeps count.

Each day somebody appends and one of two openings maintains, or a process of its own that does not live to the end of
it; the dict says of each record whether it must be there, must be gone, or may be either while its period is ending.
``YEAR_ROUNDS`` runs more years with other seeds, ``YEAR_SCALE`` more records.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from lifecycle_support import (
    DAY_S,
    Lines,
    agent_files,
    assert_gone,
    assert_holds,
    assert_no_orphans,
    at,
    exported,
    failures,
    iso,
    lines_in,
    lines_of,
    real,
    tiers,
)
from support import NO_CACHES, T0_US
from year_model import BUSY, HELD, MACHINE, QUIET_ONES, SETTINGS, make_record, make_state, period_days

from memstore import HeldError, MemStore, NotFoundError
from memstore.clock import ManualClock
from memstore.fs.local import LocalStorage
from memstore.ids import parse_id
from memstore.lifecycle.action import Withheld
from memstore.testing.faulty import CHANGING_KINDS, FaultyStorage
from memstore.timestamps import US_PER_DAY

pytestmark = pytest.mark.first

ROUNDS = int(os.environ.get("YEAR_ROUNDS", "1"))
SCALE = int(os.environ.get("YEAR_SCALE", "1"))
SLACK_DAYS = 20.0
"""A period may end so many days before its record must be gone: late arrivals of the same frame count, too."""


@dataclass
class Known:
    """A record, and what the dict knows of it."""

    line: bytes
    fields: dict[str, Any]
    arrived_us: int
    forgotten: bool = False
    gone: bool = False
    held: bool = False

    erased: bool = False
    in_doubt: bool = False  # somebody was killed while forgetting or erasing it

    @property
    def is_there(self) -> bool:
        return not (self.forgotten or self.gone or self.erased or self.in_doubt)

    def period_days(self, agent: str) -> tuple[float, float] | None:
        """At least and at most how many days it is kept; None: for ever."""
        return period_days(agent, self.fields)


@dataclass
class Year:
    """Two openings, one that only watches, and the dict."""

    root: str
    chance: random.Random
    storage: FaultyStorage
    clock: ManualClock = field(default_factory=lambda: ManualClock(T0_US))
    known: dict[str, dict[str, Known]] = field(default_factory=dict)
    last_arrival: dict[tuple[str, str], int] = field(default_factory=dict)
    stores: list[MemStore] = field(default_factory=list)
    sources: int = 0
    outage_us: int = 0
    kills: int = 0
    boundaries: int = 0

    def open(self) -> None:
        self.stores = [
            MemStore(self.root, settings=SETTINGS, durability="os", clock=self.clock),
            MemStore(
                self.root,
                settings={**SETTINGS, **{f"storage.caching.{k}": v for k, v in NO_CACHES.items()}},
                durability="os",
                clock=self.clock,
            ),
            MemStore(self.root, read_only=True, settings=SETTINGS, clock=self.clock),
        ]

    def close(self) -> None:
        for store in self.stores:
            store.close()

    @property
    def day(self) -> float:
        return (self.clock.now_us() - T0_US) / US_PER_DAY

    # -- what agents do

    def take(self, store: MemStore, records: list[dict[str, Any]]) -> None:
        ids = store.append_many(records)
        for record, memory_id in zip(records, ids, strict=True):
            agent = record["agent_id"]
            (line,) = lines_of(store, agent, [memory_id]).values()
            now_us = self.clock.now_us()
            self.known.setdefault(agent, {})[memory_id] = Known(line, record, now_us)
            self.last_arrival[agent, month_of(memory_id)] = now_us

    def record(self, agent: str, **fields: Any) -> dict[str, Any]:
        return make_record(self.chance, agent, **fields)

    def write_a_day(self, store: MemStore, day: int) -> None:
        chance = self.chance
        self.take(store, [self.record(BUSY) for _ in range(chance.randrange(2, 8) * SCALE)])
        for quiet in QUIET_ONES:
            if chance.random() < 0.3:
                self.take(store, [self.record(quiet)])
        if chance.random() < 0.4:
            self.take(store, [self.record(HELD, importance="MEDIUM", memory_type="INTERACTION")])
        self.take(store, [make_state(chance, day, importance) for importance in ["LOW", "MEDIUM", "MEDIUM"] * SCALE])
        if chance.random() < 0.15:
            self.write_late(store)

    def write_late(self, store: MemStore) -> None:
        """Records of days and months ago, now and then one that has a source; the same source twice is one record."""
        agent = self.chance.choice([BUSY, MACHINE, *QUIET_ONES])
        days = [self.day - self.chance.choice([1, 2, 9, 20, 40, 100]) + self.chance.random() / 2 for _ in range(3)]
        records = [self.record(agent, timestamp_utc=iso(max(each, 0.0))) for each in days]
        for record in records:
            self.sources += 1
            record["source_id"] = f"source-{self.sources}"
        self.take(store, records)
        outcome = store.import_many(records)
        assert outcome.added == [False] * 3

    def forget_some(self, store: MemStore) -> None:
        agent = self.chance.choice([BUSY, MACHINE, *QUIET_ONES])
        there = [i for i, known in self.known.get(agent, {}).items() if known.is_there]
        if not there:
            return
        ids = self.chance.sample(there, min(2, len(there)))
        report = store.forget(ids)
        for memory_id in report.hidden:
            self.known[agent][memory_id].forgotten = True
        for memory_id in report.unknown:
            assert self.may_be_gone(agent, memory_id), memory_id

    def erase_some(self, store: MemStore) -> None:
        """A few records of an agent, or all of a quiet one; of what is held, nothing."""
        agent = self.chance.choice([BUSY, MACHINE, HELD, *QUIET_ONES])
        records = self.known.get(agent, {})
        there = [i for i, known in records.items() if known.is_there]
        if not there:
            return
        whole = agent in QUIET_ONES and self.chance.random() < 0.5
        ids = there if whole else self.chance.sample(there, min(3, len(there)))
        if agent == HELD and any(known.held for known in records.values()):
            with pytest.raises(HeldError):
                store.erase(ids=ids)
            return

        def erase(by: MemStore) -> None:
            with contextlib.suppress(NotFoundError):  # all that the agent had has expired since
                receipt = by.erase(agent=agent) if whole else by.erase(ids=ids)
                assert receipt.verified, receipt.as_dict()

        was_killed = False
        if self.chance.random() < 0.5:
            erase(store)
        else:
            was_killed = self.killed(erase, at_call=self.chance.randrange(1, 250))
        for memory_id in records if whole else ids:
            if was_killed:
                records[memory_id].in_doubt |= not (records[memory_id].gone or records[memory_id].forgotten)
            else:
                records[memory_id].erased = True

    # -- processes that are killed

    def killed(self, act: Callable[[MemStore], object], *, at_call: int = 0) -> bool:
        """Let a process of its own do something, and kill it instead of a changing call of its storage.

        Returns:
            Whether it was killed; otherwise it has done what it should.
        """
        told, tells = os.pipe()
        child = os.fork()
        if child == 0:
            self.live_as_a_child(act, at_call, tells)
        os.close(tells)
        with open(told, encoding="utf-8") as pipe:
            complaint = pipe.read()
        status = os.waitpid(child, 0)[1]
        assert not complaint, complaint
        self.kills += os.WIFSIGNALED(status)
        return os.WIFSIGNALED(status)

    def live_as_a_child(self, act: Callable[[MemStore], object], at_call: int, tells: int) -> None:
        """Never returns."""
        calls = 0

        def count(kind: str, _path: str) -> None:
            nonlocal calls
            calls += kind in CHANGING_KINDS
            if calls == at_call:
                os.kill(os.getpid(), signal.SIGKILL)

        try:
            store = MemStore(self.root, settings=SETTINGS, durability="os", clock=self.clock)
            self.storage.before_call = count if at_call else None
            act(store)
            self.storage.before_call = None
            store.close()
        except BaseException:  # noqa: BLE001 - the parent is told
            os.write(tells, traceback.format_exc().encode())
        finally:
            os._exit(0)

    def settle(self) -> None:
        """What nobody was told the end of is as it is found, once a run of maintenance has gone on with it."""
        for agent, records in self.known.items():
            doubtful = {i: known for i, known in records.items() if known.in_doubt}
            there = set(self.stores[1].agent(agent).lines()) if doubtful else set()
            for known in doubtful.values():
                known.in_doubt = False
                known.erased = known.line not in there

    # -- what must be

    def may_be_gone(self, agent: str, memory_id: str) -> bool:
        known = self.known[agent][memory_id]
        period = known.period_days(agent)
        if known.held or period is None:
            return False
        return max(parse_id(memory_id).time_us, known.arrived_us) + period[0] * US_PER_DAY <= self.clock.now_us()

    def must_be_gone(self, agent: str, memory_id: str) -> bool:
        known = self.known[agent][memory_id]
        period = known.period_days(agent)
        if known.held or period is None:
            return False
        begun_us = max(self.last_arrival[agent, month_of(memory_id)], self.outage_us)
        return begun_us + (period[1] + SLACK_DAYS) * US_PER_DAY <= self.clock.now_us()

    def compare(self, told: str) -> None:
        """What is there in each opening is the same, has all that must be and nothing that must not."""
        expected: Lines = {}
        gone: list[str] = []
        for agent, records in self.known.items():
            there = set(self.stores[1].agent(agent).lines())
            expected[agent] = {}
            for memory_id, known in records.items():
                if known.forgotten or known.gone or known.erased:
                    assert known.line not in there, f"{told}: {memory_id} was gone and is back"
                elif known.line not in there:
                    assert self.may_be_gone(agent, memory_id), f"{told}: {memory_id} is lost: {known}"
                    known.gone = True
                else:
                    assert not self.must_be_gone(agent, memory_id), f"{told}: {memory_id} outstays its time: {known}"
                    expected[agent][memory_id] = known.line
                if known.forgotten or known.gone or known.erased:
                    gone.append(memory_id)
        for number, store in enumerate(self.stores):
            assert_holds(store, expected, told=f"{told}, opening {number}")
            assert_gone(store, gone[-50:], told=told)
        assert len({exported(store) for store in self.stores}) == 1, told


def month_of(memory_id: str) -> str:
    return memory_id.rsplit("_", 3)[1][:6]


def read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


@pytest.fixture
def storage(monkeypatch: pytest.MonkeyPatch) -> FaultyStorage:
    made = FaultyStorage(LocalStorage())
    monkeypatch.setattr("memstore.store.LocalStorage", lambda: made)
    for sync in ("fsync", "fdatasync"):  # no power is cut here, and the syncs would take two thirds of the time
        monkeypatch.setattr(f"os.{sync}", lambda _: None)
    return made


@pytest.fixture(autouse=True)
def _quick_ticks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A drain waits for the other opening to look for its SEAL mark; here it looks all the time."""
    monkeypatch.setattr("memstore.engine.maintenance.TICK_S", 0.005)


def live_through(year: Year) -> None:
    chance, clock = year.chance, year.clock
    held_until = 150
    for day in range(365):
        writer = chance.choice(year.stores[:2])
        year.write_a_day(writer, day)
        if chance.random() < 0.3:
            year.forget_some(chance.choice(year.stores[:2]))
        if chance.random() < 0.1:
            year.erase_some(chance.choice(year.stores[:2]))
        if day == 20:
            year.stores[0].add_hold("court", agent=HELD, reason="case 12")
        if day < held_until:
            for known in year.known.get(HELD, {}).values():
                known.held = day >= 20
        if day == held_until:
            year.stores[1].remove_hold("court")
            year.outage_us = clock.now_us()
            for known in year.known[HELD].values():
                known.held = False
        keeper = chance.choice(year.stores[:2])
        if 200 <= day < 206:
            keep_with_a_full_disk(year, keeper)
        elif day in (90, 270):
            keep_with_a_wrong_clock(year, keeper)
        elif chance.random() < 0.2:
            report = keeper.maintain(time_limit_s=0)
            assert report.done == []
        else:
            if chance.random() < 0.5:
                kill_those_who_keep(year)
            report = keeper.maintain()
            year.settle()
            assert failures(report) == [], day
            assert report.finished
            left = real(keeper.plan())
            assert left == [], (day, left, report.as_dict())
        clock.advance(DAY_S - chance.random() * 3600)
        if day % 30 == 29:
            year.stores[0].maintain()
            year.settle()
            year.compare(f"day {day}")
            check_disk(year, f"day {day}")
        if day == 180:  # another process takes over
            year.close()
            year.open()


def kill_those_who_keep(year: Year) -> None:
    """One process after the other maintains, and is killed behind its first action or at any call."""
    at_random = year.chance.random() < 0.3

    def keep(store: MemStore) -> None:
        store._lifecycle.manager.maintain(on_done=lambda _: os.kill(os.getpid(), signal.SIGKILL))

    if at_random:
        year.killed(lambda store: store.maintain(), at_call=year.chance.randrange(1, 120))
    else:
        while year.killed(keep):
            year.boundaries += 1


def keep_with_a_full_disk(year: Year, keeper: MemStore) -> None:
    """No byte can be written below memory/; what fails says why, and nothing is lost."""
    waiting = real(keeper.plan())
    year.storage.fill(path="*/memory/*")
    report = keeper.maintain()
    assert [r.action.kind for r in report.done if r.action.needs_bytes] == []
    for error in (error for _, error in report.failed):
        assert "no space left" in str(error)
    assert not waiting or report.failed
    year.storage.disarm()
    year.outage_us = year.clock.now_us()
    year.storage.answers["free_bytes"] = 0
    report = keeper.maintain()
    assert [r.action.kind for r in report.done if r.action.needs_bytes] == []
    assert [action.kind for action, _ in report.failed] in ([], ["merge_lanes"])  # a merge asks for room, too
    assert all("are free" in str(error) for _, error in report.failed)
    assert all("are free" in why for action, why in report.skipped if not isinstance(action, Withheld))
    del year.storage.answers["free_bytes"]
    year.compare("full disk")


def keep_with_a_wrong_clock(year: Year, keeper: MemStore) -> None:
    """Set 40 days forward and back again: nothing is removed by it, nor for a day after."""
    counts = {agent: keeper.agent(agent).count() for agent in year.known}
    keeper.maintain()
    year.compare("right clock")
    counts = {agent: keeper.agent(agent).count() for agent in year.known}
    withheld = 0
    for step in (40, -40):
        year.clock.step(step * DAY_S)
        report = keeper.maintain()
        assert not {"expire", "purge"} & {r.action.kind for r in report.done}
        assert failures(report) == []
        withheld += sum("clock is not trusted" in why for action, why in report.skipped)
        assert {agent: keeper.agent(agent).count() for agent in year.known} == counts
    assert withheld  # not at each step: once it is set back, nothing need be due
    year.outage_us = at(year.day + 41)  # what was merged meanwhile was dated wrongly
    year.clock.advance(3600)


def check_disk(year: Year, told: str) -> None:
    keeper = year.stores[0]
    assert_no_orphans(keeper, told=told)
    erased = [i.encode() for records in year.known.values() for i, known in records.items() if known.erased]
    for directory, _, names in os.walk(year.root):
        for path in (os.path.join(directory, name) for name in names):
            data = b"\n".join(lines_in(path)) if path.endswith((".jsonl", ".zst")) else read(path)
            assert not [i for i in erased if i in data], f"{told}: {path} holds what was erased"
    files = agent_files(year.root)
    assert files["temporary"] == files["other"] == [], told
    hot_days = 7 + 2
    agents = len(year.known)
    assert len(files["hot"]) <= agents * (hot_days + 3), told
    # Warm: each agent has few files a month, but for those that are worth a frame alone.
    assert len(files["warm"]) <= agents * 20 * SCALE, (told, len(files["warm"]))
    assert len(files["cold"]) <= agents * 13, told
    assert len(files["manifest"]) <= agents, told
    assert sum(map(os.path.getsize, files["manifest"])) <= agents * 128 * 1024, told


@pytest.mark.parametrize("number", range(ROUNDS))
def test_a_year_loses_nothing_keeps_nothing_and_stays_small(tmp_path: Any, storage: FaultyStorage, number: int) -> None:
    year = Year(str(tmp_path / "store"), random.Random(f"year {number}"), storage)
    year.open()
    live_through(year)
    year.stores[0].maintain()
    year.compare("the end")
    check_disk(year, "the end")
    assert {"hot", "warm", "cold"} <= tiers(year.stores[0]).keys()
    figures = year.stores[0].tiers()
    cold = next(each for each in figures["tiers"] if each["tier"] == "cold")
    assert cold["bytes"] < cold["raw_bytes"] / 3
    assert figures["repeats"]["records"] > 100
    assert year.boundaries > 100
    assert year.kills > year.boundaries + 20
    assert sum(known.erased for records in year.known.values() for known in records.values()) > 20
    # A year without writing: all that may go has gone, and what may not has not.
    year.clock.step(0)
    for _ in range(14):
        year.clock.advance(28 * DAY_S)
        year.stores[1].maintain()
        assert real(year.stores[1].plan()) == []
    year.clock.advance(3 * DAY_S)
    year.stores[1].maintain()
    year.compare("a year later")
    for agent, records in year.known.items():
        for memory_id, known in records.items():
            if known.period_days(agent) is not None and not (known.forgotten or known.erased):
                period = known.period_days(agent)
                assert known.gone or (period is not None and period[1] > 300), memory_id
    assert agent_files(year.root)["hot"] == []
    year.close()
