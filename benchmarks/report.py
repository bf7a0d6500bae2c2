"""What a workload tells: the figures that all of them give, rows of its own, and ratios held against their targets."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from benchmarks.figures import aligned, percentile, written, written_us
from benchmarks.meter import Weight
from benchmarks.targets import OF_FLOOR, target_of


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

    def as_dict(self) -> dict[str, Any]:
        """Its percentiles."""
        if not self.values:
            return {"note": self.note}
        return {**distribution(self.values), "unit": self.unit}


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

    def as_dict(self) -> dict[str, Any]:
        """For the JSON."""
        return {
            "value": self.value,
            "rounds": list(self.rounds),
            "target": self.target,
            "at_most": self.at_most,
            "unit": self.unit,
            "verdict": self.verdict,
        }


def judged(name: str, what: str, rounds: Sequence[float], *, at_most: bool = False, unit: str = "") -> Ratio:
    """A ratio held against the target that stands for it in `benchmarks.targets`, if there is one.

    Args:
        name: of the workload or its variant.
        what: over what; the target's name.
        rounds: its value in each round.
        at_most: less is better, where no target says so.
        unit: of the figure, where no target says so.
    """
    target = target_of(name, what)
    if target is None:
        return Ratio(what, rounds, None, at_most, unit)
    return Ratio(what, rounds, target.bound, target.at_most, target.unit)


@dataclass(frozen=True, slots=True)
class Headline:
    """The figures that every workload gives, so that they can be put side by side.

    Attributes:
        operation: what one time is of.
        us: microseconds of each operation.
        per_second: records a second, by round.
        floor: the inevitable that it is held against.
        of_floor: speed as a share of the floor's, by round: 1 is as fast, 0.5 takes twice as long.
        weight: memory, and what the disk had to write.
    """

    operation: str
    us: Sequence[float]
    per_second: Sequence[float]
    floor: str
    of_floor: Sequence[float]
    weight: Weight = field(default_factory=Weight)

    def as_dict(self) -> dict[str, Any]:
        """For the JSON."""
        return {
            "operation": self.operation,
            "us": distribution(self.us),
            "per_second": statistics.median(self.per_second),
            "floor": self.floor,
            "of_floor": {"value": statistics.median(self.of_floor), "rounds": list(self.of_floor)},
            **asdict(self.weight),
        }

    def lines(self) -> list[str]:
        """For people."""
        figures, weight = distribution(self.us), self.weight
        times = ", ".join(f"{name} {written_us(figures[name])}" for name in ("median", "p90", "p99", "max"))
        disk = "unknown" if weight.written_per_byte is None else written(weight.written_per_byte)
        memory = f"resident {written(weight.resident_mib)} MiB at most, {written(weight.before_mib)} of it before"
        return [
            f"  {self.operation}: {times} (of {figures['n']:,})",
            f"  {written(statistics.median(self.per_second))} records/s",
            f"  {written(statistics.median(self.of_floor))} of the floor's speed ({self.floor})",
            f"  {memory}; {disk} bytes written for a byte stored",
        ]


@dataclass(slots=True)
class Report:
    """One workload's result.

    Attributes:
        name: of the workload, with its variant.
        directory: where it ran; its file system counts.
        durability: ``fsync``, ``os``, or why it does not matter.
        records: how many per round.
        bytes: of them.
        rows: what was measured.
        ratios: what it comes to.
        headline: what every workload tells.
        point: figures by name that are plotted over ``records`` or ``agents`` (growth).
    """

    name: str
    directory: str
    durability: str
    records: int
    bytes: int
    rows: list[Row] = field(default_factory=list)
    ratios: list[Ratio] = field(default_factory=list)
    headline: Headline | None = None
    point: dict[str, Any] = field(default_factory=dict)

    def all_ratios(self) -> list[Ratio]:
        """Its ratios, that to the floor first."""
        if self.headline is None:
            return self.ratios
        return [judged(self.name, OF_FLOOR, self.headline.of_floor), *self.ratios]

    def as_dict(self) -> dict[str, Any]:
        """For pytest-benchmark's ``extra_info``."""
        return {
            "name": self.name,
            "durability": self.durability,
            "records": self.records,
            "bytes": self.bytes,
            "headline": None if self.headline is None else self.headline.as_dict(),
            "rows": {row.name: row.as_dict() for row in self.rows},
            "ratios": {ratio.name: ratio.as_dict() for ratio in self.all_ratios()},
            "point": self.point,
        }

    def text(self) -> str:
        """For people."""
        lines = [f"{self.name}: {self.records:,} records, {self.bytes:,} bytes, durability {self.durability}"]
        if self.headline is not None:
            lines += self.headline.lines()
        table: list[tuple[str, ...]] = [("", "median", "p90", "p99", "max", "unit", "n")]
        for row in self.rows:
            if row.values:
                figures = distribution(row.values)
                cells = [written(figures[name]) for name in ("median", "p90", "p99", "max")]
                table.append((row.name, *cells, row.unit, str(figures["n"])))
            else:
                table.append((row.name, "-", "-", "-", "-", row.note, ""))
        if self.rows:
            lines += aligned(table)
        ratios = self.all_ratios()
        if ratios:
            lines += aligned([("ratio", "median", "least", "most", "target", ""), *map(ratio_cells, ratios)])
        return "\n".join(lines)


def distribution(values: Sequence[float]) -> dict[str, Any]:
    """Percentiles, the largest, and of how many."""
    return {
        "median": percentile(values, 0.5),
        "p90": percentile(values, 0.9),
        "p99": percentile(values, 0.99),
        "max": max(values, default=0.0),
        "n": len(values),
    }


def summary(reports: Sequence[Report]) -> str:
    """Every ratio of every workload that has a target."""
    table = [("workload", "what", "measured", "target", "")]
    for report in reports:
        for ratio in report.all_ratios():
            if ratio.target is not None:
                _, value, _, _, target, verdict = ratio_cells(ratio)
                table.append((report.name, ratio.name, value, target, verdict))
    return "\n".join(aligned(table))


def ratio_cells(ratio: Ratio) -> tuple[str, str, str, str, str, str]:
    """Name, median, least, most, target, verdict."""
    target = "" if ratio.target is None else f"{'<=' if ratio.at_most else '>='} {written(ratio.target)}"
    unit = f" {ratio.unit}" if ratio.unit else "x"
    return (
        ratio.name,
        written(ratio.value) + unit,
        written(min(ratio.rounds)),
        written(max(ratio.rounds)),
        target,
        ratio.verdict,
    )
