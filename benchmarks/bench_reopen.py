"""reopen: a store that was closed, opened again, against opening and reading the one file that says what it is."""

from __future__ import annotations

import os
from time import perf_counter

from benchmarks.library import Library
from benchmarks.measure import Bench
from benchmarks.report import Headline, Report, Row
from benchmarks.turns import Turns
from benchmarks.workers import run_together
from benchmarks.workloads import LINE_BYTES, agent_names
from memstore import MemStore
from memstore.format.names import StorePaths


def bench_reopen(bench: Bench, library: Library) -> None:
    """Open to write, and close; and in fresh processes, with the first read."""
    root = library.hot
    store_file = StorePaths(root).store_file
    agent = agent_names(1)[0]
    fresh_ms: list[float] = []
    first_read_ms: list[float] = []
    open_us: list[float] = []

    def reopen(_: int) -> None:
        began = perf_counter()
        store = MemStore(root, create=False)
        open_us.append((perf_counter() - began) * 1e6)
        store.close()

    def read(_: int) -> None:
        descriptor = os.open(store_file, os.O_RDONLY | os.O_CLOEXEC)
        os.read(descriptor, 1 << 20)
        os.close(descriptor)

    turns = Turns({"memstore": reopen, "floor": read})

    def take() -> None:
        with bench.meter.running():
            turns.take(range(max(bench.sizes.lookups // 40, 1)))
        for _ in range(bench.sizes.openings):
            [found] = run_together([["open", root, f"--agent={agent}"]])
            assert found["found"] == 1
            fresh_ms.append(found["open_ms"])
            first_read_ms.append(found["first_recent_ms"])

    bench.run(take)
    records = len(library.lines)
    report = Report("reopen", bench.scratch, "does not matter", records, records * LINE_BYTES)
    report.headline = Headline(
        "open and close",
        turns.us["memstore"],
        turns.per_second("memstore"),
        "open, read and close the store's STORE.json",
        turns.over("floor", "memstore"),
        bench.meter.weight(records * LINE_BYTES),
    )
    report.rows = [
        Row("open alone", open_us, "µs"),
        Row("open in a fresh process", fresh_ms, "ms"),
        Row("its first read", first_read_ms, "ms"),
        Row("floor", turns.us["floor"], "µs"),
    ]
    bench.conclude(report)
