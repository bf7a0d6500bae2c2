"""Groups and figures against plain sums over the records, however they are spread over partitions, tail and scans."""

from __future__ import annotations

import math
import random
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import pytest
import tantivy
from search_support import SEARCHING
from support import T0_US

from memstore import MemStore
from memstore.clock import ManualClock
from memstore.search.foreign import TooMuchAskedError
from memstore.search.grouping import Grouping
from memstore.search.partition import Partition
from memstore.timestamps import US_PER_DAY, iso_text, parse_time

METRICS = ["avg(ms)", "min(ms)", "max(ms)", "count(ms)", "p0(ms)", "p50(ms)", "p90(ms)", "p99(ms)", "p100(ms)"]
GROUPINGS: list[tuple[list[str], str | None]] = [
    ([], None), (["type"], None), (["session"], None), (["success"], None), (["tags"], None), (["context.cost"], None),
    (["type", "session"], None), (["tags", "session", "success"], None), ([], "day"), ([], "6h"), (["type"], "week"),
    (["type", "memory_type"], None),
]  # fmt: skip


def some_records(count: int, *, days: int) -> list[dict[str, Any]]:
    chance = random.Random(7)
    found = []
    for _ in range(count):
        response = {"success": chance.random() < 0.7} if chance.random() < 0.8 else {}
        if chance.random() < 0.9:
            response["processing_time_ms"] = chance.choice([0, 1, chance.lognormvariate(4, 2), chance.uniform(10, 11)])
        found.append(
            {
                "agent_id": chance.choice("abc"),
                "memory_type": chance.choice(["ERROR", "GOAL", "PLAN"]),
                "content": "word",
                "tags": chance.sample(["x", "y", "z"], chance.randrange(3)),
                "context": {
                    **({"session_id": f"s{chance.randrange(9)}"} if chance.random() < 0.8 else {}),
                    **({"cost": chance.choice([-1.5, 2, "2", True])} if chance.random() < 0.8 else {}),
                },
                "response": response or None,
                "timestamp_utc": iso_text(T0_US - chance.randrange(days * US_PER_DAY)),
            }
        )
    return found


RECORDS = some_records(1500, days=70)


def values_of(record: dict[str, Any], name: str) -> list[Any]:
    """What a record counts for; it counts for None where it has no value."""
    if name in ("type", "memory_type"):
        return [record["memory_type"]]
    if name == "tags":
        return record["tags"] or [None]
    if name == "success":
        return [(record["response"] or {}).get("success")]
    return [record["context"].get({"session": "session_id", "context.cost": "cost"}[name])]


def naive(records: list[dict[str, Any]], by: list[str], interval: str | None) -> dict[Any, tuple[int, list[float]]]:
    """Of each group how many records it has, and their numbers in order."""
    width_us = {None: 1, "day": US_PER_DAY, "6h": US_PER_DAY // 4, "week": 7 * US_PER_DAY}[interval]
    groups: dict[Any, list[dict[str, Any]]] = defaultdict(list)
    for record in records:
        time_us = parse_time(record["timestamp_utc"], now_us=0)
        keys: list[tuple[Any, ...]] = [() if interval is None else (iso_text(time_us - time_us % width_us),)]
        for name in by:
            keys = [(*key, value) for key in keys for value in values_of(record, name)]
        for key in keys:
            groups[tuple(map(_told, key))].append(record)
    return {
        key: (
            len(found),
            sorted(
                each["response"]["processing_time_ms"]
                for each in found
                if "processing_time_ms" in (each["response"] or {})
            ),
        )
        for key, found in groups.items()
    }


def _told(value: Any) -> tuple[str, Any]:
    """Flags and numbers are told apart, as they are in a record."""
    return ("flag" if isinstance(value, bool) else type(value).__name__ if isinstance(value, str) else "", value)


def answer(store: MemStore, by: list[str], interval: str | None) -> dict[Any, Any]:
    found = store.aggregate(by=by, metrics=METRICS, interval=interval)
    assert found.total == len(RECORDS)
    names = (["time"] if interval else []) + by
    return {tuple(_told(row.key[name]) for name in names): (row.count, row.metrics) for row in found.rows}


def check(store: MemStore, by: list[str], interval: str | None) -> None:
    wanted = naive(RECORDS, by, interval)
    found = answer(store, by, interval)
    assert {key: count for key, (count, _) in found.items()} == {key: count for key, (count, _) in wanted.items()}
    for key, (_, metrics) in found.items():
        numbers = wanted[key][1]
        assert metrics["count(ms)"] == len(numbers)
        if not numbers:
            assert {metrics[name] for name in METRICS if name != "count(ms)"} == {None}
            continue
        assert metrics["avg(ms)"] == pytest.approx(math.fsum(numbers) / len(numbers))
        # The index may read a number's last digit otherwise than Python does.
        assert [metrics["min(ms)"], metrics["max(ms)"]] == pytest.approx([numbers[0], numbers[-1]], rel=1e-15)
        for percent in (0, 50, 90, 99, 100):
            exact = numbers[math.floor(percent / 100 * (len(numbers) - 1))]
            assert metrics[f"p{percent}(ms)"] == pytest.approx(exact, rel=0.010001, abs=1e-9), (key, percent)


def filled(root: Any, *, indexed: int | None, records: list[dict[str, Any]] = RECORDS) -> MemStore:
    """A store of the records, of which so many are indexed; None: there is no index."""
    settings = {**SEARCHING, "search.context_keys": ["cost"]}
    store = MemStore(root, settings=settings, durability="os", clock=ManualClock(T0_US))
    store.append_many(records[:indexed])
    if indexed is not None:
        store.index()
        store.append_many(records[indexed:])
    return store


@pytest.fixture(params=[None, 1000, 1500], ids=["scanned", "with a tail", "indexed"], scope="module")
def store(request: Any, tmp_path_factory: Any) -> Iterator[MemStore]:
    with filled(tmp_path_factory.mktemp("aggregates") / "store", indexed=request.param) as opened:
        yield opened


@pytest.mark.parametrize(("by", "interval"), GROUPINGS)
def test_groups_and_figures_are_those_of_the_records(store: MemStore, by: list[str], interval: str | None) -> None:
    check(store, by, interval)


@pytest.mark.parametrize(("by", "interval"), GROUPINGS)
def test_groups_that_are_asked_for_a_few_at_a_time_are_the_same(
    store: MemStore, monkeypatch: pytest.MonkeyPatch, by: list[str], interval: str | None
) -> None:
    monkeypatch.setattr("memstore.search.grouping.BUCKETS_MAX", 500)
    monkeypatch.setattr("memstore.search.grouping.PAGE_GROUPS", 5)
    monkeypatch.setattr("memstore.search.grouping.VALUES_MAX", 6)
    check(store, by, interval)


def test_pages_that_are_too_much_for_the_index_are_halved(store: MemStore, monkeypatch: pytest.MonkeyPatch) -> None:
    ask, sizes = Grouping._ask, []

    def refuse(self: Grouping, partition: Partition, query: tantivy.Query, asked: dict[str, Any]) -> dict[str, Any]:
        size = asked.get("g", {}).get("composite", {}).get("size", 1)
        if "aggs" in asked.get("g", {}) and size > 3:
            raise TooMuchAskedError("too much")
        sizes.append(size)
        return ask(self, partition, query, asked)

    monkeypatch.setattr(Grouping, "_ask", refuse)
    check(store, ["type", "session"], None)
    assert {2, 3} & set(sizes)


def test_percentiles_do_not_hang_on_how_many_partitions_there_are(tmp_path: Any) -> None:
    """They are read off added buckets even where one partition could tell them more exactly."""
    found = []
    for days in (1, 70):
        moved = [
            {**record, "timestamp_utc": iso_text(T0_US - number % days * US_PER_DAY)}
            for number, record in enumerate(RECORDS)
        ]
        with filled(tmp_path / f"{days} days", indexed=len(moved), records=moved) as store:
            assert len(store.index_status()["partitions"]) == (1 if days == 1 else 3)
            [row] = store.aggregate(metrics=["p1(ms)", "p50(ms)", "p99.9(ms)"]).rows
            found.append(row.metrics)
    assert found[0] == found[1]


def test_fields_of_very_many_values_are_counted_and_the_index_stays(tmp_path: Any) -> None:
    """tantivy gives 65,000 values at a time and refuses more; that is no damage."""
    with MemStore(tmp_path / "store", settings=SEARCHING, durability="os") as store:
        store.append_many(
            [{"agent_id": "a", "tags": [f"{number}-{tag}" for tag in range(50)]} for number in range(660)]
        )
        store.index()
        found = store.search("", facets=["tag", "tags"])
        assert (found.total, found.scanned.scanned, found.notes) == (660, 0, ())
        grouped = store.aggregate(by="tags")
        assert (len(grouped.rows), grouped.total, grouped.notes) == (33_000, 660, ())
        assert {row.count for row in grouped.rows} == {1}
        assert store.index_status()["stale"] == []
