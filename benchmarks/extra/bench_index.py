"""Building the index from files against tantivy alone, and what appends lose while another process indexes."""

from __future__ import annotations

import os
import subprocess
import sys
from time import perf_counter, process_time

import pytest

from benchmarks.aside import put_aside
from benchmarks.figures import over
from benchmarks.measure import Bench
from benchmarks.report import Ratio, Report, Row
from benchmarks.searching import BareIndex, all_lines, fill_for_search
from benchmarks.workers import fill_command, run_together
from benchmarks.workloads import LINE_BYTES
from memstore import MemStore

pytestmark = pytest.mark.extra
_RECORDS_MAX = 300_000


def bench_index(bench: Bench) -> None:
    """Building the index of a store from its files, against tantivy alone fed with documents that are ready.

    Both put the same documents into the same schema with one thread and as much memory. The ratio by the clock hangs
    on whether there is a processor to spare for reading and making documents; that of processor time does not.
    """
    records = min(bench.sizes.searched, _RECORDS_MAX)
    root = os.path.join(bench.scratch, "store")
    size = fill_for_search(root, records, agents=bench.sizes.agents)
    lines = list(all_lines(root))
    rates: dict[str, list[float]] = {"ours": [], "alone": []}
    us: dict[str, list[float]] = {"ours": [], "alone": []}
    shares: list[float] = []

    def took(side: str, wall_s: float, processor_s: float) -> None:
        rates[side].append(records / wall_s)
        us[side].append(processor_s / records * 1e6)

    def take() -> None:
        took("alone", *BareIndex(os.path.join(bench.scratch, "bare")).fill(lines))
        with MemStore(root, settings={"search.background": False}) as store:
            began, processor_began = perf_counter(), process_time()
            report = store.index(rebuild=True)
            took("ours", perf_counter() - began, process_time() - processor_began)
            assert (report["added"], report["finished"]) == (records, True)
            shares.append(store.index_status()["bytes"] / size)

    bench.run(take)
    report = Report("index", bench.scratch, "fsync", records, size)
    report.rows = [
        Row("memstore index rebuild, from day files", rates["ours"], "records/s"),
        Row("tantivy alone, one thread, documents ready", rates["alone"], "records/s"),
        Row("memstore, processor time a record", us["ours"], "µs"),
        Row("tantivy alone, processor time a record", us["alone"], "µs"),
    ]
    report.ratios = [
        Ratio("index / tantivy alone", over(rates["ours"], rates["alone"]), 0.7),
        Ratio("records a second of processor time, index / tantivy alone", over(us["alone"], us["ours"])),
        Ratio("bytes of the index / of the NDJSON", shares, 0.25, at_most=True),
    ]
    bench.conclude(report)


def bench_append_while_indexing(bench: Bench) -> None:
    """Durable appends of one process while another indexes, against the same appends while nobody does."""
    records = min(bench.sizes.searched, _RECORDS_MAX)
    rates: dict[str, list[float]] = {"alone": [], "beside": []}

    def fill(name: str, *, indexing: bool) -> None:
        root = os.path.join(bench.scratch, name)
        with MemStore(root) as store:
            store.append(agent_id="first", content="before")
            store.index()
        daemon = (
            subprocess.Popen([sys.executable, "-m", "memstore", "--root", root, "daemon"], stdout=subprocess.DEVNULL)
            if indexing
            else None
        )
        [result] = run_together(
            [fill_command(root, durability="fsync", records=records, batch=1000, seed=1, agents=100)]
        )
        rates[name].append(records / (result["ended"] - result["started"]))
        if daemon is not None:
            daemon.terminate()
            daemon.wait()
        put_aside(root)

    def take() -> None:
        fill("alone", indexing=False)
        fill("beside", indexing=True)

    bench.run(take)
    report = Report("append_while_indexing", bench.scratch, "fsync", records, records * LINE_BYTES)
    report.rows = [
        Row("appends, nobody indexes", rates["alone"], "records/s"),
        Row("appends while a daemon indexes", rates["beside"], "records/s"),
    ]
    report.ratios = [Ratio("appends beside the indexer / alone", over(rates["beside"], rates["alone"]), 0.8)]
    bench.conclude(report)
