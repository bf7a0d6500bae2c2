"""A year of a store in a minute: agents write, late records come, disks fill up, clocks jump, and a dict keeps count.

Each day somebody appends and one of two openings maintains; the dict says of each record whether it must be there, must
be gone, or may be either while its period is ending. ``YEAR_ROUNDS`` runs more years with other seeds, ``YEAR_SCALE``
more records.
"""

from __future__ import annotations

import os
import random
from dataclasses import dataclass, field
from typing import Any

import pytest
from lifecycle_support import (
    DAY_S,
    LIVELY,
    Lines,
    agent_files,
    assert_gone,
    assert_holds,
    assert_no_orphans,
    at,
    exported,
    failures,
    iso,
    lines_of,
    real,
    tiers,
)
from support import NO_CACHES, T0_US

from memstore import MemStore
from memstore.clock import ManualClock
from memstore.fs.local import LocalStorage
from memstore.ids import parse_id
from memstore.lifecycle.action import Withheld
from memstore.testing.faulty import FaultyStorage
from memstore.timestamps import US_PER_DAY

ROUNDS = int(os.environ.get("YEAR_ROUNDS", "1"))
SCALE = int(os.environ.get("YEAR_SCALE", "1"))
BUSY, MACHINE, HELD = "busy", "Machine/7", "held"
QUIET_ONES = ("quiet-1", "quiet-2", "Über quiet")
TYPES = ("INTERACTION", "ERROR", "GOAL", "PERFORMANCE")
RULES: list[dict[str, Any]] = [
    {"agent": "Machine*", "importance": ["LOW"], "keep_days": 45},
    {"agent": "busy", "memory_type": "PERFORMANCE", "keep_days": 20},
    {"memory_type": "ERROR", "importance": ["CRITICAL"], "keep_months": 5},
    {"memory_type": "GOAL", "keep_forever": True},
    {"agent": "held", "keep_days": 30},
]
SETTINGS = {
    **LIVELY,
    "storage.lifecycle.cold_retention_months": 7,
    "storage.lifecycle.deduplication_enabled": True,
    "storage.retention.rules": RULES,
}
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

    def period_days(self, agent: str) -> tuple[float, float] | None:
        """At least and at most how many days it is kept; None: for ever. The rules, written a second time."""
        own = self.fields.get("metadata", {}).get("retention_days")
        if own is not None:
            return own, own
        kind, importance = self.fields["memory_type"], self.fields["importance"]
        if agent == MACHINE and importance == "LOW":
            return 45, 45
        if agent == BUSY and kind == "PERFORMANCE" and importance != "CRITICAL":
            return 20, 20
        if kind == "ERROR" and importance == "CRITICAL":
            return 5 * 28, 5 * 31
        if importance == "CRITICAL" or kind == "GOAL":
            return None
        return (30, 30) if agent == HELD else (7 * 28, 7 * 31)


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
        chance = self.chance
        made = {
            "agent_id": agent,
            "memory_type": chance.choice(TYPES),
            "importance": chance.choices(("LOW", "MEDIUM", "HIGH", "CRITICAL"), (4, 4, 2, 1))[0],
            "content": {"n": chance.randrange(10**9), "text": "words and " * chance.randrange(1, 40)},
        }
        if chance.random() < 0.05:
            made["metadata"] = {"retention_days": chance.choice([3, 15, 60, 400])}
        return {**made, **fields}

    def write_a_day(self, store: MemStore, day: int) -> None:
        chance = self.chance
        self.take(store, [self.record(BUSY) for _ in range(chance.randrange(2, 8) * SCALE)])
        for quiet in QUIET_ONES:
            if chance.random() < 0.3:
                self.take(store, [self.record(quiet)])
        if chance.random() < 0.4:
            self.take(store, [self.record(HELD, importance="MEDIUM", memory_type="INTERACTION")])
        state = {"status": "all is well", "disk": "12 %"} if chance.random() < 0.8 else {"status": day}
        self.take(
            store,
            [
                self.record(MACHINE, memory_type="SYSTEM_STATE", importance=importance, content=state)
                for importance in ["LOW", "MEDIUM", "MEDIUM"] * SCALE
            ],
        )
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
        there = [i for i, known in self.known.get(agent, {}).items() if not known.forgotten and not known.gone]
        if not there:
            return
        ids = self.chance.sample(there, min(2, len(there)))
        report = store.forget(ids)
        for memory_id in report.hidden:
            self.known[agent][memory_id].forgotten = True
        for memory_id in report.unknown:
            assert self.may_be_gone(agent, memory_id), memory_id

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
                if known.forgotten or known.gone:
                    assert known.line not in there, f"{told}: {memory_id} was gone and is back"
                elif known.line not in there:
                    assert self.may_be_gone(agent, memory_id), f"{told}: {memory_id} is lost: {known}"
                    known.gone = True
                else:
                    assert not self.must_be_gone(agent, memory_id), f"{told}: {memory_id} outstays its time: {known}"
                    expected[agent][memory_id] = known.line
                if known.forgotten or known.gone:
                    gone.append(memory_id)
        for number, store in enumerate(self.stores):
            assert_holds(store, expected, told=f"{told}, opening {number}")
            assert_gone(store, gone[-50:], told=told)
        assert len({exported(store) for store in self.stores}) == 1, told


def month_of(memory_id: str) -> str:
    return memory_id.rsplit("_", 3)[1][:6]


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
            report = keeper.maintain()
            assert failures(report) == [], day
            assert report.finished
            left = real(keeper.plan())
            assert left == [], (day, left, report.as_dict())
        clock.advance(DAY_S - chance.random() * 3600)
        if day % 30 == 29:
            year.stores[0].maintain()
            year.compare(f"day {day}")
            check_disk(year, f"day {day}")
        if day == 180:  # another process takes over
            year.close()
            year.open()


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
    for step in (40, -40):
        year.clock.step(step * DAY_S)
        report = keeper.maintain()
        assert not {"expire", "purge"} & {r.action.kind for r in report.done}
        assert failures(report) == []
        assert any("clock is not trusted" in why for action, why in report.skipped), step
        assert {agent: keeper.agent(agent).count() for agent in year.known} == counts
    year.outage_us = at(year.day + 41)  # what was merged meanwhile was dated wrongly
    year.clock.advance(3600)


def check_disk(year: Year, told: str) -> None:
    keeper = year.stores[0]
    assert_no_orphans(keeper, told=told)
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
            if known.period_days(agent) is not None and not known.forgotten:
                period = known.period_days(agent)
                assert known.gone or (period is not None and period[1] > 300), memory_id
    assert agent_files(year.root)["hot"] == []
    year.close()
