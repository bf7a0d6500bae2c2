"""Reads and writes mixed, four to one, in one thread of one process."""

from __future__ import annotations

import argparse
import random
from time import monotonic, perf_counter
from typing import Any

from benchmarks.library import CACHES_OFF
from benchmarks.meter import peak_mib
from benchmarks.workers.start import wait_for_start
from benchmarks.workloads import SEED, memories
from memstore import MemStore

READS_SHARE = 0.8
_POOL_RECORDS = 1000


def mix(options: argparse.Namespace) -> dict[str, Any]:
    """Durable appends and reads by id, caches off, chosen by a seeded coin; or the same reads and nothing else.

    Reads are of one agent's newest day, which is not packed: what they lose, they lose to others, not to a tier.
    """
    pool = memories(_POOL_RECORDS, agents=100)
    choose = random.Random(SEED)
    store = MemStore(options.root, settings={"storage": {"caching": CACHES_OFF}})
    ids = [record.memory_id for record in store.agent(options.agent).recent(5000)]
    wait_for_start()
    reads: list[float] = []
    writes: list[float] = []
    started = monotonic()
    for number in range(options.operations):
        if choose.random() < READS_SHARE:
            memory_id = choose.choice(ids)
            began = perf_counter()
            store.get(memory_id)
            reads.append((perf_counter() - began) * 1e6)
        elif not options.reads_only:
            fields = pool[number % _POOL_RECORDS].fields
            began = perf_counter()
            store.append(**fields)
            writes.append((perf_counter() - began) * 1e6)
    ended = monotonic()
    store.close()
    return {"started": started, "ended": ended, "reads": reads, "writes": writes, "peak_mib": peak_mib()}
