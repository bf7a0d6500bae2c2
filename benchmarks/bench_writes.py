"""Writes: fill_batch, fill_async, fill_procs."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections import defaultdict
from time import perf_counter
from typing import Any

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks.floors import FLOOR_BATCH, fdatasync_us, write_floor
from benchmarks.measure import Publish, conclude, over, run_rounds
from benchmarks.peers import ROCKSDB_MISSING, RocksdbPeer, SqlitePeer
from benchmarks.report import Ratio, Report, Row
from benchmarks.worker import fill_command, run_together
from benchmarks.workloads import LINE_BYTES, batches, memories
from memstore import AsyncMemStore, MemStore

_POOL = 40_000
_AGENTS = 1000


def bench_fill_batch(
    benchmark: BenchmarkFixture, scratch: str, rounds: int, request: pytest.FixtureRequest, publish: Publish
) -> None:
    """``append_many`` of 4,000, durable, 1,000 agents, until all is merged into day files."""
    total = int(request.config.getoption("--fill-records"))
    pool = memories(_POOL, agents=_AGENTS)
    rates: dict[str, list[float]] = defaultdict(list)
    latencies: list[float] = []
    root = os.path.join(scratch, "store")

    def before() -> tuple[tuple[MemStore, list[list[dict[str, Any]]]], dict[str, Any]]:
        path = os.path.join(scratch, "floor")
        seconds, _ = write_floor(path, batches(pool, size=FLOOR_BATCH, total=total))
        rates["floor"].append(total / seconds)
        os.unlink(path)
        given = [[memory.fields for memory in batch] for batch in batches(pool, size=FLOOR_BATCH, total=total)]
        os.sync()  # what others left dirty is not charged to what comes next
        return (MemStore(root), given), {}

    def fill(store: MemStore, given: list[list[dict[str, Any]]]) -> None:
        started = perf_counter()
        for batch in given:
            began = perf_counter()
            store.append_many(batch)
            latencies.append((perf_counter() - began) * 1e3)
        acknowledged = perf_counter()
        store.drain()
        rates["acknowledged"].append(total / (acknowledged - started))
        rates["memstore"].append(total / (perf_counter() - started))

    def after(store: MemStore, _: object) -> None:
        stats = store.stats()
        store.close()
        assert stats["records"] == total
        assert stats["lanes"]["open"] == stats["lanes"]["sealed"] == 0
        shutil.rmtree(root)
        if ROCKSDB_MISSING is None:
            os.sync()
            rocks = RocksdbPeer(os.path.join(scratch, "rocksdb"))
            rates["rocksdb"].append(total / rocks.fill(batches(pool, size=FLOOR_BATCH, total=total)))
            rocks.close()
            shutil.rmtree(os.path.join(scratch, "rocksdb"))
        os.sync()
        os.mkdir(os.path.join(scratch, "sqlite"))
        sqlite = SqlitePeer(os.path.join(scratch, "sqlite", "memory.db"))
        rates["sqlite"].append(total / sqlite.fill(batches(pool, size=FLOOR_BATCH, total=total)))
        sqlite.close()
        shutil.rmtree(os.path.join(scratch, "sqlite"))
        os.sync()

    run_rounds(benchmark, fill, setup=before, teardown=after, rounds=rounds)
    report = Report("fill_batch", scratch, "fsync", total, total * LINE_BYTES)
    report.rows = [
        Row("memstore, merges and drain included", rates["memstore"], "records/s"),
        Row("memstore, to the last acknowledgement", rates["acknowledged"], "records/s"),
        Row("floor: encode, join, write, fdatasync", rates["floor"], "records/s"),
        Row("rocksdb, sync", rates["rocksdb"], "records/s", ROCKSDB_MISSING or ""),
        Row("sqlite, WAL, FULL, key and index", rates["sqlite"], "records/s"),
        Row("one append_many of 4,000", latencies, "ms"),
    ]
    report.ratios = [Ratio("memstore / floor", over(rates["memstore"], rates["floor"]), 0.5)]
    if ROCKSDB_MISSING is None:
        report.ratios.append(Ratio("memstore / rocksdb", over(rates["memstore"], rates["rocksdb"]), 2))
    report.ratios.append(Ratio("memstore / sqlite", over(rates["memstore"], rates["sqlite"]), 10))
    conclude(benchmark, report, publish)


def bench_fill_async(benchmark: BenchmarkFixture, scratch: str, rounds: int, publish: Publish) -> None:
    """1,000 coroutines, each appending one record at a time, against one thread doing so."""
    coroutines, each, alone = 1000, 50, 2000
    total = coroutines * each
    pool = memories(coroutines, agents=_AGENTS)
    rates: dict[str, list[float]] = defaultdict(list)
    latencies: list[float] = []
    latencies_alone: list[float] = []
    syncs: list[float] = []
    root = os.path.join(scratch, "store")

    def before() -> tuple[tuple[asyncio.Runner, AsyncMemStore], dict[str, Any]]:
        syncs.extend(fdatasync_us(os.path.join(scratch, "sync")))
        with MemStore(root + "-alone") as store:
            store.append(**pool[0].fields)  # the first one creates the lane
            started = perf_counter()
            for index in range(alone):
                began = perf_counter()
                store.append(**pool[index % coroutines].fields)
                latencies_alone.append((perf_counter() - began) * 1e6)
            rates["alone"].append(alone / (perf_counter() - started))
        os.sync()
        runner = asyncio.Runner()
        return (runner, runner.run(opened())), {}

    async def opened() -> AsyncMemStore:
        store = AsyncMemStore(root)
        await store.append(**pool[0].fields)
        return store

    async def append(store: AsyncMemStore, fields: dict[str, Any]) -> None:
        for _ in range(each):
            began = perf_counter()
            await store.append(**fields)
            latencies.append((perf_counter() - began) * 1e6)

    async def append_all(store: AsyncMemStore) -> None:
        await asyncio.gather(*(append(store, memory.fields) for memory in pool))

    def fill(runner: asyncio.Runner, store: AsyncMemStore) -> None:
        started = perf_counter()
        runner.run(append_all(store))
        rates["async"].append(total / (perf_counter() - started))

    def after(runner: asyncio.Runner, store: AsyncMemStore) -> None:
        runner.run(store.close())
        runner.close()
        shutil.rmtree(root)
        shutil.rmtree(root + "-alone")
        os.sync()

    run_rounds(benchmark, fill, setup=before, teardown=after, rounds=rounds)
    report = Report("fill_async", scratch, "fsync", total, total * LINE_BYTES)
    report.rows = [
        Row("1,000 coroutines", rates["async"], "records/s"),
        Row("one thread", rates["alone"], "records/s"),
        Row("one append of 1,000 at once", latencies, "us"),
        Row("one append alone", latencies_alone, "us"),
        Row("floor: write and fdatasync of one record", syncs, "us"),
    ]
    report.ratios = [Ratio("1,000 coroutines / one thread", over(rates["async"], rates["alone"]), 10)]
    conclude(benchmark, report, publish)


@pytest.mark.parametrize("batch", [1, 1000], ids=["single", "batch"])
def bench_fill_procs(benchmark: BenchmarkFixture, scratch: str, rounds: int, publish: Publish, batch: int) -> None:
    """2 processes of ``durability="os"`` against 1: records per second in total, until the last acknowledgement."""
    each = 40_000 if batch == 1 else 200_000
    rates: dict[int, list[float]] = {1: [], 2: []}
    latencies: list[float] = []
    root = os.path.join(scratch, "store")

    def run(processes: int) -> None:
        os.sync()
        found = run_together(
            [fill_command(root, durability="os", records=each, batch=batch, seed=number) for number in range(processes)]
        )
        seconds = max(item["ended"] for item in found) - min(item["started"] for item in found)
        rates[processes].append(processes * each / seconds)
        if processes == 2:
            for item in found:
                latencies.extend(item["us"])
        shutil.rmtree(root)

    run_rounds(benchmark, run, args=(2,), setup=None, teardown=lambda _: run(1), rounds=rounds)
    name = "one append" if batch == 1 else f"one append_many of {batch:,}"
    report = Report(
        f"fill_procs[{'single' if batch == 1 else 'batch'}]", scratch, "os", 2 * each, 2 * each * LINE_BYTES
    )
    report.rows = [
        Row("2 processes", rates[2], "records/s"),
        Row("1 process", rates[1], "records/s"),
        Row(f"{name}, 2 processes", latencies, "us"),
    ]
    report.ratios = [Ratio("2 processes / 1", over(rates[2], rates[1]), 1.5)]
    conclude(benchmark, report, publish)
