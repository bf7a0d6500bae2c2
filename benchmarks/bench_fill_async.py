"""fill_async: a thousand coroutines, each appending one record at a time, against one appender and its floor."""

from __future__ import annotations

import asyncio
import os
from time import perf_counter
from typing import Any

from benchmarks.aside import put_aside
from benchmarks.figures import over, percentile
from benchmarks.floors import fdatasync_us, wake_us, write_batches
from benchmarks.measure import Bench
from benchmarks.report import Headline, Ratio, Report, Row, judged
from benchmarks.workloads import LINE_BYTES, Memory, batches, memories
from memstore import AsyncMemStore, MemStore

_ALONE = 2000
"""Records of the one appender."""


def bench_fill_async(bench: Bench) -> None:
    """They share syncs: what a thousand waiters can have at most is a write and a sync for all of them at a time."""
    coroutines, each = bench.sizes.coroutines, bench.sizes.fill_async_each
    total = coroutines * each
    pool = memories(coroutines, agents=bench.sizes.agents)
    rates: dict[str, list[float]] = {"async": [], "alone": [], "floor": []}
    us: dict[str, list[float]] = {"append": [], "waking": []}
    p99: dict[str, list[float]] = {"append": [], "waking": []}
    syncs: list[float] = []
    root = os.path.join(bench.scratch, "store")

    def note(kind: str, taken: list[float]) -> None:
        us[kind] += taken
        p99[kind].append(percentile(taken, 0.99))

    def before() -> tuple[tuple[asyncio.Runner, AsyncMemStore], dict[str, Any]]:
        os.sync()
        syncs.append(percentile(fdatasync_us(os.path.join(bench.scratch, "sync")), 0.5))
        together = batches(pool, size=coroutines, total=total)
        rates["floor"].append(total / write_batches(os.path.join(bench.scratch, "floor"), together))
        rates["alone"].append(_alone(root + "-alone", pool, min(_ALONE, total)))
        note("waking", wake_us(coroutines, each))
        os.sync()
        runner = asyncio.Runner()
        return (runner, runner.run(opened())), {}

    async def opened() -> AsyncMemStore:
        store = AsyncMemStore(root)
        await store.append(**pool[0].fields)
        return store

    async def append(store: AsyncMemStore, fields: dict[str, Any], taken: list[float]) -> None:
        for _ in range(each):
            began = perf_counter()
            await store.append(**fields)
            taken.append((perf_counter() - began) * 1e6)

    async def append_all(store: AsyncMemStore, taken: list[float]) -> None:
        await asyncio.gather(*(append(store, memory.fields, taken) for memory in pool))

    def fill(runner: asyncio.Runner, store: AsyncMemStore) -> None:
        taken: list[float] = []
        with bench.meter.running():
            started = perf_counter()
            runner.run(append_all(store, taken))
            rates["async"].append(total / (perf_counter() - started))
        note("append", taken)

    def after(runner: asyncio.Runner, store: AsyncMemStore) -> None:
        runner.run(store.close())
        runner.close()
        put_aside(root)
        put_aside(root + "-alone")
        os.sync()

    bench.run(fill, setup=before, teardown=after)
    report = Report("fill_async", bench.scratch, "fsync", total, total * LINE_BYTES)
    report.headline = Headline(
        f"append, one of {coroutines:,} at once",
        us["append"],
        rates["async"],
        f"encode, join, write, fdatasync of {coroutines:,} at a time",
        over(rates["async"], rates["floor"]),
        bench.meter.weight(bench.sizes.rounds * total * LINE_BYTES),
    )
    report.rows = [
        Row("one appender", rates["alone"], "records/s"),
        Row("write and fdatasync of one record", syncs, "µs"),
        Row("as many coroutines woken by a thread, nothing written", us["waking"], "µs"),
    ]
    report.ratios = [
        judged("fill_async", "1,000 coroutines / one appender", over(rates["async"], rates["alone"])),
        judged("fill_async", "p99 / fdatasync", over(p99["append"], syncs)),
        Ratio("p99 of waking alone / fdatasync", over(p99["waking"], syncs), at_most=True),
        Ratio("p99 / p99 of waking alone", over(p99["append"], p99["waking"]), at_most=True),
    ]
    bench.conclude(report)


def _alone(root: str, pool: list[Memory], records: int) -> float:
    """Records per second of one appender."""
    with MemStore(root) as store:
        store.append(**pool[0].fields)  # the first one creates the lane
        started = perf_counter()
        for index in range(records):
            store.append(**pool[index % len(pool)].fields)
        return records / (perf_counter() - started)
