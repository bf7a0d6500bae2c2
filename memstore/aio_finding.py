"""What agents and analysts ask of a store, awaitable. A part of `AsyncMemStore`; all else is in `memstore.finding`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import Any, Unpack

from memstore.finder import Progress, SearchFilters
from memstore.search.follow import Follower
from memstore.search.result import AggregateResult, SearchHit, SearchResult, Sort, with_passages
from memstore.store import MemStore

FOLLOW_EVERY_S = 0.5
"""Seconds between looks for what has come."""


class AsyncFinding:
    """The part of `AsyncMemStore` that finds; each call runs in a thread."""

    _store: MemStore
    _call: Callable[..., Awaitable[Any]]

    async def search(
        self,
        query: str = "",
        *,
        sort: Sort = "relevance",
        limit: int = 10,
        cursor: str | None = None,
        highlight: bool = True,
        facets: str | Iterable[str] = (),
        **filters: Unpack[SearchFilters],
    ) -> SearchResult:
        """See `MemStore.search`; the passages are found before it returns, and hold no loop."""
        found: SearchResult = await self._call(
            lambda: with_passages(
                self._store.search(
                    query, sort=sort, limit=limit, cursor=cursor, highlight=highlight, facets=facets, **filters
                )
            )
        )
        return found

    async def aggregate(
        self,
        query: str = "",
        *,
        by: str | Iterable[str] = (),
        metrics: str | Iterable[str] = (),
        interval: str | float | None = None,
        **filters: Unpack[SearchFilters],
    ) -> AggregateResult:
        """See `MemStore.aggregate`."""
        found: AggregateResult = await self._call(
            lambda: self._store.aggregate(query, by=by, metrics=metrics, interval=interval, **filters)
        )
        return found

    async def similar(self, memory_id: str, *, limit: int = 10, **filters: Unpack[SearchFilters]) -> SearchResult:
        """See `MemStore.similar`."""
        found: SearchResult = await self._call(lambda: self._store.similar(memory_id, limit=limit, **filters))
        return found

    def follow(
        self,
        query: str = "",
        *,
        highlight: bool = True,
        every_s: float = FOLLOW_EVERY_S,
        **filters: Unpack[SearchFilters],
    ) -> AsyncIterator[SearchHit]:
        """See `MemStore.follow`; an asynchronous iterator without end, which begins when it is first asked."""
        return followed(self._call, lambda: self._store.follow(query, highlight=highlight, **filters), every_s)

    async def index(
        self,
        *,
        rebuild: bool | Iterable[str] = False,
        progress: Progress | None = None,
        stop: Callable[[], bool] | None = None,
    ) -> dict[str, Any]:
        """See `MemStore.index`; ``progress`` and ``stop`` are called from another thread."""
        report: dict[str, Any] = await self._call(
            lambda: self._store.index(rebuild=rebuild, progress=progress, stop=stop)
        )
        return report

    async def index_status(self) -> dict[str, Any]:
        """See `MemStore.index_status`."""
        found: dict[str, Any] = await self._call(self._store.index_status)
        return found


async def followed(
    call: Callable[..., Awaitable[Any]], start: Callable[[], Follower], every_s: float
) -> AsyncIterator[SearchHit]:
    """What a follower finds, look by look, in threads that ``call`` provides."""
    follower: Follower = await call(start)
    try:
        while True:
            for hit in await call(lambda: with_passages(follower.poll())):
                yield hit
            if not follower.has_more:
                await asyncio.sleep(every_s)
    finally:
        follower.close()
