"""A store against a dict: whatever is done through two openings of one root, the answers are the dict's."""

from __future__ import annotations

import shutil
import tempfile
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from support import NO_CACHES, T0_US, TINY

from memstore import MemStore
from memstore.clock import ManualClock
from memstore.config_load import load_settings
from memstore.ids import derived_id, parse_id
from memstore.record import MemoryRecord

AGENTS = ["plain", "Über.Agent/..", "quiet"]
TYPES = ["INTERACTION", "ERROR", "GOAL"]
IMPORTANCES = ["LOW", "MEDIUM", "HIGH", "CRITICAL"]
DAY_US = 86_400_000_000

agents = st.sampled_from(AGENTS)
openings = st.sampled_from([0, 1])
# A few instants only, so that equal times are common; none ahead of the clock, which only ever steps back by minutes.
times = st.one_of(
    st.none(),
    st.sampled_from([T0_US - day * DAY_US - second * 1_000_000 for day in (0, 1, 5) for second in (400, 401, 500)]),
)
record_fields = st.fixed_dictionaries(
    {
        "content": st.one_of(
            st.integers(-(2**63), 2**63 - 1), st.text(max_size=8), st.builds(lambda n: "x" * n, st.integers(0, 3000))
        ),
        "memory_type": st.sampled_from(TYPES),
        "importance": st.sampled_from(IMPORTANCES),
        "tags": st.lists(st.sampled_from(["a", "b", "c"]), max_size=2),
        "context": st.one_of(st.just({}), st.fixed_dictionaries({"session_id": st.sampled_from(["s1", "s2"])})),
        "timestamp_utc": times,
    }
)
filters = st.fixed_dictionaries(
    {},
    optional={
        "memory_type": st.sampled_from([*TYPES, ("ERROR", "GOAL")]),
        "min_importance": st.sampled_from(IMPORTANCES),
        "importance": st.sampled_from(IMPORTANCES),
        "tags": st.sampled_from(["a", ("a", "b")]),
        "tags_all": st.just(("a", "b")),
        "session": st.sampled_from(["s1", "s2"]),
        "since": st.sampled_from([T0_US - day * DAY_US - 450_000_000 for day in (6, 5, 1, 0)]),
        "until": st.sampled_from(
            [T0_US - day * DAY_US + shift for day in (5, 1, 0) for shift in (-400_000_000, -399_999_999, DAY_US)]
        ),
    },
)

Model = dict[str, dict[str, dict[str, Any]]]


def as_set(value: Any) -> set[str]:
    return {value} if isinstance(value, str) else set(value)


def matches(memory_id: str, fields: dict[str, Any], wanted: dict[str, Any]) -> bool:
    """The filter as the issue words it, written a second time and as plainly as can be."""
    rank = IMPORTANCES.index
    time_us = parse_id(memory_id).time_us
    return (
        ("memory_type" not in wanted or fields["memory_type"] in as_set(wanted["memory_type"]))
        and ("importance" not in wanted or fields["importance"] == wanted["importance"])
        and ("min_importance" not in wanted or rank(fields["importance"]) >= rank(wanted["min_importance"]))
        and ("tags" not in wanted or bool(as_set(wanted["tags"]) & set(fields["tags"])))
        and ("tags_all" not in wanted or as_set(wanted["tags_all"]) <= set(fields["tags"]))
        and ("session" not in wanted or fields["context"].get("session_id") == wanted["session"])
        and ("since" not in wanted or time_us >= wanted["since"])
        and ("until" not in wanted or time_us < wanted["until"])
    )


class StoreMachine(RuleBasedStateMachine):
    """Opening 0 has caches, opening 1 has none; a third one is never written through and keeps what it once knew."""

    def __init__(self) -> None:
        super().__init__()
        self.root = tempfile.mkdtemp(prefix="memstore-model-")
        self.clock = ManualClock(T0_US)
        self.model: Model = {agent: {} for agent in AGENTS}
        self.sources: dict[str, str] = {}
        self.shards = TINY["storage"]["shards"]
        self.stores = [self.open(0), self.open(1)]
        self.watcher = MemStore(self.root, read_only=True, clock=self.clock, settings=load_settings(TINY).settings)

    def open(self, which: int) -> MemStore:
        values = {**TINY, "storage": {**TINY["storage"], **({"caching": NO_CACHES} if which else {})}}
        return MemStore(self.root, settings=values, durability="os", clock=self.clock)

    def teardown(self) -> None:
        for store in (*self.stores, self.watcher):
            store.close()
        with MemStore(self.root, settings=TINY, clock=self.clock) as store:
            report = store.drain()
            self.compare_all(store)
            assert report.pending == []
            assert store.stats()["records"] == sum(map(len, self.model.values()))
        shutil.rmtree(self.root)

    def remember(self, agent: str, memory_id: str, fields: dict[str, Any]) -> None:
        assert memory_id not in self.model[agent], "an id was given out twice"
        assert parse_id(memory_id).agent_id == agent
        if fields["timestamp_utc"] is not None:
            assert parse_id(memory_id).time_us == fields["timestamp_utc"]
        self.model[agent][memory_id] = fields

    # -- what changes the store

    @rule(which=openings, agent=agents, fields=record_fields)
    def append(self, which: int, agent: str, fields: dict[str, Any]) -> None:
        given = {**fields, "timestamp": fields["timestamp_utc"]}
        del given["timestamp_utc"]
        self.remember(agent, self.stores[which].agent(agent).append(**given), fields)

    @rule(which=openings, records=st.lists(st.tuples(agents, record_fields), max_size=12))
    def append_many(self, which: int, records: list[tuple[str, dict[str, Any]]]) -> None:
        ids = self.stores[which].append_many({"agent_id": agent, **fields} for agent, fields in records)
        assert len(ids) == len(records)
        for (agent, fields), memory_id in zip(records, ids, strict=True):
            self.remember(agent, memory_id, fields)

    @rule(
        which=openings,
        records=st.lists(st.tuples(agents, st.sampled_from(["s1", "s2", "s3"]), record_fields), min_size=1, max_size=5),
    )
    def import_many(self, which: int, records: list[tuple[str, str, dict[str, Any]]]) -> None:
        given = [
            {"agent_id": agent, "source_id": source, **fields, "timestamp_utc": fields["timestamp_utc"] or T0_US}
            for agent, source, fields in records
        ]
        outcome = self.stores[which].import_many(given)
        for fields, memory_id, added in zip(given, outcome.ids, outcome.added, strict=True):
            agent = fields["agent_id"]
            assert memory_id == derived_id(agent, fields["source_id"], fields["timestamp_utc"])
            assert added == (memory_id not in self.model[agent])
            if added:
                self.remember(agent, memory_id, fields)

    @rule(which=openings)
    def drain(self, which: int) -> None:
        assert self.stores[which].drain().pending == []

    @rule(which=openings)
    def close_and_reopen(self, which: int) -> None:
        self.stores[which].close()
        self.stores[which] = self.open(which)

    @precondition(lambda self: self.shards < 4)
    @rule(which=openings)
    def add_shard(self, which: int) -> None:
        self.stores[which].add_shard()
        self.shards += 1

    @rule(which=openings, agent=agents, shard=st.sampled_from([None, "shard_000", "shard_001"]))
    def pin(self, which: int, agent: str, shard: str | None) -> None:
        self.stores[which].pin(agent, shard)

    @rule(seconds=st.sampled_from([-60, -1, 0.000001, 1, 90]))
    def step_clock(self, seconds: float) -> None:
        # Not further ahead than tomorrow, not so far back that explicit times lie too far ahead.
        if T0_US - 300_000_000 <= self.clock.now_us() + seconds * 1_000_000 <= T0_US + 3600_000_000:
            self.clock.step(seconds)

    # -- what must not

    @rule(agent=agents, wanted=filters, limit=st.sampled_from([0, 1, 3, 100]))
    def read_filtered(self, agent: str, wanted: dict[str, Any], limit: int) -> None:
        if "since" in wanted and "until" in wanted and wanted["since"] > wanted["until"]:
            del wanted["until"]
        expected = sorted(i for i, fields in self.model[agent].items() if matches(i, fields, wanted))
        for store in (*self.stores, self.watcher):
            bot = store.agent(agent)
            assert [r.memory_id for r in bot.range(**wanted)] == expected
            assert [r.memory_id for r in bot.range(newest_first=True, **wanted)] == expected[::-1]
            for _ in range(2):  # the second answer may come from a cache
                assert [r.memory_id for r in bot.recent(limit, **wanted)] == expected[::-1][:limit]
                assert bot.count(**wanted) == len(expected)

    @rule(which=openings)
    def get_many(self, which: int) -> None:
        ids = [memory_id for agent in AGENTS for memory_id in self.model[agent]]
        unknown = [f"{agent}_20250114_235320_000000{'f' * 16}" for agent in AGENTS]
        found = self.stores[which].get_many([*ids, *unknown])
        for memory_id, record in zip(ids, found, strict=False):
            assert record is not None
            self.compare(record, memory_id)
        assert found[len(ids) :] == [None] * len(unknown)

    @rule(agent=agents)
    def agent_stats(self, agent: str) -> None:
        for store in self.stores:
            stats = store.agent(agent).stats()
            assert stats["records"] == len(self.model[agent])
            assert sum(stats["by_type"].values()) == stats["records"]

    @invariant()
    def counts_and_newest_agree_everywhere(self) -> None:
        for store in (*self.stores, self.watcher):
            for agent in AGENTS:
                expected = sorted(self.model[agent], reverse=True)
                assert store.agent(agent).count() == len(expected)
                assert [r.memory_id for r in store.agent(agent).recent(2)] == expected[:2]
            assert store.agents() == sorted(agent for agent in AGENTS if self.model[agent])

    def compare(self, record: MemoryRecord, memory_id: str) -> None:
        agent = parse_id(memory_id).agent_id
        fields = self.model[agent][memory_id]
        assert record.memory_id == memory_id
        assert record.agent_id == agent
        assert record.content == fields["content"]
        assert record.memory_type == fields["memory_type"]
        assert record.importance == fields["importance"]
        assert record.tags == fields["tags"]
        assert record.context == fields["context"]
        assert record.source_id == fields.get("source_id")

    def compare_all(self, store: MemStore) -> None:
        for agent in AGENTS:
            found = list(store.agent(agent).range())
            assert [r.memory_id for r in found] == sorted(self.model[agent])
            for record in found:
                self.compare(record, record.memory_id)


StoreMachine.TestCase.settings = settings(
    max_examples=40,
    stateful_step_count=30,
    deadline=None,
    report_multiple_bugs=False,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
)


@pytest.fixture(autouse=True)
def _quick_ticks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A drain waits for the other opening to look for its SEAL mark; here it looks all the time."""
    monkeypatch.setattr("memstore.engine.maintenance.TICK_S", 0.01)


class TestStoreAgainstDict(StoreMachine.TestCase):  # type: ignore[misc,name-defined]
    """Run by unittest's rules."""
