"""fill_one, fill_batch, fill_agents: durable appends and their merges, against encode, write, fdatasync."""

from __future__ import annotations

import os
from time import perf_counter

from benchmarks.aside import put_aside
from benchmarks.figures import over
from benchmarks.floors import FLOOR_BATCH, write_batches, write_each
from benchmarks.measure import Bench
from benchmarks.report import Headline, Report, Row
from benchmarks.workloads import LINE_BYTES, Memory, batches, memories
from memstore import MemStore

_POOL = 40_000
_CROWD = 1000
"""More agents than these are very many."""
_FEW = 5
"""At least so many records each."""


def bench_fill_one(bench: Bench) -> None:
    """``append``, one record at a time, by one thread."""
    total = bench.sizes.fill_one
    pool = memories(min(total, _POOL), agents=bench.sizes.agents)
    given = [memory for batch in batches(pool, size=FLOOR_BATCH, total=total) for memory in batch]
    us: list[float] = []
    floor_us: list[float] = []
    rates: list[float] = []
    floors: list[float] = []
    root = os.path.join(bench.scratch, "store")

    def before() -> tuple[tuple[MemStore], dict[str, object]]:
        os.sync()
        taken = write_each(os.path.join(bench.scratch, "floor"), given)
        floor_us.extend(taken)
        floors.append(total / sum(taken) * 1e6)
        os.sync()
        return (MemStore(root),), {}

    def fill(store: MemStore) -> None:
        with bench.meter.running():
            started = perf_counter()
            for memory in given:
                began = perf_counter()
                store.append(**memory.fields)
                us.append((perf_counter() - began) * 1e6)
            assert not store.drain().pending
            rates.append(total / (perf_counter() - started))

    bench.run(fill, setup=before, teardown=lambda store: _remove(store, root, total))
    report = Report("fill_one", bench.scratch, "fsync", total, total * LINE_BYTES)
    report.headline = Headline(
        "append",
        us,
        rates,
        "encode, write, fdatasync, one record at a time",
        over(rates, floors),
        bench.meter.weight(bench.sizes.rounds * total * LINE_BYTES),
    )
    report.rows = [Row("floor: one record", floor_us, "µs")]
    bench.conclude(report)


def bench_fill_batch(bench: Bench) -> None:
    """``append_many`` of 4,000 records of 1,000 agents."""
    _fill_in_batches(bench, "fill_batch", agents=bench.sizes.agents, total=bench.sizes.fill_batch)


def bench_fill_agents(bench: Bench, crowd: int) -> None:
    """The same with few agents and with very many, who then have few records each, and take long: fewer rounds."""
    rounds = max(bench.sizes.rounds - 2, 1) if crowd > _CROWD else bench.sizes.rounds
    _fill_in_batches(
        bench, f"fill_agents[{crowd}]", agents=crowd, total=max(bench.sizes.fill_agents, _FEW * crowd), rounds=rounds
    )


def _fill_in_batches(bench: Bench, name: str, *, agents: int, total: int, rounds: int | None = None) -> None:
    pool = memories(min(total, max(_POOL, 2 * agents)), agents=agents)
    us: list[float] = []
    rates: list[float] = []
    acknowledged: list[float] = []
    floors: list[float] = []
    root = os.path.join(bench.scratch, "store")

    def before() -> tuple[tuple[MemStore], dict[str, object]]:
        os.sync()  # what others left dirty is not charged to what comes next
        seconds = write_batches(os.path.join(bench.scratch, "floor"), _batches(pool, total))
        floors.append(total / seconds)
        os.sync()
        return (MemStore(root),), {}

    def fill(store: MemStore) -> None:
        given = [[memory.fields for memory in batch] for batch in _batches(pool, total)]
        with bench.meter.running():
            started = perf_counter()
            for batch in given:
                began = perf_counter()
                store.append_many(batch)
                us.append((perf_counter() - began) * 1e6)
            acknowledged.append(total / (perf_counter() - started))
            assert not store.drain(timeout_s=600).pending
            rates.append(total / (perf_counter() - started))

    bench.run(fill, setup=before, teardown=lambda store: _remove(store, root, total), rounds=rounds)
    report = Report(name, bench.scratch, "fsync", total, total * LINE_BYTES)
    report.headline = Headline(
        f"append_many of {FLOOR_BATCH:,}",
        us,
        rates,
        f"encode, join, write, fdatasync of {FLOOR_BATCH:,} at a time",
        over(rates, floors),
        bench.meter.weight(len(rates) * total * LINE_BYTES),
    )
    report.rows = [
        Row("to the last acknowledgement, merges still to come", acknowledged, "records/s"),
        Row("floor", floors, "records/s"),
    ]
    bench.conclude(report)


def _batches(pool: list[Memory], total: int) -> list[list[Memory]]:
    return list(batches(pool, size=FLOOR_BATCH, total=total))


def _remove(store: MemStore, root: str, total: int) -> None:
    stats = store.stats()
    store.close()
    assert stats["records"] == total
    assert stats["lanes"]["open"] == stats["lanes"]["sealed"] == 0
    put_aside(root)
    os.sync()
