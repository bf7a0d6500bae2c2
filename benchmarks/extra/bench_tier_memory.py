"""Peak memory of a process that packs one day: in order; as runs of 8 MiB of all hours; as 2,000 runs of all hours."""

from __future__ import annotations

import os

import pytest

from benchmarks.measure import Bench
from benchmarks.report import Ratio, Report, Row
from benchmarks.tiers import fill
from benchmarks.workers import run_together

pytestmark = pytest.mark.extra
_SMALL_RUNS = 2000


@pytest.mark.parametrize("order", ["in order", "runs overlap", "small runs overlap"])
def bench_tier_memory(bench: Bench, order: str) -> None:
    """To cold, from end to end."""
    root = os.path.join(bench.scratch, "store")
    size = bench.sizes.tier_memory_bytes
    drains = min(_SMALL_RUNS, size // 100_000) if order.startswith("small") else 1
    records = fill(root, size_bytes=size, shuffled=order != "in order", drains=drains)
    peaks: list[float] = []

    def take() -> None:
        [found] = run_together([["tier", root, "--tier=cold"]])
        peaks.append(found["peak_mib"])

    bench.run(take, rounds=1)
    report = Report(f"tier_memory[{order}]", bench.scratch, "os", records, size)
    report.rows = [Row("peak resident memory", peaks, "MiB")]
    report.ratios = [Ratio("peak resident memory", peaks, 256, at_most=True, unit="MiB")]
    bench.conclude(report)
