"""The groups of one partition, each with its count and figures, as many at a time as an answer may hold.

tantivy refuses an answer of more than 65,000 buckets, those within buckets counted too, and an answer that is nearly
as large costs 20 MB. So groups are counted first and get their figures afterwards, as many at a time as their buckets
leave room for. Where one field or time alone divides, which is the usual case, a plain aggregation does it, at a third
of the cost of pages of a composite one.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import tantivy

from memstore.errors import UsageError
from memstore.search.collect import VALUES_MAX, bucket_value, matching, plain_value
from memstore.search.compile import Compiler
from memstore.search.foreign import TooMuchAskedError, translated
from memstore.search.partition import Partition
from memstore.search.schema import AGENT, IMPORTANCE, MODEL, SESSION, SKETCH, SUCCESS, TAG, TASK, TIME, TYPE, USER

PAGE_GROUPS = 10_000
GROUPS_MAX = 1_000_000
"""Groups that an answer holds: more are nobody's to read, and each costs memory."""
BUCKETS_MAX = 30_000
"""Buckets within groups that are asked for at a time, about: 10 MB of tantivy's answer."""
_BUCKETS_LIKELY = 500
"""Logarithmic buckets of one number in one group: so many span four powers of ten."""
_EVERY_RECORD_HAS = frozenset({AGENT, TYPE, IMPORTANCE})
_PLAIN = _EVERY_RECORD_HAS | {TAG, SESSION, USER, TASK, MODEL, SUCCESS}
"""Fields of one kind of value; a key of context may have several, which only a composite aggregation tells apart."""
_DIVIDING = frozenset({AGENT, TYPE, IMPORTANCE, SESSION, USER, TASK, MODEL, TIME})
"""What a record has one value of at most, by which a query can be narrowed."""
_TIME_SOURCE = "@time"


class Group(NamedTuple):
    """Records that have the same values.

    Attributes:
        key: the time where that divides, then a value for each field; None: the record has none.
        records: how many.
        figures: tantivy's answer to each measure, by its name.
    """

    key: tuple[Any, ...]
    records: int
    figures: Mapping[str, Any]


def refuse_many(groups: int) -> None:
    """Raises: UsageError: there are more groups than an answer holds."""
    if groups > GROUPS_MAX:
        raise UsageError(f"there are more than {GROUPS_MAX} groups; group by less, or filter more")


def stats_of(column: str) -> tuple[str, dict[str, Any]]:
    """A measure: count, sum, smallest and largest of a number."""
    return f"s:{column}", {"stats": {"field": column}}


def buckets_of(column: str) -> tuple[str, dict[str, Any]]:
    """A measure: how many values of a number lie in each logarithmic bucket."""
    return f"b:{column}", {"histogram": {"field": f"{SKETCH}.{column}", "interval": 1, "min_doc_count": 1}}


class Grouping:
    """What divides and what is measured; asks any number of partitions. Thread-safe.

    Args:
        compiler: makes queries.
        by: columns whose values divide.
        interval_us: width of a group in time; None: time does not divide.
        measures: of each group, as `stats_of` and `buckets_of` have them.
    """

    def __init__(
        self, compiler: Compiler, *, by: Sequence[str], interval_us: int | None, measures: Mapping[str, Any]
    ) -> None:
        self._compiler = compiler
        self._by = by
        self._interval_us = interval_us
        self._measures = dict(measures)
        self._bucketed = sum(name.startswith("b:") for name in measures)

    def total(self, partition: Partition, query: tantivy.Query) -> int:
        """How many records match."""
        with translated("the search index"):
            return matching(partition.searcher.search(query, 1))

    def groups(self, partition: Partition, query: tantivy.Query) -> Iterator[Group]:
        """Every group once.

        Raises:
            IndexFailedError: the index refused.
            UsageError: there are more than a million groups, or one has more buckets than an answer holds.
        """
        if not self._by and self._interval_us is None:
            count = self.total(partition, query)
            yield Group((), count, self._ask(partition, query, self._measures) if self._measures and count else {})
            return
        plain = self._plain_groups(partition, query)
        yield from self._pages(partition, query) if plain is None else plain

    def _ask(self, partition: Partition, query: tantivy.Query, asked: dict[str, Any]) -> dict[str, Any]:
        with translated("the search index"):
            return partition.searcher.aggregate(query, asked)

    def _weight(self, count: int) -> int:
        """Buckets that a group of so many records has, about."""
        return 1 + self._bucketed * min(count, _BUCKETS_LIKELY)

    # -- one field, or time alone

    def _plain_groups(self, partition: Partition, query: tantivy.Query) -> list[Group] | None:
        """The groups where one thing divides; None: several do, or there is too much for one answer."""
        if len(self._by) + (self._interval_us is not None) > 1 or not _PLAIN.issuperset(self._by):
            return None
        try:
            counted = self._plain(partition, query, {})
            if counted is None or not self._measures:
                return counted
            if sum(self._weight(group.records) for group in counted) > BUCKETS_MAX:
                return None
            return self._plain(partition, query, self._measures)
        except TooMuchAskedError:
            return None

    def _plain(self, partition: Partition, query: tantivy.Query, measures: dict[str, Any]) -> list[Group] | None:
        below = {"aggs": measures} if measures else {}
        if self._interval_us is not None:
            histogram = {"field": TIME, "interval": float(self._interval_us), "min_doc_count": 1}
            answer = self._ask(partition, query, {"g": {"histogram": histogram, **below}})["g"]
            return [Group((int(bucket["key"]),), int(bucket["doc_count"]), bucket) for bucket in answer["buckets"]]
        [column] = self._by
        answer = self._ask(partition, query, {"g": {"terms": {"field": column, "size": VALUES_MAX}, **below}})["g"]
        if answer["sum_other_doc_count"] or answer["doc_count_error_upper_bound"]:
            return None
        groups = [Group((bucket_value(bucket),), int(bucket["doc_count"]), bucket) for bucket in answer["buckets"]]
        if column not in _EVERY_RECORD_HAS:
            without = self._compiler.all_of([query], not_any=[tantivy.Query.exists_query(column)])
            count = self.total(partition, without)
            if count:
                figures = self._ask(partition, without, measures) if measures else {}
                groups.append(Group((None,), count, figures))
        return groups

    # -- any number of fields

    def _pages(self, partition: Partition, query: tantivy.Query) -> Iterator[Group]:
        if not self._bucketed:
            yield from self._composite(partition, query, self._measures, itertools.repeat(PAGE_GROUPS))
            return
        counted: list[tuple[tuple[Any, ...], int]] = []
        for group in self._composite(partition, query, {}, itertools.repeat(PAGE_GROUPS)):
            counted.append((group.key, group.records))
            refuse_many(len(counted))
        for narrowed, counts in self._portions(query, counted):
            yield from self._composite(partition, narrowed, self._measures, self._sizes(counts))

    def _portions(
        self, query: tantivy.Query, counted: Sequence[tuple[tuple[Any, ...], int]]
    ) -> Iterator[tuple[tantivy.Query, list[int]]]:
        """Queries that share the groups out, and how large those of each are.

        Each page of a composite aggregation goes through all that matches. So the records are divided first, by what
        has most values of what divides them anyway.
        """
        columns = [*([] if self._interval_us is None else [TIME]), *self._by]
        values = {
            position: len({key[position] for key, _ in counted})
            for position, column in enumerate(columns)
            if column in _DIVIDING
        }
        if not values or sum(self._weight(records) for _, records in counted) <= BUCKETS_MAX:
            yield query, [records for _, records in counted]
            return
        position = max(values, key=values.__getitem__)
        of_value: dict[Any, list[int]] = {}
        for key, records in counted:
            of_value.setdefault(key[position], []).append(records)
        without = of_value.pop(None, None)
        if without is not None:
            nothing = tantivy.Query.exists_query(columns[position])
            yield self._compiler.all_of([query], not_any=[nothing]), without
        chosen: list[Any] = []
        counts: list[int] = []
        weight = 0
        for value, own in of_value.items():
            added = sum(map(self._weight, own))
            if chosen and weight + added > BUCKETS_MAX:
                yield self._narrowed(query, columns[position], chosen), counts
                chosen, counts, weight = [], [], 0
            chosen.append(value)
            counts += own
            weight += added
        if chosen:
            yield self._narrowed(query, columns[position], chosen), counts

    def _narrowed(self, query: tantivy.Query, column: str, values: Sequence[Any]) -> tantivy.Query:
        if column != TIME:
            return self._compiler.all_of([query, self._compiler.one_of(column, values)])
        assert self._interval_us is not None
        return self._compiler.all_of([query, self._compiler.time_range(values[0], values[-1] + self._interval_us)])

    def _sizes(self, counts: Sequence[int]) -> Iterator[int]:
        """How many groups have room in each page."""
        size = weight = 0
        for count in counts:
            own = self._weight(count)
            if size and (weight + own > BUCKETS_MAX or size == PAGE_GROUPS):
                yield size
                size = weight = 0
            size += 1
            weight += own
        if size:
            yield size

    def _composite(
        self, partition: Partition, query: tantivy.Query, measures: dict[str, Any], sizes: Iterable[int]
    ) -> Iterator[Group]:
        """Groups in order of their keys, so many at a time; a page that is too much after all is halved."""
        sources: list[dict[str, Any]] = [
            {column: {"terms": {"field": column, "missing_bucket": True}}} for column in self._by
        ]
        if self._interval_us is not None:
            sources.insert(0, {_TIME_SOURCE: {"histogram": {"field": TIME, "interval": float(self._interval_us)}}})
        below = {"aggs": measures} if measures else {}
        after: dict[str, str] | None = None
        coming, halves = iter(sizes), list[int]()
        while size := halves.pop() if halves else next(coming, 0):
            composite = {"sources": sources, "size": size} | ({} if after is None else {"after": after})
            try:
                answer = self._ask(partition, query, {"g": {"composite": composite, **below}})["g"]
            except TooMuchAskedError:
                if size == 1:
                    raise
                halves += [size // 2, size - size // 2]
                continue
            for bucket in answer["buckets"]:
                yield Group(self._key(bucket["key"]), int(bucket["doc_count"]), bucket)
            after = answer.get("after_key")
            if after is None or len(answer["buckets"]) < size:
                return

    def _key(self, found: dict[str, Any]) -> tuple[Any, ...]:
        key = tuple(plain_value(column, found[column]) for column in self._by)
        return key if self._interval_us is None else (int(found[_TIME_SOURCE]), *key)
