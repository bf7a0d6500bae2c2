"""A store against a dict while it ages: whatever is appended, forgotten, held, expired, erased or moved between tiers,
two openings and a watcher that stays open answer what the dict says, byte for byte.

Of a record whose period has ended the dict does not know whether it is gone; all openings agree, it never comes back by
itself, and in the end it is gone.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from dataclasses import dataclass
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from lifecycle_support import (
    DAY_S,
    HOUR_S,
    LIVELY,
    Lines,
    assert_gone,
    assert_holds,
    assert_no_orphans,
    exported,
    failures,
    iso,
    lines_of,
    real,
)
from support import NO_CACHES, T0_US

from memstore import HeldError, MemStore
from memstore.clock import ManualClock
from memstore.format.holds_file import Hold
from memstore.ids import parse_id
from memstore.lifecycle.receipt import Receipt
from memstore.lifecycle.survey import Survey
from memstore.timestamps import US_PER_DAY, iso_text

pytestmark = pytest.mark.first

EXAMPLES = int(os.environ.get("LIFECYCLE_EXAMPLES", "25"))
AGENTS = ["plain", "Über.Agent/..", "machine"]
TYPES = ["INTERACTION", "SYSTEM_STATE", "GOAL"]
IMPORTANCES = ["LOW", "HIGH", "CRITICAL"]
RULES: list[dict[str, Any]] = [
    {"agent": "machine", "importance": "LOW", "keep_days": 12},
    {"memory_type": "GOAL", "importance": ["CRITICAL", "HIGH"], "keep_days": 40},
]
SETTINGS: dict[str, Any] = {
    **LIVELY,
    "storage.retention.rules": RULES,
    "storage.lifecycle.cold_retention_months": 3,
    "storage.lifecycle.hot_storage_days": 3,
    "storage.lifecycle.warm_storage_days": 10,
    "storage.lifecycle.keep_read_days": 1,
    "merging.lanes_max": 3,
}
UNCACHED = {**{f"storage.caching.{key}": value for key, value in NO_CACHES.items()}, "reading.frame_cache_bytes_max": 0}
ERASES = hasattr(Receipt, "__dataclass_fields__") or hasattr(Receipt, "__struct_fields__")

agents = st.sampled_from(AGENTS)
openings = st.sampled_from([0, 1])
fields_of_records = st.fixed_dictionaries(
    {
        "content": st.one_of(
            st.just({"state": "well", "detail": "d" * 60}),
            st.text(max_size=8),
            st.builds("x".__mul__, st.integers(0, 3000)),
        ),
        "memory_type": st.sampled_from(TYPES),
        "importance": st.sampled_from(IMPORTANCES),
    },
    optional={"metadata": st.fixed_dictionaries({"retention_days": st.sampled_from([1, 9.5, 200])})},
)
ages_days = st.sampled_from([0.0, 0.0, 0.5, 1.0, 4.0, 9.0, 15.0, 40.0, 100.0])


def covers(hold: Hold, agent: str, memory_id: str) -> bool:
    """Whether a hold of an undelete covers a record, by its id or by its agent and time; written a second time."""
    if hold.ids:
        return memory_id in hold.ids
    return hold.agent == agent and hold.since_us <= parse_id(memory_id).time_us < hold.until_us


@dataclass
class Known:
    """A record: its line, when it came, and what has become of it."""

    line: bytes
    fields: dict[str, Any]
    arrived_us: int
    state: str = "there"  # or "forgotten", "expired", "lost": cannot be brought back
    kept: bool = False  # an undelete added a hold

    def ends_us(self, agent: str, time_us: int) -> int | None:
        """When its period ends at the earliest; the rules, written a second time."""
        own = self.fields.get("metadata", {}).get("retention_days")
        kind, importance = self.fields["memory_type"], self.fields["importance"]
        if own is not None:
            days = own
        elif agent == "machine" and importance == "LOW":
            days = 12
        elif kind == "GOAL" and importance != "LOW":
            days = 40
        elif importance == "CRITICAL":
            return None
        else:
            days = 3 * 28
        return int(max(time_us, self.arrived_us) + days * US_PER_DAY)


class LifecycleMachine(RuleBasedStateMachine):
    """Opening 0 has caches and collapses repeats, opening 1 has neither; a third one only watches."""

    def __init__(self) -> None:
        super().__init__()
        self.root = tempfile.mkdtemp(prefix="memstore-lifecycle-")
        self.clock = ManualClock(T0_US)
        self.model: dict[str, dict[str, Known]] = {agent: {} for agent in AGENTS}
        self.held: dict[str, str] = {}
        self.shards = 2
        self.sources = 0
        self.stores = [self.open(0), self.open(1)]
        self.stores[0].maintain()
        self.watcher = MemStore(self.root, read_only=True, settings=SETTINGS, clock=self.clock)

    def open(self, which: int) -> MemStore:
        extra = UNCACHED if which else {"storage.lifecycle.deduplication_enabled": True}
        return MemStore(self.root, settings={**SETTINGS, **extra}, durability="os", clock=self.clock)

    def teardown(self) -> None:
        try:
            self.age_and_finish()
        finally:
            for store in (*self.stores, self.watcher):
                store.close()
            shutil.rmtree(self.root)

    # -- what agents do

    def take(self, which: int, records: list[dict[str, Any]], ids: list[str]) -> None:
        for record, memory_id in zip(records, ids, strict=True):
            agent = record["agent_id"]
            (line,) = lines_of(self.stores[which], agent, [memory_id]).values()
            assert memory_id not in self.model[agent], "an id was given out twice"
            self.model[agent][memory_id] = Known(line, record, self.clock.now_us())

    @rule(which=openings, batch=st.lists(st.tuples(agents, ages_days, fields_of_records), min_size=1, max_size=12))
    def append(self, which: int, batch: list[tuple[str, float, dict[str, Any]]]) -> None:
        now_us = self.clock.now_us()
        records = [
            {
                "agent_id": agent,
                **fields,
                **({"timestamp_utc": iso_text(now_us - int(age * US_PER_DAY))} if age else {}),
            }
            for agent, age, fields in batch
        ]
        self.take(which, records, self.stores[which].append_many(records))

    @rule(
        which=openings,
        batch=st.lists(st.tuples(agents, st.integers(0, 5), fields_of_records), min_size=1, max_size=6),
    )
    def import_again_and_again(self, which: int, batch: list[tuple[str, int, dict[str, Any]]]) -> None:
        """The same sources come again; what is there, was forgotten or is held back in the trash is not doubled."""
        records = [
            {"agent_id": agent, "source_id": f"s{source}", "timestamp_utc": iso(-source * 3.5), **fields}
            for agent, source, fields in batch
        ]
        outcome = self.stores[which].import_many(records)
        for record, memory_id, added in zip(records, outcome.ids, outcome.added, strict=True):
            known = self.model[record["agent_id"]].get(memory_id)
            if known is None or (added and known.state in ("expired", "lost")):
                assert added
                (line,) = lines_of(self.stores[which], record["agent_id"], [memory_id]).values()
                self.model[record["agent_id"]][memory_id] = Known(line, record, self.clock.now_us())
            else:
                assert not added, (memory_id, known.state)

    # -- what operators do

    @rule(which=openings)
    def drain(self, which: int) -> None:
        assert self.stores[which].drain().pending == []

    @rule(which=openings)
    def maintain(self, which: int) -> None:
        self.settle()
        report = self.stores[which].maintain()
        assert failures(report) == []
        self.settle()
        left = real(self.stores[which].plan())
        assert left == [], (left, report.as_dict())
        assert_no_orphans(self.stores[which])

    @rule(which=openings, trust=st.booleans())
    def maintain_for_later(self, which: int, trust: bool) -> None:
        self.settle()
        later = self.clock.now_us() + 20 * US_PER_DAY
        report = self.stores[which].maintain(later, trust_clock=trust)
        assert failures(report) == []
        if not trust:
            assert not {"expire", "purge", "digest"} & {result.action.kind for result in report.done}
        self.settle(at_us=later)

    @rule(hours=st.sampled_from([1, 5, 26, 24 * 4, 24 * 17, 24 * 70]))
    def time_passes(self, hours: int) -> None:
        self.clock.advance(hours * HOUR_S)

    @rule(days=st.sampled_from([-3, -0.2, 0.1, 50]))
    def clock_steps(self, days: float) -> None:
        """A step forward is taken back; or ids and times would be those of the future."""
        self.settle()
        self.clock.step(days * DAY_S)
        before = self.there()
        for store in self.stores:
            report = store.maintain()
            if abs(days) >= 1:
                assert not {"expire", "purge"} & {result.action.kind for result in report.done}, report.as_dict()
        if abs(days) >= 1:
            assert self.there() == before
        self.clock.step(-days * DAY_S)
        self.stores[0].maintain()  # which sees that it is right again; or the wrong time would be the one that is known
        self.settle()

    @rule(which=openings, agent=agents, choose=st.integers(0, 10**6), many=st.integers(1, 4))
    def forget(self, which: int, agent: str, choose: int, many: int) -> None:
        ids = self.some(agent, choose, many)
        if not ids:
            return
        try:
            report = self.stores[which].forget(ids)
        except HeldError:
            assert self.held or any(self.model[agent][i].kept for i in ids)
            return
        assert sorted(report.hidden) == sorted(i for i in ids if self.model[agent][i].state == "there")
        for memory_id in report.hidden:
            self.model[agent][memory_id].state = "forgotten"

    @rule(which=openings, agent=agents, choose=st.integers(0, 10**6), many=st.integers(1, 4))
    def undelete(self, which: int, agent: str, choose: int, many: int) -> None:
        """What comes back was forgotten or expired, and comes back byte for byte."""
        ids = self.some(agent, choose, many)
        if not ids:
            return
        before = self.there()
        report = self.stores[which].undelete(ids=ids)
        back = self.there() - before
        assert report.records == len(back)
        assert back <= set(ids)
        assert set(report.unknown) == set(ids) - back
        self.note_back(back, report.holds)

    @rule(which=openings, agent=agents)
    def undelete_agent(self, which: int, agent: str) -> None:
        manifest = self.stores[which]._engine.builder.manifest(agent)
        if manifest is None or not (manifest.trash or manifest.hidden.ids):
            return
        before = self.there()
        report = self.stores[which].undelete(agent=agent)
        back = self.there() - before
        assert report.records == len(back)
        self.note_back(back, report.holds)

    def note_back(self, back: set[str], holds: list[str]) -> None:
        """What came back is there; what had expired is held from now on, and so are neighbours within those times."""
        made = [hold for hold in self.stores[1].holds() if hold.name in holds]
        for agent, records in self.model.items():
            for memory_id, known in records.items():
                known.kept |= any(covers(hold, agent, memory_id) for hold in made)
            for memory_id in back & records.keys():
                known = records[memory_id]
                assert known.state in ("forgotten", "expired"), known.state
                assert known.kept or not (known.state == "expired" and holds), f"{memory_id} is back and not held"
                known.state = "there"

    @precondition(lambda self: len(self.held) < 2)
    @rule(which=openings, agent=agents)
    def add_hold(self, which: int, agent: str) -> None:
        name = f"hold-{len(self.held)}-{self.clock.now_us()}"
        if name not in self.held:
            self.settle()
            self.stores[which].add_hold(name, agent=agent)
            self.held[name] = agent

    @precondition(lambda self: self.held)
    @rule(which=openings)
    def remove_hold(self, which: int) -> None:
        name = min(self.held)
        self.stores[which].remove_hold(name)
        del self.held[name]

    @precondition(lambda _: ERASES)
    @rule(which=openings, agent=agents, choose=st.integers(0, 10**6), many=st.integers(1, 3))
    def erase_some(self, which: int, agent: str, choose: int, many: int) -> None:
        ids = self.some(agent, choose, many)
        if not ids:
            return
        try:
            self.stores[which].erase(ids=ids)
        except HeldError:
            assert self.held or any(self.model[agent][i].kept for i in ids)
            return
        for memory_id in ids:
            del self.model[agent][memory_id]
            for name in self.files():
                with open(name, "rb") as file:
                    assert memory_id.encode() not in file.read(), name

    @precondition(lambda self: self.shards < 4)
    @rule(which=openings)
    def add_shard(self, which: int) -> None:
        self.stores[which].add_shard()
        self.shards += 1

    @rule(which=openings, agent=agents, shard=st.sampled_from([None, "shard_000", "shard_001"]))
    def pin(self, which: int, agent: str, shard: str | None) -> None:
        self.stores[which].pin(agent, shard)

    @rule(which=openings)
    def close_and_reopen(self, which: int) -> None:
        self.stores[which].close()
        self.stores[which] = self.open(which)

    # -- what must be

    def some(self, agent: str, choose: int, many: int) -> list[str]:
        ids = sorted(self.model[agent])
        return [ids[(choose + step) % len(ids)] for step in range(min(many, len(ids)))] if ids else []

    def files(self) -> list[str]:
        return [os.path.join(directory, name) for directory, _, names in os.walk(self.root) for name in names]

    def there(self) -> set[str]:
        store = self.stores[1]
        return {
            line[len(b'{"memory_id":"') : line.index(b'"', 14)].decode()
            for agent in AGENTS
            for line in store.agent(agent).lines()
        }

    def is_held(self, agent: str, memory_id: str) -> bool:
        return agent in self.held.values() or self.model[agent][memory_id].kept

    def settle(self, *, at_us: int | None = None) -> None:
        """Take in which of the records whose period has ended have gone."""
        now_us = at_us or self.clock.now_us()
        for agent, records in self.model.items():
            lines = set(self.stores[1].agent(agent).lines())
            for memory_id, known in records.items():
                if known.state != "there":
                    assert known.line not in lines, f"{memory_id} is back: {known}"
                elif known.line not in lines:
                    ends_us = known.ends_us(agent, parse_id(memory_id).time_us)
                    assert ends_us is not None, f"{memory_id} is lost: {known}"
                    assert ends_us <= now_us, f"{memory_id} is lost: {known}"
                    assert not self.is_held(agent, memory_id), f"{memory_id} was held and is lost: {known}"
                    known.state = "expired"

    @invariant()
    def all_openings_answer_what_the_dict_says(self) -> None:
        expected: Lines = {
            agent: {i: known.line for i, known in records.items() if known.state == "there"}
            for agent, records in self.model.items()
        }
        gone = [i for records in self.model.values() for i, known in records.items() if known.state != "there"]
        for number, store in enumerate((*self.stores, self.watcher)):
            assert_holds(store, expected, told=f"opening {number}")
            assert_gone(store, gone, told=f"opening {number}")
            assert exported(store) == b"".join(
                line + b"\n" for agent in sorted(expected) for _, line in sorted(expected[agent].items())
            )

    def age_and_finish(self) -> None:
        """Half a year later, holds removed, all that has a period is gone, and nothing else is."""
        store = self.stores[0]
        for hold in store.holds():
            store.remove_hold(hold.name)
        self.held = {}
        for records in self.model.values():
            for known in records.values():
                known.kept = False
        for days in (20, 90, 29, 29, 3, 29, 29, 3):
            self.clock.advance(days * DAY_S)
            store.maintain(trust_clock=True)
            self.settle()
        self.all_openings_answer_what_the_dict_says()
        for agent, records in self.model.items():
            for memory_id, known in records.items():
                ends_us = known.ends_us(agent, parse_id(memory_id).time_us)
                if known.state == "there" and ends_us is not None:
                    # Periods count from the youngest record of a frame, as the clock was when that was merged.
                    later_us = max(self.youngest_us(agent) - known.arrived_us, 0)
                    due_us = ends_us + later_us + 20 * US_PER_DAY
                    assert due_us > self.clock.now_us(), f"{memory_id} outstays its time: {known}"
        assert real(store.plan()) == []
        assert_no_orphans(store)

    def youngest_us(self, agent: str) -> int:
        """When the youngest of an agent's records was merged, by what the clock said then."""
        engine = self.stores[0]._engine
        manifest = engine.builder.manifest(agent)
        assert manifest is not None
        youngest_us = Survey(engine).state(manifest).ingested
        assert youngest_us <= self.clock.now_us()
        return youngest_us


LifecycleMachine.TestCase.settings = settings(
    max_examples=EXAMPLES,
    stateful_step_count=25,
    deadline=None,
    report_multiple_bugs=False,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A drain waits for the other opening to look for its SEAL mark; here it looks all the time. No power is cut."""
    monkeypatch.setattr("memstore.engine.maintenance.TICK_S", 0.005)
    for sync in ("fsync", "fdatasync"):
        monkeypatch.setattr(f"os.{sync}", lambda _: None)


class TestLifecycleAgainstDict(LifecycleMachine.TestCase):  # type: ignore[misc,name-defined]
    """Run by unittest's rules."""
