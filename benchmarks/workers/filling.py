"""Appending, to a store or as the floor does it to a plain file."""

from __future__ import annotations

import argparse
from time import monotonic, perf_counter
from typing import Any

from benchmarks.floors import write_batches
from benchmarks.meter import peak_mib
from benchmarks.workers.start import wait_for_start
from benchmarks.workloads import batches, memories
from memstore import MemStore

POOL_RECORDS = 4000
"""Different records a worker has; few, because its memory is measured."""
_TIMES_TOLD_MAX = 2000


def fill(options: argparse.Namespace) -> dict[str, Any]:
    """Append, then close with all merged; when it began, was acknowledged and closed, and microseconds of calls."""
    records = memories(min(POOL_RECORDS, options.records), agents=options.agents, seed=options.seed)
    store = MemStore(options.root, durability=options.durability)
    wait_for_start()
    taken: list[float] = []
    started = monotonic()
    if options.batch == 1:
        for batch in batches(records, size=POOL_RECORDS, total=options.records):
            for memory in batch:
                began = perf_counter()
                store.append(**memory.fields)
                taken.append((perf_counter() - began) * 1e6)
    else:
        for batch in batches(records, size=options.batch, total=options.records):
            fields = [memory.fields for memory in batch]
            began = perf_counter()
            store.append_many(fields)
            taken.append((perf_counter() - began) * 1e6)
    ended = monotonic()
    assert not store.drain(timeout_s=600).pending
    merged = monotonic()
    store.close()
    taken.sort()
    return {
        "started": started,
        "ended": ended,
        "merged": merged,
        "us": taken[:: max(len(taken) // _TIMES_TOLD_MAX, 1)],
        "peak_mib": peak_mib(),
    }


def fill_floor(options: argparse.Namespace) -> dict[str, Any]:
    """The same records, encoded, joined, written and, if durable, synced; ``root`` is a file."""
    records = memories(min(POOL_RECORDS, options.records), agents=options.agents, seed=options.seed)
    wait_for_start()
    started = monotonic()
    write_batches(
        options.root,
        batches(records, size=options.batch, total=options.records),
        sync=options.durability == "fsync",
    )
    return {"started": started, "ended": monotonic(), "peak_mib": peak_mib()}
