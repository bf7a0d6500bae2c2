"""search_memory: what a fresh process takes that searches, counts facets and adds up by agent and type."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks.library import Library
from benchmarks.measure import Bench
from benchmarks.report import Report, Row, judged
from benchmarks.workers import run_together

pytestmark = pytest.mark.extra


def bench_search_memory(bench: Bench, library: Library) -> None:
    """The index is mapped, so most of the peak are pages of it that can be dropped at any time."""
    searched = library.searched
    found: list[dict[str, Any]] = []
    bench.run(lambda: found.extend(run_together([["search", searched.root, "--add-up"]])))
    report = Report("search_memory", bench.scratch, "reads only", searched.records, searched.bytes)
    report.rows = [
        Row("of it private", [each["private_mib"] for each in found], "MiB"),
        Row("open and first search", [each["first_ms"] for each in found], "ms"),
    ]
    peaks = [each["peak_mib"] for each in found]
    report.ratios = [judged("search_memory", "peak resident memory", peaks, at_most=True, unit="MiB")]
    bench.conclude(report)
