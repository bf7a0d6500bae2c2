"""The search of an open store as its faces share it: made at the first question, closed with the store.

tantivy is imported then and not before, for most processes only append and read.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from memstore.engine.engine import Engine
from memstore.errors import StoreClosedError
from memstore.filters import Filters, build_filter, check_names
from memstore.search.cursor import decode_cursor
from memstore.search.filters import Filters as SearchedFor
from memstore.search.filters import search_filters
from memstore.search.follow import Follower
from memstore.search.result import AggregateResult, SearchResult, Sort
from memstore.search.state import CONSUMER

Progress = Callable[[int, int], None]


class OwnSearchFilters(Filters, total=False):
    """What must hold beside the query text: `Filters`, of whose ``context`` only indexed keys may be asked for.

    Attributes:
        success: whether the response was one.
    """

    success: bool | None


class SearchFilters(OwnSearchFilters, total=False):
    """`OwnSearchFilters`, and of whom.

    Attributes:
        agent: one or several agents, by id or by a pattern with ``*`` and ``?``.
    """

    agent: str | Iterable[str] | None


class Finder:
    """Thread-safe; one per open store. See `memstore.finding` for what the calls mean."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._lock = threading.Lock()
        self._search: Any = None
        self._closed = False

    def search(
        self,
        query: str,
        filters: Mapping[str, Any],
        *,
        own: str | None,
        sort: Sort,
        limit: int,
        cursor: str | None,
        highlight: bool,
        facets: str | Iterable[str],
    ) -> SearchResult:
        """See `memstore.MemStore.search`; ``own``: the one agent that may be reached."""
        before = None if cursor is None else decode_cursor(cursor)
        now_us = self._engine.clock.now_us() if before is None else before.now_us
        wanted = self._filters(filters, own, now_us)
        found: SearchResult = self._opened().search(
            query, wanted, now_us=now_us, sort=sort, limit=limit, before=before, highlight=highlight, facets=facets
        )
        return found

    def aggregate(
        self,
        query: str,
        filters: Mapping[str, Any],
        *,
        own: str | None,
        by: str | Iterable[str],
        metrics: str | Iterable[str],
        interval: str | float | None,
    ) -> AggregateResult:
        """See `memstore.MemStore.aggregate`."""
        now_us = self._engine.clock.now_us()
        wanted = self._filters(filters, own, now_us)
        found: AggregateResult = self._opened().aggregate(
            query, wanted, now_us=now_us, by=by, metrics=metrics, interval=interval
        )
        return found

    def similar(self, memory_id: str, filters: Mapping[str, Any], *, own: str | None, limit: int) -> SearchResult:
        """See `memstore.MemStore.similar`."""
        wanted = self._filters(filters, own, self._engine.clock.now_us())
        found: SearchResult = self._opened().similar(memory_id, wanted, limit=limit)
        return found

    def follow(self, query: str, filters: Mapping[str, Any], *, own: str | None, highlight: bool) -> Follower:
        """See `memstore.MemStore.follow`."""
        now_us = self._engine.clock.now_us()
        wanted = self._filters(filters, own, now_us)
        follower: Follower = self._opened().follow(query, wanted, now_us=now_us, highlight=highlight)
        return follower

    def index(
        self,
        *,
        stop: Callable[[], bool] | None = None,
        progress: Progress | None = None,
        rebuild: Iterable[str] | None = None,
    ) -> dict[str, Any] | None:
        """See `memstore.MemStore.index`."""
        report = self._opened().index(stop=stop, progress=progress, rebuild=rebuild)
        return None if report is None else dict(report.as_dict())

    def status(self) -> dict[str, Any]:
        """See `memstore.MemStore.index_status`."""
        found: dict[str, Any] = self._opened().status()
        return found

    def catch_up(self) -> None:
        """Index in the background what this process has merged, where the store has an index."""
        if self._closed or self._engine.read_only or self._engine.consumers.identify(CONSUMER) is None:
            return  # and tantivy is not imported where nobody searches
        self._opened().catch_up()

    def close(self) -> None:
        """Stop indexing. Idempotent."""
        with self._lock:
            self._closed = True
            search, self._search = self._search, None
        if search is not None:
            search.close()

    def forget_after_fork(self) -> None:
        """In a forked child: the lock may have been held."""
        self._lock = threading.Lock()

    def _opened(self) -> Any:
        self._engine.check_open()
        search = self._search
        if search is None:
            from memstore.search.search import Search  # noqa: PLC0415 - tantivy costs 40 ms, and only here

            with self._lock:
                if self._closed:
                    raise StoreClosedError(f"{self._engine.paths.root}: the store is closed; open it again")
                if self._search is None:
                    self._search = Search(self._engine)
                search = self._search
        return search

    def _filters(self, given: Mapping[str, Any], own: str | None, now_us: int) -> SearchedFor:
        self._engine.check_open()
        check_names(given, (OwnSearchFilters if own is not None else SearchFilters).__annotations__)
        record = {name: value for name, value in given.items() if name not in ("agent", "success")}
        return search_filters(
            build_filter(now_us=now_us, **record),
            agents=given.get("agent"),
            own=own,
            success=given.get("success"),
        )


def drop_index(engine: Engine, agent: str | None) -> list[str]:
    """Take an agent out of the search index, where there is one, for an erasure; paths of the files that went."""
    if engine.storage.identify(engine.paths.search) is None and not engine.consumers.names():
        return []
    from memstore.search.drop import drop_agent  # noqa: PLC0415 - see `Finder`

    return drop_agent(engine, agent)


def renew_index(engine: Engine) -> None:
    """Have the search index built anew, where there is one: records are back that it may lack."""
    from memstore.search.begin_anew import begin_anew  # noqa: PLC0415 - see `Finder`

    begin_anew(engine)
