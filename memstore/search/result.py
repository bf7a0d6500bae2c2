"""What a search gives back. Values only."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import msgspec

from memstore.record import MemoryRecord

Sort = Literal["relevance", "newest", "oldest"]
"""In which order hits come; by relevance the newest first where nothing tells records apart."""


FacetValue = str | int | float | bool
FindPassages = Callable[[], "tuple[Highlight, ...]"]
"""Finds the passages of one hit; holds neither files nor the store."""


@dataclass(frozen=True, slots=True)
class Highlight:
    """A passage of a record in which words of the question occur.

    Attributes:
        text: the passage, with an ellipsis where it was cut.
        spans: ``(start, end)`` of each word in it, in characters.
    """

    text: str
    spans: tuple[tuple[int, int], ...]

    def marked(self, before: str = "**", after: str = "**") -> str:
        """The passage with the words marked."""
        parts, position = [], 0
        for start, end in self.spans:
            parts += [self.text[position:start], before, self.text[start:end], after]
            position = end
        return "".join((*parts, self.text[position:]))


class _Finding:
    """Keeps how the passages of a hit are found, beside its fields, for it is none of its values."""

    __slots__ = ("_find",)
    _find: FindPassages | None


@dataclass(frozen=True, slots=True)
class SearchHit(_Finding):
    """One record that matches. Thread-safe.

    Passages cost as much as all else that is done for a hit, and many read the record only: those of a search are
    found when they are asked for, in the line that was read then, which the hit keeps for as long: whatever becomes of
    the store. Nobody can tell: a hit is equal to, printed, copied and pickled as one that had them from the start.

    Attributes:
        record: it.
        score: how well, higher is better; None where nothing tells records apart, or they were sorted by time.
        highlights: where.
    """

    record: MemoryRecord
    score: float | None
    highlights: tuple[Highlight, ...] = ()

    @classmethod
    def of(cls, record: MemoryRecord, score: float | None, find: FindPassages) -> SearchHit:
        """A hit whose passages are found when they are asked for."""
        hit = object.__new__(cls)
        object.__setattr__(hit, "record", record)
        object.__setattr__(hit, "score", score)
        object.__setattr__(hit, "_find", find)
        return hit

    if not TYPE_CHECKING:  # to a type checker any name would be an attribute

        def __getattr__(self, name: str) -> object:
            # Python asks here for what is not there yet, so once for the passages.
            if name != "highlights":
                raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
            find = self._find
            if find is not None:  # several threads may be here: they find the same
                object.__setattr__(self, "highlights", find())
                object.__setattr__(self, "_find", None)  # and let go of what it was found in
            return object.__getattribute__(self, "highlights")

    def as_dict(self) -> dict[str, Any]:
        """For machines."""
        return {
            "record": msgspec.to_builtins(self.record),
            "score": self.score,
            "highlights": [
                {"text": each.text, "spans": [list(span) for span in each.spans]} for each in self.highlights
            ],
        }


Hits = TypeVar("Hits", bound=Iterable[SearchHit])


def with_passages(hits: Hits) -> Hits:
    """The same hits, their passages found now, for those who must not wait for them later: an event loop."""
    for hit in hits:
        _ = hit.highlights
    return hits


@dataclass(frozen=True, slots=True)
class FacetCount:
    """How many matching records have a value."""

    value: FacetValue
    count: int


@dataclass(frozen=True, slots=True)
class Scanned:
    """Where the answer came from.

    Attributes:
        partitions: months that were searched in the index.
        indexed: records in them.
        tail: records that were durable and not yet indexed.
        scanned: records that were read from the store, for the index could not answer for them.
        stale: months that were scanned, for their part of the index is missing, damaged or being built.
    """

    partitions: int = 0
    indexed: int = 0
    tail: int = 0
    scanned: int = 0
    stale: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SearchResult:
    """What was found.

    Attributes:
        hits: the best, newest or oldest matches, in order.
        total: how many records match.
        facets: for each facet that was asked for its most frequent values.
        cursor: pass it to get the next page; None where this is the last.
        hints: what of the query text was not understood, and how it was taken.
        notes: what the index could not answer and what was done instead; what was left out because it is damaged.
        scanned: where the answer came from.
        seconds: how long it took.
    """

    hits: tuple[SearchHit, ...]
    total: int
    facets: dict[str, list[FacetCount]] = field(default_factory=dict)
    cursor: str | None = None
    hints: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    scanned: Scanned = field(default_factory=Scanned)
    seconds: float = 0.0

    def __iter__(self) -> Iterator[SearchHit]:
        return iter(self.hits)

    def __len__(self) -> int:
        return len(self.hits)

    @property
    def records(self) -> list[MemoryRecord]:
        """The records of the hits."""
        return [hit.record for hit in self.hits]

    def as_dict(self) -> dict[str, Any]:
        """For machines."""
        return {
            "hits": [hit.as_dict() for hit in self.hits],
            "total": self.total,
            "facets": {
                name: [{"value": each.value, "count": each.count} for each in counts]
                for name, counts in self.facets.items()
            },
            "cursor": self.cursor,
            "hints": list(self.hints),
            "notes": list(self.notes),
            "scanned": msgspec.to_builtins(self.scanned),
            "seconds": round(self.seconds, 6),
        }


@dataclass(frozen=True, slots=True)
class AggregateRow:
    """One group.

    Attributes:
        key: value of each field in ``by`` (None: the record has none), and of ``time`` (ISO 8601) with an interval.
        count: records in it.
        metrics: by name, ``None`` where no record has the number.
    """

    key: dict[str, Any]
    count: int
    metrics: dict[str, float | None]

    def as_dict(self) -> dict[str, Any]:
        """For machines: one flat dict."""
        return {**self.key, "count": self.count, **self.metrics}


@dataclass(frozen=True, slots=True)
class AggregateResult:
    """Groups, the largest first, or in order of time with an interval; see `SearchResult` for the rest."""

    rows: tuple[AggregateRow, ...]
    total: int
    hints: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    scanned: Scanned = field(default_factory=Scanned)
    seconds: float = 0.0

    def __iter__(self) -> Iterator[AggregateRow]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def as_dict(self) -> dict[str, Any]:
        """For machines."""
        return {
            "rows": [row.as_dict() for row in self.rows],
            "total": self.total,
            "hints": list(self.hints),
            "notes": list(self.notes),
            "scanned": msgspec.to_builtins(self.scanned),
            "seconds": round(self.seconds, 6),
        }
