"""Opening a store in a fresh process and reading from it."""

from __future__ import annotations

import argparse
import random
from time import perf_counter
from typing import Any

from benchmarks.library import CACHES_OFF
from benchmarks.meter import peak_mib, private_mib
from benchmarks.searching import QUESTIONS
from benchmarks.workers.start import wait_for_start
from benchmarks.workloads import SEED
from memstore import MemStore


def open_and_read(options: argparse.Namespace) -> dict[str, Any]:
    """Milliseconds of opening and of the first read; then so many reads by id of this agent's records, caches off."""
    wait_for_start()
    began = perf_counter()
    store = MemStore(options.root, create=False, settings={"storage": {"caching": CACHES_OFF}})
    opened_ms = (perf_counter() - began) * 1e3
    began = perf_counter()
    found = store.agent(options.agent).recent(1)
    recent_ms = (perf_counter() - began) * 1e3
    taken: list[float] = []
    if options.lookups:
        ids = [record.memory_id for record in store.agent(options.agent).recent(1000)]
        choose = random.Random(SEED)
        for memory_id in choose.choices(ids, k=options.lookups):
            began = perf_counter()
            store.get(memory_id)
            taken.append((perf_counter() - began) * 1e6)
    store.close()
    return {
        "open_ms": opened_ms,
        "first_recent_ms": recent_ms,
        "found": len(found),
        "get_us": taken,
        "peak_mib": peak_mib(),
    }


def search(options: argparse.Namespace) -> dict[str, Any]:
    """Microseconds of each question asked a few times, and memory; with ``add_up``, of facets and aggregates too."""
    wait_for_start()
    began = perf_counter()
    store = MemStore(options.root, read_only=True)
    store.search("timeout", memory_type="ERROR")
    first_ms = (perf_counter() - began) * 1e3
    taken: list[float] = []
    for asked in QUESTIONS * 5:
        began = perf_counter()
        store.search(asked.query, **asked.filters)
        taken.append((perf_counter() - began) * 1e6)
    if options.add_up:
        for asked in QUESTIONS:
            store.search(asked.query, facets=["type", "agent", "tags"], **asked.filters)
        store.aggregate(by=["type", "agent"], metrics=["avg(ms)", "p99(ms)"])
        store.aggregate(interval="hour")
    peak, private = peak_mib(), private_mib()
    store.close()
    return {"first_ms": first_ms, "us": taken, "peak_mib": peak, "private_mib": private}
