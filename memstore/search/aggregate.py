"""Groups and figures from the index's columns, added up over sources.

tantivy gives the groups of one partition as pages of a composite aggregation, each with sums and, for percentiles,
counts of logarithmic buckets; all of these can be added. An average is a sum over a count, a percentile is read off
the added buckets (`memstore.search.sketch`), everything else is exact.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import tantivy

from memstore.errors import UsageError
from memstore.nearest import nearest_name
from memstore.search.collect import matching, plain_value
from memstore.search.foreign import translated
from memstore.search.partition import Partition
from memstore.search.query import FIELD_NAMES
from memstore.search.result import AggregateRow
from memstore.search.schema import BYTES, CONFIDENCE, CONTEXT_FIELDS, MS, SKETCH, TIME, context_column
from memstore.search.sketch import percentiles
from memstore.timestamps import US_PER_DAY, iso_text

PAGE_GROUPS = 10_000
GROUPS_MAX = 1_000_000
"""Groups that an answer holds: more are nobody's to read, and each costs memory."""
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
class _Group:
    count: int = 0
    stats: dict[str, list[float]] = field(default_factory=dict)
    buckets: dict[str, dict[int, int]] = field(default_factory=dict)


class Aggregator:
    """Adds up groups. Used by one thread.

    Args:
        by: names to group by, each with its column.
        metrics: figures of each group.
        interval_us: width of a group in time; None: time does not divide.
    """

    def __init__(self, by: dict[str, str], metrics: Sequence[Metric], interval_us: int | None) -> None:
        self._by = by
        self._metrics = metrics
        self._interval_us = interval_us
        self._groups: dict[tuple[Any, ...], _Group] = {}
        self.total = 0

    def collect(self, partition: Partition, query: tantivy.Query) -> None:
        """Take what a source has.

        Raises:
            IndexFailedError: the index refused.
            UsageError: there are more than a million groups.
        """
        measures = self._measures()
        if not self._by and self._interval_us is None:
            with translated("the search index"):
                count = matching(partition.searcher.search(query, 1))
                answer = partition.searcher.aggregate(query, measures) if measures and count else {}
            self._take((), count, answer)
            self.total += count
            return
        with translated("the search index"):
            self.total += matching(partition.searcher.search(query, 1))
        after: dict[str, str] | None = None
        while True:
            composite: dict[str, Any] = {"sources": self._sources(), "size": PAGE_GROUPS}
            if after is not None:
                composite["after"] = after
            asked: dict[str, Any] = {"g": {"composite": composite}}
            if measures:
                asked["g"]["aggs"] = measures
            with translated("the search index"):
                answer = partition.searcher.aggregate(query, asked)["g"]
            for bucket in answer["buckets"]:
                self._take(self._key(bucket["key"]), int(bucket["doc_count"]), bucket)
            if len(self._groups) > GROUPS_MAX:
                raise UsageError(f"there are more than {GROUPS_MAX} groups; group by less, or filter more")
            after = answer.get("after_key")
            if after is None or len(answer["buckets"]) < PAGE_GROUPS:
                return

    def rows(self) -> tuple[AggregateRow, ...]:
        """The groups: in order of time where that divides them, else the largest first."""
        rows = [self._row(key, group) for key, group in self._groups.items()]
        if self._interval_us is not None:
            return tuple(sorted(rows, key=lambda row: (row.key["time"], -row.count, str(row.key))))
        return tuple(sorted(rows, key=lambda row: (-row.count, str(row.key))))

    def _sources(self) -> list[dict[str, Any]]:
        sources: list[dict[str, Any]] = [
            {name: {"terms": {"field": column, "missing_bucket": True}}} for name, column in self._by.items()
        ]
        if self._interval_us is not None:
            sources.insert(0, {_TIME_SOURCE: {"histogram": {"field": TIME, "interval": float(self._interval_us)}}})
        return sources

    def _measures(self) -> dict[str, Any]:
        measures: dict[str, Any] = {}
        for column in {metric.field for metric in self._metrics if metric.kind != "percentile"}:
            measures[f"s:{column}"] = {"stats": {"field": column}}
        for column in {metric.field for metric in self._metrics if metric.kind == "percentile"}:
            measures[f"b:{column}"] = {"terms": {"field": f"{SKETCH}.{column}", "size": _BUCKETS_MAX}}
        return measures

    def _key(self, found: dict[str, Any]) -> tuple[Any, ...]:
        key = tuple(plain_value(column, found[name]) for name, column in self._by.items())
        if self._interval_us is None:
            return key
        return (int(found[_TIME_SOURCE]), *key)

    def _take(self, key: tuple[Any, ...], count: int, answer: dict[str, Any]) -> None:
        group = self._groups.get(key)
        if group is None:
            group = self._groups[key] = _Group()
        group.count += count
        for name, value in answer.items():
            kind, _, column = name.partition(":")
            if kind == "s" and value["count"]:
                stats = group.stats.setdefault(column, [0, 0.0, value["min"], value["max"]])
                stats[0] += value["count"]
                stats[1] += value["sum"]
                stats[2] = min(stats[2], value["min"])
                stats[3] = max(stats[3], value["max"])
            elif kind == "b":
                buckets = group.buckets.setdefault(column, {})
                for bucket in value["buckets"]:
                    number = int(bucket["key"])
                    buckets[number] = buckets.get(number, 0) + int(bucket["doc_count"])

    def _row(self, key: tuple[Any, ...], group: _Group) -> AggregateRow:
        named: dict[str, Any] = {}
        values = list(key)
        if self._interval_us is not None:
            named["time"] = iso_text(values.pop(0))
        named.update(zip(self._by, values, strict=True))
        return AggregateRow(named, group.count, {metric.name: self._figure(metric, group) for metric in self._metrics})

    def _figure(self, metric: Metric, group: _Group) -> float | None:
        if metric.kind == "percentile":
            return percentiles(group.buckets.get(metric.field, {}), [metric.percent])[0]
        stats = group.stats.get(metric.field)
        if stats is None:
            return 0 if metric.kind == "count" else None
        count, total, low, high = stats
        return {"count": count, "sum": total, "min": low, "max": high, "avg": total / count}[metric.kind]


_TIME_SOURCE = "@time"
_BUCKETS_MAX = 65_000
