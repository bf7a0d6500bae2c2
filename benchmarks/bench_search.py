"""index, search, aggregate: against tantivy alone on the same documents, and DuckDB over the same lines as NDJSON."""

from __future__ import annotations

import itertools
import os
import random
import subprocess
import sys
from collections.abc import Callable
from time import perf_counter
from typing import Any

import pytest
import tantivy
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks.bench_reads import Turns, filled_store
from benchmarks.measure import Publish, conclude, over, run_rounds
from benchmarks.report import Ratio, Report, Row
from benchmarks.searching import QUESTIONS, BareIndex, all_lines, bare_query, fill_for_search
from benchmarks.worker import run_together
from benchmarks.workloads import LINE_BYTES, SEED
from memstore import MemStore
from memstore.clock import ManualClock
from memstore.format.names import StorePaths
from memstore.search.schema import Analyzer
from memstore.timestamps import day_start_us

_REPEATS = 25
_LOOKUPS = 200_000
_CACHES_OFF = {"storage": {"caching": {"recent_memories_mb": 0, "pattern_cache_mb": 0, "agent_stats_cache_mb": 0}}}
_COLD_US = day_start_us("20250601")


def _records(request: pytest.FixtureRequest) -> int:
    return int(request.config.getoption("--search-records"))


def bench_index(benchmark: BenchmarkFixture, scratch: str, request: pytest.FixtureRequest, publish: Publish) -> None:
    """Building the index of a store from its files, against tantivy alone fed with documents that are ready."""
    records = min(_records(request), 300_000)
    root = os.path.join(scratch, "store")
    size = fill_for_search(root, records)
    lines = list(all_lines(root))
    rates: dict[str, list[float]] = {"ours": [], "alone": []}
    shares: list[float] = []

    def take() -> None:
        alone = BareIndex(os.path.join(scratch, "bare"))
        rates["alone"].append(records / alone.fill(lines))
        with MemStore(root, settings={"search.background": False}) as store:
            began = perf_counter()
            report = store.index(rebuild=True)
            rates["ours"].append(records / (perf_counter() - began))
            assert (report["added"], report["finished"]) == (records, True)
            shares.append(store.index_status()["bytes"] / size)

    run_rounds(benchmark, take, rounds=3)
    report = Report("index", scratch, "fsync", records, size)
    report.rows = [
        Row("memstore index rebuild, from day files", rates["ours"], "records/s"),
        Row("tantivy alone, one thread, documents ready", rates["alone"], "records/s"),
    ]
    report.ratios = [
        Ratio("index / tantivy alone", over(rates["ours"], rates["alone"]), 0.7),
        Ratio("bytes of the index / of the NDJSON", shares, 0.25, at_most=True),
    ]
    conclude(benchmark, report, publish)


@pytest.mark.parametrize("tier", ["hot", "cold"])
def bench_search(
    benchmark: BenchmarkFixture, searched: tuple[str, int, int], rounds: int, publish: Publish, tier: str
) -> None:
    """search_filtered: ten hits read and decoded, against tantivy's own bare search of the same query."""
    root, records, size = searched
    if tier == "cold":
        with MemStore(root, clock=ManualClock(_COLD_US)) as store:
            store.maintain(parts={"tiers"})
            assert {each["tier"] for each in store.tiers()["tiers"] if each["records"]} == {"cold"}
    with MemStore(root, read_only=True, settings=_CACHES_OFF) as store:
        searchers = _searchers(root)
        queries = [bare_query(asked) for asked in QUESTIONS]

        def ours(number: int) -> object:
            asked = QUESTIONS[number]
            return store.search(asked.query, **asked.filters)

        def ours_plain(number: int) -> object:
            asked = QUESTIONS[number]
            return store.search(asked.query, highlight=False, **asked.filters)

        def alone(number: int) -> object:
            return [searcher.search(queries[number], 10) for searcher in searchers]

        for number in range(len(QUESTIONS)):
            assert store.search(QUESTIONS[number].query, **QUESTIONS[number].filters).total == sum(
                found.count
                for found in alone(number)  # type: ignore[attr-defined]  # a turn gives back any object
            )
        turns = Turns({"memstore": ours, "memstore, no highlights": ours_plain, "tantivy": alone})
        numbers = list(range(len(QUESTIONS))) * _REPEATS
        turns.take(numbers)
        turns.forget()
        run_rounds(benchmark, turns.take, args=(numbers,), rounds=rounds)
        by_question = [_of(turns, number) for number in range(len(QUESTIONS))]
    report = Report(f"search_filtered[{tier}]", root, "does not matter", records, size)
    report.rows = [
        Row("memstore, ten records read", turns.us["memstore"], "us"),
        Row("the same without highlights", turns.us["memstore, no highlights"], "us"),
        Row("tantivy, two partitions, no records", turns.us["tantivy"], "us"),
        *(
            Row(f"{asked.query} {sorted(asked.filters)}", values, "us")
            for asked, values in zip(QUESTIONS, by_question, strict=True)
        ),
    ]
    report.ratios = [
        Ratio(
            "search / tantivy's bare search, p50",
            turns.over("memstore", "tantivy"),
            3 if tier == "hot" else 10,
            at_most=True,
        ),
        Ratio("the same without highlights", turns.over("memstore, no highlights", "tantivy")),
    ]
    conclude(benchmark, report, publish)


def _of(turns: Turns, number: int) -> list[float]:
    return [us for index, us in enumerate(turns.us["memstore"]) if index % len(QUESTIONS) == number]


def _searchers(root: str) -> list[tantivy.Searcher]:
    """Every partition as tantivy alone would open it."""
    paths = [entry.path for entry in os.scandir(StorePaths(root).search)]
    found = []
    for path in sorted(paths):
        index = tantivy.Index.open(path)
        Analyzer("english").register(index)
        found.append(index.searcher())
    return found


def bench_aggregate(
    benchmark: BenchmarkFixture, searched: tuple[str, int, int], scratch: str, rounds: int, publish: Publish
) -> None:
    """By type with percentiles, and a daily histogram, against DuckDB over the same lines as NDJSON."""
    import duckdb  # noqa: PLC0415 - a peer

    root, records, size = searched
    plain = os.path.join(scratch, "all.ndjson")
    with open(plain, "wb") as file:
        file.writelines(line + b"\n" for line in all_lines(root))
    columns = "{memory_type: 'VARCHAR', timestamp_utc: 'TIMESTAMP', response: 'STRUCT(processing_time_ms DOUBLE)'}"
    source = f"read_ndjson('{plain}', columns = {columns})"
    by_type = (
        "SELECT memory_type, count(*), avg(response.processing_time_ms), "
        f"quantile_cont(response.processing_time_ms, [0.5, 0.9, 0.99]) FROM {source} GROUP BY 1"
    )
    by_day = f"SELECT date_trunc('day', timestamp_utc), count(*) FROM {source} GROUP BY 1"
    database = duckdb.connect()
    seconds: dict[str, list[float]] = {"ours": [], "duckdb": []}
    with MemStore(root, read_only=True) as store:

        def ask() -> tuple[list[Any], list[Any]]:
            metrics = ["avg(ms)", "p50(ms)", "p90(ms)", "p99(ms)"]
            return list(store.aggregate(by="type", metrics=metrics)), list(store.aggregate(interval="day"))

        def take() -> None:
            began = perf_counter()
            ask()
            seconds["ours"].append(perf_counter() - began)
            began = perf_counter()
            database.execute(by_type).fetchall()
            database.execute(by_day).fetchall()
            seconds["duckdb"].append(perf_counter() - began)

        groups, days = ask()
        theirs = {row[0]: row[1:] for row in database.execute(by_type).fetchall()}
        assert sum(row.count for row in days) == records
        for row in groups:
            count, average, quantiles = theirs[row.key["type"]]
            assert row.count == count
            assert row.metrics["avg(ms)"] == pytest.approx(average)
            assert row.metrics["p99(ms)"] == pytest.approx(quantiles[2], rel=0.02)
        run_rounds(benchmark, take, rounds=rounds)
    report = Report("aggregate", root, "does not matter", records, size)
    report.rows = [
        Row("by type with percentiles, and by day", seconds["ours"], "s"),
        Row("DuckDB over the NDJSON, both", seconds["duckdb"], "s"),
    ]
    report.ratios = [Ratio("DuckDB / aggregate", over(seconds["duckdb"], seconds["ours"]), 10)]
    conclude(benchmark, report, publish)


def bench_search_memory(benchmark: BenchmarkFixture, searched: tuple[str, int, int], publish: Publish) -> None:
    """Resident memory of a process that opens a store, searches, counts facets and aggregates."""
    root, records, size = searched
    found: list[dict[str, Any]] = []
    run_rounds(benchmark, lambda: found.extend(run_together([["search", root]])), rounds=3)
    report = Report("search_memory", root, "does not matter", records, size)
    report.rows = [
        Row("peak resident memory", [each["peak_kib"] / 1024 for each in found], "MiB"),
        Row("of it private", [each["private_kib"] / 1024 for each in found], "MiB"),
        Row("open and first search", [each["first_ms"] for each in found], "ms"),
    ]
    report.ratios = [
        Ratio("peak resident memory", [each["peak_kib"] / 1024 for each in found], 200, at_most=True, unit="MiB")
    ]
    conclude(benchmark, report, publish)


def bench_append_while_indexing(
    benchmark: BenchmarkFixture, scratch: str, rounds: int, request: pytest.FixtureRequest, publish: Publish
) -> None:
    """Durable appends of one process while another indexes, against the same appends while nobody does."""
    records = min(_records(request), 300_000)
    rates: dict[str, list[float]] = {"alone": [], "beside": []}

    def fill(name: str, indexing: Callable[[str], subprocess.Popen[bytes]] | None) -> None:
        root = os.path.join(scratch, f"{name}-{len(rates[name])}")
        with MemStore(root) as store:
            store.append(agent_id="first", content="before")
            store.index()
        beside = None if indexing is None else indexing(root)
        [result] = run_together(
            [["fill", root, "--durability=fsync", f"--records={records}", "--batch=1000", "--seed=1", "--agents=100"]]
        )
        rates[name].append(records / (result["ended"] - result["started"]))
        if beside is not None:
            beside.terminate()
            beside.wait()

    def daemon(root: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen([sys.executable, "-m", "memstore", "--root", root, "daemon"], stdout=subprocess.DEVNULL)

    def take() -> None:
        fill("alone", None)
        fill("beside", daemon)

    run_rounds(benchmark, take, rounds=max(rounds // 2, 2))
    report = Report("append_while_indexing", scratch, "fsync", records, records * 780)
    report.rows = [
        Row("appends, nobody indexes", rates["alone"], "records/s"),
        Row("appends while a daemon indexes", rates["beside"], "records/s"),
    ]
    report.ratios = [Ratio("appends beside the indexer / alone", over(rates["beside"], rates["alone"]), 0.8)]
    conclude(benchmark, report, publish)


@pytest.mark.parametrize("exponent", [1.0, 1.1, 1.2])
def bench_zipf(  # noqa: PLR0917 - fixtures
    benchmark: BenchmarkFixture,
    scratch: str,
    rounds: int,
    request: pytest.FixtureRequest,
    publish: Publish,
    exponent: float,
) -> None:
    """Lookups by id, few of them most of the time: how many the cache answers with its default budget."""
    records = _records(request)
    root = os.path.join(scratch, "store")
    ids = filled_store(root, records=records, agents=1000)
    choose = random.Random(SEED)
    choose.shuffle(ids)
    weights = list(itertools.accumulate(1 / rank**exponent for rank in range(1, records + 1)))
    shares: list[float] = []
    us: list[float] = []
    with MemStore(root, read_only=True) as store:

        def take() -> None:
            wanted = choose.choices(ids, cum_weights=weights, k=_LOOKUPS)
            before = store.stats()["caches"]["records"]
            began = perf_counter()
            for memory_id in wanted:
                store.get(memory_id)
            us.append((perf_counter() - began) / _LOOKUPS * 1e6)
            after = store.stats()["caches"]["records"]
            hits, misses = after["hits"] - before["hits"], after["misses"] - before["misses"]
            shares.append(hits / (hits + misses))

        for _ in range(3):
            take()
        shares.clear()
        us.clear()
        run_rounds(benchmark, take, rounds=rounds)
    report = Report(f"zipf[exponent {exponent}]", scratch, "does not matter", records, records * LINE_BYTES)
    report.rows = [Row("get, from the cache or not", us, "us")]
    report.ratios = [Ratio("hit rate", shares, 0.9 if exponent > 1 else None, unit="of all")]
    conclude(benchmark, report, publish)
