"""A question to the store as a value: asked, paged through, narrowed, and written down as code, always the same one."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, Self

from memstore.search.cursor import SHOWN_MAX
from memstore.search.result import FacetValue, SearchResult, Sort
from memstore.store import MemStore

LIMIT_DEFAULT = 10
PAGE_HITS_MAX = 500
"""Hits that are read at a time where somebody wants many."""
_FILTER_OF_FACET = {"type": "memory_type", "memory_type": "memory_type", "agent_id": "agent"}
_FILTERS = frozenset({"agent", "importance", "session", "success"})
_CONTEXT_OF_FACET = {"user": "user_id", "user_id": "user_id", "task": "task_id", "task_id": "task_id", "model": "model"}
_TAGS = frozenset({"tag", "tags"})


@dataclass(frozen=True, slots=True)
class Asking:
    """One question. Immutable; the mapping is not to be changed.

    Attributes:
        query: the text.
        filters: keyword arguments beside it, as `memstore.finder.SearchFilters` has them.
        sort: in which order.
        limit: hits on a page.
        facets: fields whose values are counted.
        highlight: whether to look for passages.
    """

    query: str = ""
    filters: Mapping[str, Any] = field(default_factory=dict)
    sort: Sort = "relevance"
    limit: int = LIMIT_DEFAULT
    facets: tuple[str, ...] = ()
    highlight: bool = True

    def page(self, store: MemStore, cursor: str | None = None) -> SearchResult:
        """Ask for one page."""
        return store.search(
            self.query,
            sort=self.sort,
            limit=self.limit,
            cursor=cursor,
            highlight=self.highlight,
            facets=self.facets,
            **self.filters,
        )

    def arguments(self) -> dict[str, Any]:
        """Keyword arguments of ``store.search`` that are not its defaults, in the order in which one says them."""
        found = dict(self.filters)
        if self.sort != "relevance":
            found["sort"] = self.sort
        if self.limit != LIMIT_DEFAULT:
            found["limit"] = self.limit
        if not self.highlight:
            found["highlight"] = False
        if self.facets:
            found["facets"] = list(self.facets)
        return found

    def with_filter(self, name: str, value: Any) -> Self:
        """The same with another value of a filter; None takes it away."""
        filters = {key: old for key, old in self.filters.items() if key != name}
        if value is not None:
            filters[name] = value
        return replace(self, filters=filters)

    def narrowed(self, facet: str, value: FacetValue) -> Self:
        """The same, only for records whose field has this value."""
        if facet in _TAGS:
            return self.with_filter("tags_all", [*_listed(self.filters.get("tags_all")), value])
        name = _FILTER_OF_FACET.get(facet, facet)
        if name in _FILTERS | {"memory_type"}:
            return self.with_filter(name, value)
        if facet == "session_id":
            return self.with_filter("session", value)
        key = _CONTEXT_OF_FACET.get(facet, facet.removeprefix("context."))
        return self.with_filter("context", {**self.filters.get("context", {}), key: value})


def _listed(value: Any) -> list[Any]:
    if value is None:
        return []
    return [value] if isinstance(value, str) else list(value)


class Pages(Protocol):
    """An answer, page by page.

    Attributes:
        first: the first page, once it has been asked for: its total, facets and hints are the question's.
        cursor: where the page behind the last one that was asked for begins; None: there is none.
        ended_early: whether there are more hits than the engine pages through by relevance.
    """

    first: SearchResult | None
    cursor: str | None
    ended_early: bool

    def pages(self) -> Iterator[SearchResult]:
        """Each page, once."""
        ...


class Answered:
    """An answer of one page. See `Pages`."""

    def __init__(self, result: SearchResult) -> None:
        self.first: SearchResult | None = result
        self.cursor: str | None = None
        self.ended_early = False

    def pages(self) -> Iterator[SearchResult]:
        """It."""
        assert self.first is not None
        yield self.first


class Walk:
    """The hits of a question, page by page, up to a number of them (None: all there are).

    By relevance the engine pages through so many hits and no more; there it ends. See `Pages`.
    """

    def __init__(self, store: MemStore, asking: Asking, limit: int | None, cursor: str | None = None) -> None:
        self._store = store
        self._asking = asking
        self._limit = limit
        self._cursor = cursor
        self.first: SearchResult | None = None
        self.cursor: str | None = None
        self.ended_early = False

    def pages(self) -> Iterator[SearchResult]:
        """Each page, once."""
        left = self._limit
        cursor = self._cursor
        seen = 0
        for number in itertools.count():
            size = min(PAGE_HITS_MAX if left is None else left, PAGE_HITS_MAX)
            facets = self._asking.facets if number == 0 else ()
            page = replace(self._asking, limit=size, facets=facets).page(self._store, cursor)
            self.first = self.first or page
            self.cursor = cursor = page.cursor
            seen += len(page)
            yield page
            left = None if left is None else left - len(page)
            if cursor is None or left == 0:
                self.ended_early = (
                    cursor is None and left != 0 and self._by_relevance and seen >= SHOWN_MAX < page.total
                )
                return

    @property
    def _by_relevance(self) -> bool:
        return self.first is not None and bool(self.first.hits) and self.first.hits[0].score is not None
