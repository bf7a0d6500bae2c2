"""Lookups by id, few of them most of the time: how many the cache answers with its default budget."""

from __future__ import annotations

import itertools
import random
from time import perf_counter

import pytest

from benchmarks.library import Library
from benchmarks.measure import Bench
from benchmarks.report import Ratio, Report, Row
from benchmarks.workloads import LINE_BYTES, SEED
from memstore import MemStore

pytestmark = pytest.mark.extra
_LOOKUPS_OF_EACH = 2
_WARM_UP_ROUNDS = 3


@pytest.mark.parametrize("exponent", [1.0, 1.1, 1.2])
def bench_zipf(bench: Bench, library: Library, exponent: float) -> None:
    """Twice as many lookups as there are records, in each round."""
    ids = list(library.lines)
    records = len(ids)
    choose = random.Random(SEED)
    choose.shuffle(ids)
    weights = list(itertools.accumulate(1 / rank**exponent for rank in range(1, records + 1)))
    lookups = _LOOKUPS_OF_EACH * records
    shares: list[float] = []
    us: list[float] = []
    with MemStore(library.hot, read_only=True) as store:

        def take() -> None:
            wanted = choose.choices(ids, cum_weights=weights, k=lookups)
            before = store.stats()["caches"]["records"]
            began = perf_counter()
            for memory_id in wanted:
                store.get(memory_id)
            us.append((perf_counter() - began) / lookups * 1e6)
            after = store.stats()["caches"]["records"]
            hits, misses = after["hits"] - before["hits"], after["misses"] - before["misses"]
            shares.append(hits / (hits + misses))

        for _ in range(_WARM_UP_ROUNDS):
            take()
        shares.clear()
        us.clear()
        bench.run(take)
    report = Report(f"zipf[exponent {exponent}]", bench.scratch, "reads only", records, records * LINE_BYTES)
    report.rows = [Row("get, from the cache or not", us, "µs")]
    report.ratios = [Ratio("hit rate", shares, 0.9 if exponent > 1 else None, unit="of all")]
    bench.conclude(report)
