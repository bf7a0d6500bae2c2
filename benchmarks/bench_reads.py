"""Reads: get_cached, get_hot, recent50. Memstore and peer take turns within each round, on the same records."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator, Sequence
from time import perf_counter_ns
from typing import Any

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks.measure import Publish, conclude, run_rounds
from benchmarks.peers import SqlitePeer, tree_recent_by_mtime, tree_recent_by_name, write_tree
from benchmarks.report import Ratio, Report, Row, percentile
from benchmarks.workloads import LINE_BYTES, SEED, agent_names, batches, memories, tree_object
from memstore import MemoryRecord, MemStore

_CACHES_OFF = {"storage": {"caching": {"recent_memories_mb": 0, "pattern_cache_mb": 0, "agent_stats_cache_mb": 0}}}
_BLOCK = 2000
"""Reads of one side before it is the other's turn."""


class Turns:
    """Times calls of several sides in turn.

    Attributes:
        us: microseconds of each call, by side.
        medians: their median by side and round.
    """

    def __init__(self, sides: dict[str, Callable[[Any], object]]) -> None:
        self._sides = sides
        self.forget()

    def forget(self) -> None:
        """Begin again, after warming up."""
        self.us: dict[str, list[float]] = {name: [] for name in self._sides}
        self.medians: dict[str, list[float]] = {name: [] for name in self._sides}

    def take(self, arguments: Sequence[Any]) -> None:
        """One round: each side calls itself with each argument."""
        for name, call in self._sides.items():
            taken = []
            for argument in arguments:
                began = perf_counter_ns()
                call(argument)
                taken.append((perf_counter_ns() - began) / 1e3)
            self.us[name] += taken
            self.medians[name].append(percentile(taken, 0.5))

    def over(self, upper: str, lower: str) -> list[float]:
        """Ratio of the medians of each round."""
        return [a / b for a, b in zip(self.medians[upper], self.medians[lower], strict=True)]


def filled_store(root: str, *, records: int, agents: int) -> list[str]:
    """A store of day files only; the ids of its records."""
    ids: list[str] = []
    with MemStore(root, durability="os") as store:
        for batch in batches(memories(min(records, 20_000), agents=agents), size=4000, total=records):
            ids += store.append_many([memory.fields for memory in batch])
        report = store.drain()
        assert not report.pending
    return ids


@pytest.mark.parametrize("agents", [100, 1000])
def bench_get(benchmark: BenchmarkFixture, scratch: str, rounds: int, publish: Publish, agents: int) -> None:
    """``get`` from the cache, and from day files with all caches off, against SQLite's primary-key select."""
    records, hot = 100_000, 10_000
    ids = filled_store(os.path.join(scratch, "store"), records=records, agents=agents)
    choose = random.Random(SEED)
    hot_ids = choose.sample(ids, hot)
    sqlite = SqlitePeer(os.path.join(scratch, "memory.db"))
    with (
        MemStore(os.path.join(scratch, "store"), read_only=True) as cached,
        MemStore(os.path.join(scratch, "store"), read_only=True, settings=_CACHES_OFF) as uncached,
    ):
        sqlite.load(_rows(uncached, agents))
        for memory_id in ids[:: max(records // hot, 1)]:
            assert uncached.get(memory_id) == sqlite.get(memory_id) != None  # noqa: E711 - both have it, and it is the same
        for memory_id in hot_ids:
            cached.get(memory_id)
        of_hot_set = Turns({"cached": cached.get})
        all_over = Turns({"hot": uncached.get, "sqlite": sqlite.get})

        def take() -> None:
            of_hot_set.take([choose.choice(hot_ids) for _ in range(_BLOCK)])
            all_over.take([choose.choice(ids) for _ in range(_BLOCK)])

        take()
        of_hot_set.forget()
        all_over.forget()
        run_rounds(benchmark, take, rounds=rounds)
    sqlite.close()
    report = Report(f"get[{agents} agents]", scratch, "does not matter", records, records * LINE_BYTES)
    report.rows = [
        Row("get_cached", of_hot_set.us["cached"], "us"),
        Row("get_hot, caches off", all_over.us["hot"], "us"),
        Row("sqlite select by primary key, decoded", all_over.us["sqlite"], "us"),
    ]
    report.ratios = [
        Ratio("get_cached p50", of_hot_set.medians["cached"], 10, at_most=True, unit="us"),
        Ratio("get_hot / sqlite", all_over.over("hot", "sqlite"), 8, at_most=True),
    ]
    conclude(benchmark, report, publish)


def bench_recent50(benchmark: BenchmarkFixture, scratch: str, rounds: int, publish: Publish) -> None:
    """``recent(50)`` against the 50 newest files of a tree with one file per memory.

    2,000 files an agent: the real tree that the tests import has 34,371 files of 18 agents.
    """
    agents, each = 20, 2000
    records = agents * each
    names = agent_names(agents)
    root, tree = os.path.join(scratch, "store"), os.path.join(scratch, "tree")
    filled_store(root, records=records, agents=agents)
    pool = memories(records, agents=agents)
    size = write_tree(tree, (tree_object(memory, index) for index, memory in enumerate(pool)))
    os.sync()
    with (
        MemStore(root, read_only=True) as cached,
        MemStore(root, read_only=True, settings=_CACHES_OFF) as uncached,
    ):
        turns = Turns(
            {
                "cached": lambda agent: _expect(cached.agent(agent).recent(50)),
                "uncached": lambda agent: _expect(uncached.agent(agent).recent(50)),
                "by mtime": lambda agent: _expect(tree_recent_by_mtime(f"{tree}/stm/{agent}", 50)),
                "by name": lambda agent: _expect(tree_recent_by_name(f"{tree}/stm/{agent}", 50)),
            }
        )
        turns.take(names)
        turns.forget()
        run_rounds(benchmark, turns.take, args=(names,), rounds=rounds)
    report = Report("recent50", scratch, "does not matter", records, size)
    report.rows = [
        Row("recent(50), answer cached", turns.us["cached"], "us"),
        Row("recent(50), caches off", turns.us["uncached"], "us"),
        Row("tree: list and stat all, sort, json", turns.us["by mtime"], "us"),
        Row("tree: newest names only, orjson", turns.us["by name"], "us"),
    ]
    report.ratios = [
        Ratio("tree by mtime / recent(50) cached", turns.over("by mtime", "cached"), 50),
        Ratio("tree by mtime / recent(50) caches off", turns.over("by mtime", "uncached"), 50),
        Ratio("tree by name / recent(50) caches off", turns.over("by name", "uncached")),
    ]
    conclude(benchmark, report, publish)


def _expect(found: list[Any]) -> None:
    assert len(found) == 50


def _rows(store: MemStore, agents: int) -> Iterator[tuple[str, str, str, bytes]]:
    for name in agent_names(agents):
        bot = store.agent(name)
        records: Iterator[MemoryRecord] = bot.range()
        for record, line in zip(records, bot.lines(), strict=True):
            yield record.memory_id, name, record.timestamp_utc, line
