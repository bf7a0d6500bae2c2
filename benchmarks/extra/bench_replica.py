"""What a second copy on the same disk costs: fill_replica."""

from __future__ import annotations

import os
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from time import perf_counter
from typing import Any

import pytest

from benchmarks.aside import put_aside
from benchmarks.figures import over
from benchmarks.floors import fdatasync_us
from benchmarks.measure import Bench
from benchmarks.report import Ratio, Report, Row
from benchmarks.workloads import LINE_BYTES, Memory, memories
from memstore import MemStore

pytestmark = pytest.mark.extra
_NAMES = ("with one copy", "with two")
_BATCH = 1000
_AGENTS = 100
_THREADS = 16
_PER_TURN = {"one": 100, "threads": 500, "batches": 5 * _BATCH}
"""Records of each kind that a store appends when it is its turn."""
_TOLD = {"one": "one at a time", "threads": f"{_THREADS} threads", "batches": f"batches of {_BATCH:,}"}


def _append(store: MemStore, kind: str, pool: list[Memory], threads: ThreadPoolExecutor) -> float:
    """One turn of a store; seconds it took."""
    chosen = pool[: _PER_TURN[kind]]
    started = perf_counter()
    if kind == "one":
        for memory in chosen:
            store.append(**memory.fields)
    elif kind == "threads":
        list(threads.map(lambda memory: store.append(**memory.fields), chosen))
    else:
        for first in range(0, len(chosen), _BATCH):
            store.append_many([memory.fields for memory in chosen[first : first + _BATCH]])
    return perf_counter() - started


def _take_turns(stores: dict[str, MemStore], pool: list[Memory], turns: int) -> dict[tuple[str, str], float]:
    """Seconds by kind and store; turns are short, so that what else the disk has to do is charged to both."""
    seconds: dict[tuple[str, str], float] = defaultdict(float)
    with ThreadPoolExecutor(_THREADS) as threads:
        for kind in _PER_TURN:
            for turn in range(turns):
                for name in _NAMES if turn % 2 else reversed(_NAMES):
                    seconds[kind, name] += _append(stores[name], kind, pool, threads)
    return seconds


def bench_fill_replica(bench: Bench) -> None:
    """Appends one at a time, from 16 threads, and in batches of 1,000: with one copy, and with two on one disk."""
    scratch, turns = bench.scratch, bench.sizes.replica_turns
    pool = memories(_PER_TURN["batches"], agents=_AGENTS)
    rates: dict[str, list[float]] = defaultdict(list)
    syncs: list[float] = []

    def before() -> tuple[tuple[dict[str, MemStore]], dict[str, Any]]:
        syncs.extend(fdatasync_us(os.path.join(scratch, "sync")))
        stores = {name: MemStore(os.path.join(scratch, name)) for name in _NAMES}
        os.mkdir(os.path.join(scratch, "second"))
        stores["with two"].add_replica(os.path.join(scratch, "second"))
        for store in stores.values():
            store.append(**pool[0].fields)  # the first one creates the lane
        return (stores,), {}

    def fill(stores: dict[str, MemStore]) -> None:
        for (kind, name), seconds in _take_turns(stores, pool, turns).items():
            rates[f"{kind} {name}"].append(turns * _PER_TURN[kind] / seconds)

    def after(stores: dict[str, MemStore]) -> None:
        status = stores["with two"].replica_status()
        assert status is not None
        assert status["state"] == "ok"
        for store in stores.values():
            store.close()
        for name in (*_NAMES, "second"):
            put_aside(os.path.join(scratch, name))

    bench.run(fill, setup=before, teardown=after)
    bench.conclude(_report(scratch, rates, syncs, turns))


def _report(scratch: str, rates: dict[str, list[float]], syncs: list[float], turns: int) -> Report:
    total = turns * sum(_PER_TURN.values())
    report = Report("fill_replica", scratch, "fsync", total, total * LINE_BYTES)
    for kind, told in _TOLD.items():
        report.rows += [Row(f"{told}, {name}", rates[f"{kind} {name}"], "records/s") for name in _NAMES]
    report.rows.append(Row("write and fdatasync of one record", syncs, "µs"))
    report.ratios = [
        Ratio(f"two copies / one, {told}", over(rates[f"{kind} with two"], rates[f"{kind} with one copy"]), 0.5)
        for kind, told in _TOLD.items()
    ]
    return report
