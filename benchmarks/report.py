"""What a benchmark prints: machine, durability, percentiles, and ratios to floor and peers with their targets."""

from __future__ import annotations

import os
import platform
import statistics
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from benchmarks.floors import fdatasync_us
from memstore.fs.local import LocalStorage


def machine(directory: str) -> dict[str, Any]:
    """CPU count, kernel, file system of the directory, Python, and what a sync costs there."""
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "cpus": cpus,
        "kernel": f"{platform.system()} {platform.release()}",
        "file_system": LocalStorage().file_system_type(directory) or "unknown",
        "python": platform.python_version(),
        "implementation": sys.implementation.name,
        "fdatasync_us": round(_fdatasync_us(directory), 1),
    }


@cache
def _fdatasync_us(directory: str) -> float:
    """Median of 100; far under 100 µs, and whatever stands in for a disk here answers before anything is safe."""
    with tempfile.TemporaryDirectory(dir=directory) as scratch:
        return percentile(fdatasync_us(os.path.join(scratch, "sync"), rounds=100), 0.5)


def machine_line(directory: str) -> str:
    """The same as one line."""
    found = machine(directory)
    runtime = f"{found['implementation']} {found['python']}"
    place = f"{found['file_system']}, fdatasync {found['fdatasync_us']} µs"
    return f"{found['cpus']} CPUs, {found['kernel']}, {place}, {runtime}"


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least this share of all values does not exceed; 0 where there are none."""
    if not values:
        return 0.0
    ordered = sorted(values)
    rank = -(-len(ordered) * share // 1)  # rounded up
    return ordered[min(max(int(rank) - 1, 0), len(ordered) - 1)]


@dataclass(frozen=True, slots=True)
class Row:
    """One measured thing: a rate by round, latencies by operation, or a plain figure.

    Attributes:
        name: what was measured.
        values: one per round or operation.
        unit: of the values.
        note: why there is no figure, or what it is of.
    """

    name: str
    values: Sequence[float] = ()
    unit: str = ""
    note: str = ""


@dataclass(frozen=True, slots=True)
class Ratio:
    """A figure with a target beside it.

    Attributes:
        name: what over what.
        rounds: its value in each round; the median counts.
        target: what it should be, or None for information only.
        at_most: the target is an upper bound.
        unit: empty for a ratio.
    """

    name: str
    rounds: Sequence[float]
    target: float | None = None
    at_most: bool = False
    unit: str = ""

    @property
    def value(self) -> float:
        """The median of all rounds."""
        return statistics.median(self.rounds)

    @property
    def verdict(self) -> str:
        """``met``, ``MISSED``, or nothing where there is no target."""
        if self.target is None:
            return ""
        met = self.value <= self.target if self.at_most else self.value >= self.target
        return "met" if met else "MISSED"


@dataclass(slots=True)
class Report:
    """One benchmark's result.

    Attributes:
        name: of the workload.
        directory: where it ran; its file system counts.
        durability: ``fsync``, ``os``, or why it does not matter.
        records: how many per round.
        bytes: of them.
        rows: what was measured.
        ratios: what it comes to.
    """

    name: str
    directory: str
    durability: str
    records: int
    bytes: int
    rows: list[Row] = field(default_factory=list)
    ratios: list[Ratio] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """For pytest-benchmark's ``extra_info``."""
        return {
            "machine": machine(self.directory),
            "durability": self.durability,
            "records": self.records,
            "bytes": self.bytes,
            "rows": {row.name: _summary(row) for row in self.rows},
            "ratios": {
                ratio.name: {
                    "value": ratio.value,
                    "rounds": list(ratio.rounds),
                    "target": ratio.target,
                    "at_most": ratio.at_most,
                    "unit": ratio.unit,
                    "verdict": ratio.verdict,
                }
                for ratio in self.ratios
            },
        }

    def text(self) -> str:
        """For people."""
        lines = [
            f"{self.name}: {self.records:,} records, {self.bytes:,} bytes, durability {self.durability}",
            f"  {machine_line(self.directory)}",
        ]
        table: list[tuple[str, ...]] = [("", "median", "p90", "p99", "unit", "n")]
        for row in self.rows:
            if row.values:
                figures = (percentile(row.values, 0.5), percentile(row.values, 0.9), percentile(row.values, 0.99))
                table.append((row.name, *map(_figure, figures), row.unit, str(len(row.values))))
            else:
                table.append((row.name, "-", "-", "-", row.note, ""))
        lines += _aligned(table)
        if self.ratios:
            lines += _aligned([("ratio", "median", "least", "most", "target", ""), *map(_ratio_cells, self.ratios)])
        return "\n".join(lines)


def summary(reports: Sequence[Report]) -> str:
    """Every ratio of every benchmark that has a target."""
    table = [("benchmark", "what", "measured", "target", "")]
    for report in reports:
        for ratio in report.ratios:
            if ratio.target is not None:
                _, value, _, _, target, verdict = _ratio_cells(ratio)
                table.append((report.name, ratio.name, value, target, verdict))
    return "\n".join(_aligned(table))


def _summary(row: Row) -> dict[str, Any]:
    if not row.values:
        return {"note": row.note}
    return {
        "median": percentile(row.values, 0.5),
        "p90": percentile(row.values, 0.9),
        "p99": percentile(row.values, 0.99),
        "max": max(row.values),
        "unit": row.unit,
        "n": len(row.values),
    }


def _ratio_cells(ratio: Ratio) -> tuple[str, str, str, str, str, str]:
    target = "" if ratio.target is None else f"{'<=' if ratio.at_most else '>='} {_figure(ratio.target)}"
    unit = f" {ratio.unit}" if ratio.unit else "x"
    return (
        ratio.name,
        _figure(ratio.value) + unit,
        _figure(min(ratio.rounds)),
        _figure(max(ratio.rounds)),
        target,
        ratio.verdict,
    )


def _figure(value: float) -> str:
    if value >= 1000:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _aligned(table: Sequence[tuple[str, ...]]) -> list[str]:
    widths = [max(len(cell) for cell in column) for column in zip(*table, strict=True)]
    return [
        "  "
        + "  ".join(
            c.ljust(w) if i == 0 else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in table
    ]
