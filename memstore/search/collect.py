"""Hits, counts and facets from one source at a time, put together as if there were one index.

By time the order is total: time, then the suffix of the id, which no two records of one time share; a batch of
thousands of records of one microsecond is paged through like any other.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import tantivy

from memstore.search.compile import Compiler
from memstore.search.foreign import translated
from memstore.search.partition import Partition, Place
from memstore.search.result import FacetValue, Sort
from memstore.search.schema import CONTEXT, SUFFIX, TIME, unmarked

_END_OF_TIME_US = 2**62


class Candidate(NamedTuple):
    """A document that may be a hit."""

    score: float
    place: Place
    partition: Partition

    @property
    def memory_ids(self) -> list[str]:
        """Its id; of several, where hashes of agents collide, one has a record."""
        return self.partition.memory_ids(self.place)


class HitCollector:
    """The best or first so many candidates of all sources.

    Args:
        compiler: makes queries.
        sort: in which order.
        limit: how many are kept.
        after: by time: begin behind this time and suffix.
    """

    def __init__(self, compiler: Compiler, *, sort: Sort, limit: int, after: tuple[int, int] | None = None) -> None:
        self._compiler = compiler
        self._sort = sort
        self._limit = limit
        self._after = after
        self._found: list[Candidate] = []
        self.total = 0

    def collect(self, partition: Partition, query: tantivy.Query) -> None:
        """Take what a source has.

        Raises:
            IndexFailedError: the index refused.
        """
        with translated("the search index"):
            fresh = (
                self._by_relevance(partition, query) if self._sort == "relevance" else self._by_time(partition, query)
            )
        # Sorted, for that is faster than a heap of as many as half of them.
        self._found = sorted((*self._found, *fresh), key=self._order)[: self._limit]

    def candidates(self) -> list[Candidate]:
        """In order."""
        return self._found

    def _order(self, each: Candidate) -> tuple[float, int, int]:
        place = each.place
        if self._sort == "oldest":
            return 0.0, place.time_us, place.suffix
        return -each.score, -place.time_us, -place.suffix

    def _by_relevance(self, partition: Partition, query: tantivy.Query) -> list[Candidate]:
        result = partition.searcher.search(query, self._limit)
        self.total += matching(result)
        hits = result.hits
        if len(self._found) == self._limit:  # what is worse than all that there are needs no columns
            least = self._found[-1].score
            hits = [hit for hit in hits if hit[0] >= least]
        places = partition.places([address for _, address in hits])
        return [Candidate(score, place, partition) for (score, _), place in zip(hits, places, strict=True)]

    def _by_time(self, partition: Partition, query: tantivy.Query) -> list[Candidate]:
        newest = self._sort == "newest"
        places: list[Place] = []
        rest = query
        if self._after is None:
            result = partition.searcher.search(query, self._limit + 1, order_by_field=TIME, order=_order_of(newest))
            self.total += matching(result)
        else:
            time_us, suffix = self._after
            self.total += matching(partition.searcher.search(query, 1))
            places += self._ties(partition, query, time_us, suffix)
            bounds = (0, time_us) if newest else (time_us + 1, _END_OF_TIME_US)
            rest = self._compiler.all_of([query, self._compiler.time_range(*bounds)])
            result = partition.searcher.search(rest, self._limit + 1, order_by_field=TIME, order=_order_of(newest))
        hits = result.hits
        if len(hits) > self._limit and hits[-1][0] == hits[-2][0]:
            # Which of several records of one time come first is for their ids to say.
            last_us = hits[-1][0]
            hits = [hit for hit in hits if hit[0] != last_us]
            places += self._ties(partition, rest, last_us, None)
        places += partition.places([address for _, address in hits])
        return [Candidate(0.0, place, partition) for place in places]

    def _ties(self, partition: Partition, query: tantivy.Query, time_us: int, beyond: int | None) -> list[Place]:
        """Records of one time, in order of their suffixes, behind one of them."""
        newest = self._sort == "newest"
        must = [query, self._compiler.time_range(time_us, time_us + 1)]
        if beyond is not None:
            must.append(self._compiler.suffix_range(*((0, beyond - 1) if newest else (beyond + 1, 2**64 - 1))))
        found = partition.searcher.search(
            self._compiler.all_of(must), self._limit, order_by_field=SUFFIX, order=_order_of(newest)
        )
        return partition.places([address for _, address in found.hits])


def matching(result: tantivy.SearchResult) -> int:
    """How many documents match; tantivy's own types do not name it."""
    return int(result.count)  # type: ignore[attr-defined]


def _order_of(newest: bool) -> tantivy.Order:  # noqa: FBT001 - of two
    return tantivy.Order.Desc if newest else tantivy.Order.Asc


@dataclass(slots=True)
class FacetCollector:
    """Counts of values of fields, added up over sources.

    Attributes:
        fields: by the caller's name, the index's.
        counts: by the caller's name.
    """

    fields: dict[str, str]
    counts: dict[str, dict[FacetValue, int]] = field(default_factory=dict)

    def collect(self, partition: Partition, query: tantivy.Query) -> None:
        """Take what a source has. Raises as `HitCollector.collect`."""
        for name, target in self.fields.items():
            # One at a time: an answer has so many values, those of all its fields together.
            with translated("the search index"):
                found = partition.searcher.aggregate(query, {"f": {"terms": {"field": target, "size": VALUES_MAX}}})
            counts = self.counts.setdefault(name, {})
            for bucket in found["f"]["buckets"]:
                value = plain_value(target, bucket_value(bucket))
                counts[value] = counts.get(value, 0) + int(bucket["doc_count"])

    def largest(self, limit: int) -> dict[str, list[tuple[FacetValue, int]]]:
        """The most frequent values of each field, those of one frequency by name."""
        return {name: _largest(self.counts.get(name, {}).items(), limit) for name in self.fields}


VALUES_MAX = 65_000
"""Values of a field that are counted one by one in a source: tantivy's own bound."""


def _largest(counts: Iterable[tuple[FacetValue, int]], limit: int) -> list[tuple[FacetValue, int]]:
    return heapq.nsmallest(limit, counts, key=lambda each: (-each[1], str(each[0])))


def plain_value(column: str, value: Any) -> Any:
    """A value of a column as the record has it."""
    return unmarked(value) if isinstance(value, str) and column.startswith(f"{CONTEXT}.") else value


def bucket_value(bucket: dict[str, Any]) -> FacetValue:
    """The value that a bucket of terms stands for: flags are told by their text."""
    text = bucket.get("key_as_string")
    value: FacetValue = bucket["key"] if text is None else text == "true"
    return value
