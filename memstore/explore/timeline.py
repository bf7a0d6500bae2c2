"""How many hits there are when: groups of time of a width that suits a drawing."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

from memstore.explore.asking import Asking
from memstore.search.result import AggregateRow
from memstore.store import MemStore
from memstore.timestamps import US_PER_DAY, iso_text, parse_time

_S = 1_000_000
_WIDTHS_US = (
    *(seconds * _S for seconds in (1, 2, 5, 10, 15, 30)),
    *(minutes * 60 * _S for minutes in (1, 2, 5, 10, 15, 30)),
    *(hours * 3600 * _S for hours in (1, 2, 3, 6, 12)),
    *(days * US_PER_DAY for days in (1, 2, 7, 14, 28, 91, 182, 364)),
)
"""Widths of a bar that people can say; from 1970 on, so that a week begins on a Thursday as it does for `aggregate`."""
_UNITS = ((US_PER_DAY, "day"), (3600 * _S, "hour"), (60 * _S, "minute"), (_S, "second"))


@dataclass(frozen=True, slots=True)
class Timeline:
    """Counts of groups that lie side by side.

    Attributes:
        start_us: where the first begins.
        width_us: of each.
        counts: from the first to the last that has any, zeros included.
    """

    start_us: int
    width_us: int
    counts: tuple[int, ...]

    @property
    def end_us(self) -> int:
        """Where the last ends."""
        return self.start_us + self.width_us * len(self.counts)

    @property
    def width_text(self) -> str:
        """``6 hours``."""
        unit_us, unit = next(each for each in _UNITS if self.width_us % each[0] == 0)
        number = self.width_us // unit_us
        return f"{number} {unit}{'' if number == 1 else 's'}"

    def day_texts(self) -> tuple[str, str]:
        """When the first begins and the last ends, as exactly as the width deserves."""
        chars = 10 if self.width_us % US_PER_DAY == 0 else 16 if self.width_us % (60 * _S) == 0 else 19
        return iso_text(self.start_us)[:chars].replace("T", " "), iso_text(self.end_us)[:chars].replace("T", " ")


def timeline(store: MemStore, asking: Asking, *, bars_max: int) -> Timeline | None:
    """The hits of a question over time; None where there are none.

    Three questions: the oldest hit, the newest one, and the counts between.
    """
    ends = []
    for sort in ("oldest", "newest"):
        one = replace(asking, sort=sort, limit=1, facets=(), highlight=False).page(store)
        if not one.hits:
            return None
        ends.append(parse_time(one.hits[0].record.timestamp_utc, now_us=0))
    width_us = bar_width_us(*ends, bars_max=bars_max)
    found = store.aggregate(asking.query, interval=width_us // _S, **asking.filters)
    return filled(found.rows, width_us)


def bar_width_us(first_us: int, last_us: int, *, bars_max: int) -> int:
    """The smallest width of which no more than so many cover the span."""
    for width_us in _WIDTHS_US:
        if last_us // width_us - first_us // width_us + 1 <= bars_max:
            return width_us
    widest = _WIDTHS_US[-1]
    return math.ceil((last_us - first_us + widest) / (widest * bars_max)) * widest


def filled(rows: Iterable[AggregateRow], width_us: int) -> Timeline | None:
    """Groups of `aggregate`, with those that nothing falls into."""
    counts = {parse_time(row.key["time"], now_us=0) // width_us: row.count for row in rows}
    if not counts:
        return None
    first, last = min(counts), max(counts)
    return Timeline(first * width_us, width_us, tuple(counts.get(each, 0) for each in range(first, last + 1)))
