"""aggregate: by type with percentiles, and a daily histogram, against tantivy alone, and DuckDB over the same lines."""

from __future__ import annotations

import os
from time import perf_counter
from typing import Any

import duckdb
import pytest
import tantivy

from benchmarks.figures import over
from benchmarks.library import Library
from benchmarks.measure import Bench
from benchmarks.report import Headline, Report, Row, judged
from benchmarks.searching import all_lines, bare_searchers
from memstore import MemStore
from memstore.search.schema import MS, TIME
from memstore.timestamps import US_PER_DAY

_METRICS = ["avg(ms)", "p50(ms)", "p90(ms)", "p99(ms)"]
_BY_TYPE = {
    "types": {
        "terms": {"field": "type"},
        "aggs": {"avg": {"avg": {"field": MS}}, "ms": {"percentiles": {"field": MS, "percents": [50, 90, 99]}}},
    }
}
_BY_DAY = {"days": {"histogram": {"field": TIME, "interval": float(US_PER_DAY)}}}
_COLUMNS = "{memory_type: 'VARCHAR', timestamp_utc: 'TIMESTAMP', response: 'STRUCT(processing_time_ms DOUBLE)'}"


def bench_aggregate(bench: Bench, library: Library) -> None:
    """Both questions in turn; tantivy alone answers for each partition, and adds nothing up."""
    searched = library.searched
    plain = os.path.join(bench.scratch, "all.ndjson")
    with open(plain, "wb") as file:
        file.writelines(line + b"\n" for line in all_lines(searched.root))
    searchers = bare_searchers(searched.root)
    everything = tantivy.Query.all_query()
    database = duckdb.connect()
    seconds: dict[str, list[float]] = {"memstore": [], "floor": [], "duckdb": []}
    with MemStore(searched.root, read_only=True) as store:

        def ask() -> tuple[list[Any], list[Any]]:
            return list(store.aggregate(by="type", metrics=_METRICS)), list(store.aggregate(interval="day"))

        def alone() -> list[Any]:
            return [searcher.aggregate(everything, wanted) for searcher in searchers for wanted in (_BY_TYPE, _BY_DAY)]

        def take() -> None:
            for side, call in (("memstore", ask), ("floor", alone), ("duckdb", lambda: _by_duckdb(database, plain))):
                began = perf_counter()
                call()
                seconds[side].append(perf_counter() - began)

        groups, days = ask()
        theirs, _ = _by_duckdb(database, plain)
        assert sum(row.count for row in days) == searched.records
        for row in groups:
            count, average, quantiles = theirs[row.key["type"]]
            assert row.count == count
            assert row.metrics["avg(ms)"] == pytest.approx(average)
            assert row.metrics["p99(ms)"] == pytest.approx(quantiles[2], rel=0.1)  # few records have far neighbours
        alone()
        with bench.meter.running():
            bench.run(take, rounds=2 * bench.sizes.rounds)
    report = Report("aggregate", bench.scratch, "reads only", searched.records, searched.bytes)
    report.headline = Headline(
        "two aggregations",
        [each * 1e6 for each in seconds["memstore"]],
        [2 * searched.records / each for each in seconds["memstore"]],
        "tantivy alone, its own aggregations over the same index",
        over(seconds["floor"], seconds["memstore"]),
        bench.meter.weight(searched.bytes),
    )
    report.rows = [
        Row("floor", [each * 1e3 for each in seconds["floor"]], "ms"),
        Row("DuckDB over the NDJSON", [each * 1e3 for each in seconds["duckdb"]], "ms"),
    ]
    report.ratios = [
        judged("aggregate", "DuckDB over NDJSON / aggregate", over(seconds["duckdb"], seconds["memstore"]))
    ]
    bench.conclude(report)


def _by_duckdb(database: duckdb.DuckDBPyConnection, path: str) -> tuple[dict[str, Any], list[Any]]:
    source = f"read_ndjson('{path}', columns = {_COLUMNS})"
    by_type = (
        "SELECT memory_type, count(*), avg(response.processing_time_ms), "
        f"quantile_cont(response.processing_time_ms, [0.5, 0.9, 0.99]) FROM {source} GROUP BY 1"
    )
    by_day = f"SELECT date_trunc('day', timestamp_utc), count(*) FROM {source} GROUP BY 1"
    types = {row[0]: row[1:] for row in database.execute(by_type).fetchall()}
    return types, database.execute(by_day).fetchall()
