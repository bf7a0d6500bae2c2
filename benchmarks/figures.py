"""Percentiles, ratios, and how figures are written. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Sequence


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least this share of all values does not exceed; 0 where there are none."""
    if not values:
        return 0.0
    ordered = sorted(values)
    rank = -(-len(ordered) * share // 1)  # rounded up
    return ordered[min(max(int(rank) - 1, 0), len(ordered) - 1)]


def over(ours: Sequence[float], theirs: Sequence[float]) -> list[float]:
    """Ratio of each round: what was measured side by side is compared."""
    return [a / b for a, b in zip(ours, theirs, strict=True)]


def spread(rounds: Sequence[float]) -> float:
    """How far rounds lie apart: half of the span from least to most, as a share of the median; 0 for a single one."""
    middle = statistics.median(rounds)
    return (max(rounds) - min(rounds)) / 2 / abs(middle) if middle else 0.0


def written(value: float) -> str:
    """A figure with three digits that count: 12,345  12.3  1.23  0.0123."""
    if value == 0:
        return "0"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    for least, digits in ((100, 0), (10, 1), (0.1, 2), (0.01, 3), (0.001, 4)):
        if abs(value) >= least:
            return f"{value:.{digits}f}"
    return f"{value:.1e}"


def written_us(microseconds: float) -> str:
    """A time with the unit in which it reads best."""
    for unit, size in (("s", 1e6), ("ms", 1e3)):
        if microseconds >= size:
            return f"{written(microseconds / size)} {unit}"
    return f"{written(microseconds)} µs"


def aligned(table: Sequence[Sequence[str]]) -> list[str]:
    """Rows of a table as lines for a terminal: the first column to the left, all others to the right."""
    widths = [max(len(cell) for cell in column) for column in zip(*table, strict=True)]
    return [
        "  "
        + "  ".join(
            cell.ljust(width) if index == 0 else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in table
    ]
