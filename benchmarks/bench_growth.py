"""Growth: resident memory while appending ``--records`` records, and how long opening the store takes afterwards."""

from __future__ import annotations

import os
import statistics
import time
from typing import Any

import psutil  # type: ignore[import-untyped]
from pytest import FixtureRequest  # noqa: PT013 - the name pytest itself gives it
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks.measure import Publish, conclude, run_rounds
from benchmarks.report import Ratio, Report, Row
from benchmarks.worker import Worker, fill_command, run_together
from benchmarks.workloads import LINE_BYTES, agent_names

_SAMPLE_S = 0.02
_MIB = 1024 * 1024
_OPENINGS = 11


def bench_growth(benchmark: BenchmarkFixture, scratch: str, request: FixtureRequest, publish: Publish) -> None:
    """One process appends in durable batches of 1,000 with merges; fresh processes open what it leaves."""
    total = int(request.config.getoption("--records"))
    root = os.path.join(scratch, "store")
    samples: list[float] = []
    found: dict[str, Any] = {}

    def grow() -> None:
        worker = Worker(*fill_command(root, durability="fsync", records=total, batch=1000))
        process = psutil.Process(worker.pid)
        worker.begin()
        while worker.running:
            try:
                samples.append(process.memory_info().rss / _MIB)
            except psutil.NoSuchProcess:
                break
            if process.status() == psutil.STATUS_ZOMBIE:
                break
            time.sleep(_SAMPLE_S)
        found.update(worker.result())

    run_rounds(benchmark, grow, rounds=1)
    opened = [run_together([["open", root, f"--agent={agent_names(1)[0]}"]])[0] for _ in range(_OPENINGS)]
    assert all(item["found"] == 1 for item in opened)
    tenths = [total / 10 / seconds for seconds in found["tenths_s"]]
    peak = max(*samples, found["peak_kib"] / 1024)
    report = Report("growth", scratch, "fsync", total, total * LINE_BYTES)
    report.rows = [
        Row("resident memory while appending", [sample for sample in samples if sample], "MiB"),
        Row("append rate by tenths", tenths, "records/s"),
        Row("the whole run", [total / (found["ended"] - found["started"])], "records/s"),
        Row("closing, with what is left to merge", [found["closed"] - found["ended"]], "s"),
        Row("open in a fresh process", [item["open_ms"] for item in opened], "ms"),
        Row("its first recent(1)", [item["first_recent_ms"] for item in opened], "ms"),
    ]
    report.ratios = [
        Ratio("peak resident memory", [peak], 300, at_most=True, unit="MiB"),
        Ratio("open", [statistics.median(item["open_ms"] for item in opened)], 100, at_most=True, unit="ms"),
        Ratio("rate of the last tenth / the first", [tenths[-1] / tenths[0]]),
    ]
    conclude(benchmark, report, publish)
