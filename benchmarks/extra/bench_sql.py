"""sql: the view over a store against plain DuckDB, over one NDJSON file of the same records and over the store's files.

Neither of the two plain ones verifies anything, or would know of tombstones, lanes and what is still being written.
"""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import duckdb
import pytest

from benchmarks.figures import over
from benchmarks.measure import Bench
from benchmarks.report import Ratio, Report, Row
from benchmarks.tiers import END_US, Stopwatch
from benchmarks.workloads import LINE_BYTES, memories
from memstore import MemStore
from memstore.clock import ManualClock
from memstore.exporters.ndjson import export_ndjson
from memstore.sql import ask
from memstore.sql.columns import PATH, view_statement
from memstore.timestamps import US_PER_DAY, YEAR_10000_US, iso_text

pytestmark = pytest.mark.extra
_AGENTS_MAX, _DAYS = 50, 45
_BATCH = 4000
_QUERIES = {
    "count": "SELECT count(*) FROM memories",
    "group": "SELECT agent_id, memory_type, count(*), max(timestamp_utc) FROM memories GROUP BY ALL",
    "json": "SELECT avg((response->>'confidence')::DOUBLE) FROM memories WHERE list_contains(tags, 'market')",
}


def _records(count: int, agents: int) -> Iterator[dict[str, Any]]:
    """Spread evenly over `_DAYS` before `END_US`."""
    endless = itertools.cycle(memories(min(count, 20_000), agents=agents))
    step_us = _DAYS * US_PER_DAY // count
    for number, memory in zip(range(count), endless, strict=False):
        yield {**memory.fields, "timestamp_utc": iso_text(END_US - _DAYS * US_PER_DAY + number * step_us)}


def _fill(root: str, count: int, *, agents: int, where: str) -> None:
    """All of it in lanes, in day files, or in all three tiers as their age wants."""
    settings = {"merging": {"background": False}} if where == "lanes" else None
    store = MemStore(root, durability="os", clock=ManualClock(END_US), settings=settings)
    records = _records(count, agents)
    while batch := list(itertools.islice(records, _BATCH)):
        store.append_many(batch)
    if where == "lanes":
        return  # left as a killed process leaves it; closing would merge
    assert not store.drain().pending
    if where == "tiers":
        report = store.maintain(trust_clock=True, parts=["tiers"])
        assert not report.failed, report.failed
    store.close()


def _answer(store: MemStore, query: str) -> list[Any]:
    with ask(store, query) as answer:
        return list(answer)


def _plain(paths: list[str]) -> duckdb.DuckDBPyConnection:
    """The same view, over files that DuckDB opens itself."""
    statement = view_statement(since_us=0, until_us=YEAR_10000_US, line_bytes_max=1 << 20)
    connection = duckdb.connect()
    connection.execute(statement.replace(f"'{PATH}'", repr(paths)))
    return connection


def _paths(root: str) -> list[str]:
    return [
        os.path.join(directory, name)
        for directory, _, names in os.walk(os.path.join(root, "memory"))
        for name in names
        if name.endswith((".jsonl", ".jsonl.zst"))
    ]


@pytest.mark.parametrize("where", ["hot", "tiers", "lanes"])
def bench_sql(bench: Bench, where: str) -> None:
    """Three queries, by wall and by processor."""
    count = bench.sizes.searched
    root, dump = os.path.join(bench.scratch, "store"), os.path.join(bench.scratch, "dump.ndjson")
    _fill(root, count, agents=min(_AGENTS_MAX, bench.sizes.agents), where=where)
    spent: dict[tuple[str, str, str], list[float]] = {
        (side, query, kind): []
        for query in _QUERIES
        for side in ("plain", *(() if where == "lanes" else ("by path",)), "memstore")
        for kind in ("wall", "cpu")
    }
    with MemStore(root, read_only=True) as store:
        with open(dump, "wb") as out:
            assert export_ndjson(store, out) == count
        peers = {"plain": _plain([dump])}
        if where != "lanes":
            peers["by path"] = _plain(_paths(root))

        def take() -> None:
            for name, query in _QUERIES.items():
                answers = []
                for side in (*peers, "memstore"):
                    with Stopwatch() as watch:
                        found = _answer(store, query) if side == "memstore" else peers[side].execute(query).fetchall()
                    answers.append(sorted(found))
                    spent[side, name, "wall"].append(watch.spent.wall_s * 1000)
                    spent[side, name, "cpu"].append(watch.spent.cpu_s * 1000)
                assert name == "json" or all(each == answers[0] for each in answers)  # sums of floats differ a little

        bench.run(take)
    report = Report(f"sql[{where}]", bench.scratch, "reads only", count, count * LINE_BYTES)
    report.rows = [Row(f"{query}, {side}, {kind}", values, "ms") for (side, query, kind), values in spent.items()]
    report.rows.append(Row("peak memory of `memstore sql`", [_peak_mib(root, _QUERIES["group"])], "MiB"))
    report.ratios = [
        Ratio(
            f"{query}, {kind}: memstore / {side}",
            over(spent["memstore", query, kind], spent[side, query, kind]),
            at_most=True,
        )
        for side in peers
        for query in _QUERIES
        for kind in ("wall", "cpu")
    ]
    bench.conclude(report)


def _peak_mib(root: str, query: str) -> float:
    """Asked of the process itself: what the system counts for a child begins with its parent's memory."""
    code = (
        "import sys; from memstore.cli.main import main; main(sys.argv[1:]); sys.stdout.flush();"
        "sys.stderr.write(next(l for l in open('/proc/self/status') if l.startswith('VmHWM')).split()[1])"
    )
    command = [sys.executable, "-c", code, "--root", root, "sql", query]
    done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, check=True)
    return int(done.stderr) / 1024
