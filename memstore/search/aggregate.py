"""Groups and figures from the index's columns, added up over sources.

Each source gives its groups (`memstore.search.grouping`) with sums and, for percentiles, counts of logarithmic buckets;
all of these can be added. An average is a sum over a count, a percentile is read off the added buckets
(`memstore.search.sketch`) and is within 1 % however many sources there are, everything else is exact.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import tantivy

from memstore.errors import UsageError
from memstore.nearest import nearest_name
from memstore.search.compile import Compiler
from memstore.search.grouping import Group, Grouping, buckets_of, refuse_many, stats_of
from memstore.search.partition import Partition
from memstore.search.query import FIELD_NAMES
from memstore.search.result import AggregateRow
from memstore.search.schema import BYTES, CONFIDENCE, CONTEXT_FIELDS, MS, TAG, context_column
from memstore.search.sketch import PackedCounts, packed, percentiles, unpacked
from memstore.timestamps import US_PER_DAY, iso_text

_METRIC = re.compile(r"(avg|sum|min|max|count|p(\d{1,2}(?:\.\d+)?|100))\(([\w.-]+)\)")
_INTERVAL = re.compile(r"(\d+)\s*(s|sec|min|m|h|d|w)")
_UNITS_US = {
    "s": 1_000_000, "sec": 1_000_000, "min": 60_000_000, "m": 60_000_000, "h": 3_600_000_000,
    "d": US_PER_DAY, "w": 7 * US_PER_DAY,
}  # fmt: skip
_NAMED_INTERVALS = {"minute": 60_000_000, "hour": 3_600_000_000, "day": US_PER_DAY, "week": 7 * US_PER_DAY}
_INTERVAL_US_MIN = 1_000_000
_NUMBERS = {"ms": MS, "processing_time_ms": MS, "confidence": CONFIDENCE, "bytes": BYTES}


@dataclass(frozen=True, slots=True)
class Metric:
    """One figure of a number: ``avg(ms)``, ``p99(confidence)``.

    Attributes:
        name: as it was asked for.
        kind: ``avg``, ``sum``, ``min``, ``max``, ``count`` or ``percentile``.
        field: the number's column.
        percent: of a percentile.
    """

    name: str
    kind: str
    field: str
    percent: float = 0.0


def parse_metric(text: str, context_keys: Iterable[str]) -> Metric:
    """Raises: UsageError: no metric, or no number of this name."""
    match = _METRIC.fullmatch(text.replace(" ", ""))
    if match is None:
        raise UsageError(
            f"{text!r} is no metric; it is avg, sum, min, max, count or a percentile like p99, of a number: avg(ms)"
        )
    number = number_field(match[3], context_keys)
    if match[2] is not None:
        return Metric(text, "percentile", number, float(match[2]))
    return Metric(text, match[1], number)


def number_field(name: str, context_keys: Iterable[str]) -> str:
    """The column of a number. Raises: UsageError: there is none."""
    keys = list(context_keys)
    if name in _NUMBERS:
        return _NUMBERS[name]
    if name.startswith("context.") and name.removeprefix("context.") in keys:
        return context_column(name.removeprefix("context."))
    known = [*_NUMBERS, *(f"context.{key}" for key in keys)]
    near = nearest_name(name, known)
    hint = f"did you mean {near!r}?" if near else f"there are {', '.join(known)} (search.context_keys names others)"
    raise UsageError(f"there is no number {name!r}; {hint}")


def group_field(name: str, context_keys: Iterable[str]) -> str:
    """The column of a field to group or count by. Raises: UsageError: there is none."""
    keys = list(context_keys)
    key = name.removeprefix("context.")
    if key != name:
        for field_name, of_context in CONTEXT_FIELDS.items():
            if key == of_context:
                return field_name
        if key in keys:
            return context_column(key)
    target = FIELD_NAMES.get(name)
    if target is None or target in (MS, CONFIDENCE, BYTES, "source_id"):
        known = sorted({n for n, t in FIELD_NAMES.items() if t not in (MS, CONFIDENCE, BYTES, "source_id")})
        near = nearest_name(name, known)
        hint = f"did you mean {near!r}?" if near else f"there are {', '.join(known)}, context.KEY"
        raise UsageError(f"there is no field {name!r} to group by; {hint}")
    return target


def parse_interval(text: str | float) -> int:
    """Microseconds of ``day``, ``hour``, ``15min``, ``7d``, or a number of seconds.

    Raises:
        UsageError: none of these.
    """
    if isinstance(text, int | float) and not isinstance(text, bool):
        interval_us = int(text * 1_000_000)
    else:
        match = _INTERVAL.fullmatch(str(text))
        interval_us = int(match[1]) * _UNITS_US[match[2]] if match else _NAMED_INTERVALS.get(str(text), 0)
    if not _INTERVAL_US_MIN <= interval_us <= 100 * 366 * US_PER_DAY:
        raise UsageError(f"{text!r} is no interval; it is minute, hour, day, week, or like 15min, 6h, 7d")
    return interval_us


@dataclass(slots=True)
class _Sum:
    count: int = 0
    stats: dict[str, list[float]] = field(default_factory=dict)
    buckets: dict[str, PackedCounts] = field(default_factory=dict)


class Aggregator:
    """Adds up groups. Used by one thread.

    Args:
        compiler: makes queries.
        by: names to group by, each with its column.
        metrics: figures of each group.
        interval_us: width of a group in time; None: time does not divide.
    """

    def __init__(
        self, compiler: Compiler, *, by: dict[str, str], metrics: Sequence[Metric], interval_us: int | None
    ) -> None:
        columns = list(dict.fromkeys(by.values()))
        self._by = {name: columns.index(column) for name, column in by.items()}
        self._metrics = metrics
        self._is_timed = interval_us is not None
        self._counts_twice = TAG in columns
        self._grouping = Grouping(compiler, by=columns, interval_us=interval_us, measures=_measures(metrics))
        self._sums: dict[tuple[Any, ...], _Sum] = {}
        self.total = 0

    def collect(self, partition: Partition, query: tantivy.Query) -> None:
        """Take what a source has.

        Raises:
            IndexFailedError: the index refused.
            UsageError: there are more than a million groups.
        """
        counted = 0
        for group in self._grouping.groups(partition, query):
            self._take(group)
            counted += group.records
            refuse_many(len(self._sums))
        # A record has one value of any other field, or none, so it is in one group.
        self.total += self._grouping.total(partition, query) if self._counts_twice else counted

    def rows(self) -> tuple[AggregateRow, ...]:
        """The groups: in order of time where that divides them, else the largest first."""
        rows = [self._row(key, each) for key, each in self._sums.items()]
        if self._is_timed:
            return tuple(sorted(rows, key=lambda row: (row.key["time"], -row.count, str(row.key))))
        return tuple(sorted(rows, key=lambda row: (-row.count, str(row.key))))

    def _take(self, group: Group) -> None:
        known = self._sums.get(group.key)
        if known is None:
            known = self._sums[group.key] = _Sum()
        known.count += group.records
        for name, value in group.figures.items():
            kind, _, column = name.partition(":")
            if kind == "s" and value["count"]:
                stats = known.stats.setdefault(column, [0, 0.0, value["min"], value["max"]])
                stats[0] += value["count"]
                stats[1] += value["sum"]
                stats[2] = min(stats[2], value["min"])
                stats[3] = max(stats[3], value["max"])
            elif kind == "b":
                counts = {int(bucket["key"]): int(bucket["doc_count"]) for bucket in value["buckets"]}
                known.buckets[column] = packed(counts, known.buckets.get(column))

    def _row(self, key: tuple[Any, ...], each: _Sum) -> AggregateRow:
        named: dict[str, Any] = {}
        if self._is_timed:
            named["time"] = iso_text(key[0])
        named.update((name, key[position + self._is_timed]) for name, position in self._by.items())
        return AggregateRow(named, each.count, {metric.name: _figure(metric, each) for metric in self._metrics})


def _measures(metrics: Sequence[Metric]) -> dict[str, Any]:
    plain = {metric.field for metric in metrics if metric.kind != "percentile"}
    ranked = {metric.field for metric in metrics if metric.kind == "percentile"}
    return dict([*map(stats_of, sorted(plain)), *map(buckets_of, sorted(ranked))])


def _figure(metric: Metric, each: _Sum) -> float | None:
    if metric.kind == "percentile":
        return percentiles(unpacked(each.buckets.get(metric.field)), [metric.percent])[0]
    stats = each.stats.get(metric.field)
    if stats is None:
        return 0 if metric.kind == "count" else None
    count, total, low, high = stats
    return {"count": count, "sum": total, "min": low, "max": high, "avg": total / count}[metric.kind]
