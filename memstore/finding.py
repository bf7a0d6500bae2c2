"""What agents and analysts ask of a store: search, aggregates, more like this. A part of `MemStore`."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Unpack

from memstore.errors import LockedError
from memstore.finder import Finder, Progress, SearchFilters
from memstore.search.follow import Follower
from memstore.search.result import AggregateResult, SearchResult, Sort


class Finding:
    """The part of `MemStore` that finds. Thread-safe."""

    _finder: Finder

    def search(
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
        """Find records by what is in them, in every tier, whatever was appended up to now by whomever.

        Args:
            query: words (any of them, the best matches first), ``"phrases"``, AND OR NOT, brackets, ``prefix*``,
                ``word~1``, ``field:value``, ``ms:>1000``, ``after:2025-01-01``, ``before:7d``,
                ``importance:>=HIGH``. Empty: all that the filters let through. What cannot be parsed is searched as
                words, and a hint says so: nothing that is typed raises.
            sort: ``relevance``, ``newest`` or ``oldest``.
            limit: hits on a page, 1 to 1,000.
            cursor: of the page before; the question must be the same.
            highlight: whether hits have the passages in which words occur; they are found when they are asked for.
            facets: fields whose values are counted: type, importance, agent, tags, session, user, task, model, success,
                context.KEY.
            filters: see `SearchFilters`.

        Returns:
            Hits, their number, facets, hints, and where the answer came from.

        Raises:
            UsageError: an argument is not of its form.
            StorageError: the store cannot be read.
        """
        return self._finder.search(
            query, filters, own=None, sort=sort, limit=limit, cursor=cursor, highlight=highlight, facets=facets
        )

    def aggregate(
        self,
        query: str = "",
        *,
        by: str | Iterable[str] = (),
        metrics: str | Iterable[str] = (),
        interval: str | float | None = None,
        **filters: Unpack[SearchFilters],
    ) -> AggregateResult:
        """Count records, and sum up their numbers, in groups.

        Args:
            query: as in `search`.
            by: fields to group by, as for facets; a record with several tags is in several groups.
            metrics: ``avg(ms)``, ``sum(bytes)``, ``min(confidence)``, ``max(...)``, ``count(...)``, ``p50(ms)``,
                ``p99.9(context.KEY)``; percentiles are within 1 % of the exact value,
                however the records are spread over months and files; everything else is exact.
            interval: width of a group in time: ``hour``, ``day``, ``week`` (from 1970-01-01 on), ``15min``, ``6h``, or
                seconds.
            filters: see `SearchFilters`.

        Raises:
            UsageError: an argument is not of its form, or there are more than a million groups.
            StorageError: the store cannot be read.
        """
        return self._finder.aggregate(query, filters, own=None, by=by, metrics=metrics, interval=interval)

    def similar(self, memory_id: str, *, limit: int = 10, **filters: Unpack[SearchFilters]) -> SearchResult:
        """Records that share a record's most telling words, the most alike first.

        Raises:
            NotFoundError: there is no such record.
            UsageError: no id of this form, or an argument is not of its form.
        """
        return self._finder.similar(memory_id, filters, own=None, limit=limit)

    def follow(self, query: str = "", *, highlight: bool = True, **filters: Unpack[SearchFilters]) -> Follower:
        """What is appended from now on and matches, by any process, like ``tail -f``.

        Args:
            query: as in `search`; ages in it count back from now.
            highlight: whether to look for the passages in which words occur.
            filters: see `SearchFilters`.

        Returns:
            A `Follower`: its ``poll()`` gives what has come since the last one, each record once, in order of arrival.
            Close it, or use it in a ``with``: while it is open, logs that are merged wait for it.

        Raises:
            UsageError: an argument is not of its form.
            LockedError: too many follow this store.
        """
        return self._finder.follow(query, filters, own=None, highlight=highlight)

    def index(
        self,
        *,
        rebuild: bool | Iterable[str] = False,
        progress: Progress | None = None,
        stop: Callable[[], bool] | None = None,
    ) -> dict[str, Any]:
        """Bring the search index up to date now; searches do so by themselves, and may have to wait for it.

        Args:
            rebuild: build it anew: all of it (True), or these months (``"202501"``). Searches go on meanwhile.
            progress: told how many records have been indexed, and how many there are about.
            stop: asked now and then; the next call goes on.

        Returns:
            ``added`` (records), ``built`` (months), ``finished``.

        Raises:
            LockedError: another process is indexing.
            ReadOnlyError: the store was opened read-only.
        """
        months = None if rebuild is False else ([] if rebuild is True else list(rebuild))
        report = self._finder.index(stop=stop, progress=progress, rebuild=months)
        if report is None:
            raise LockedError("another process is indexing this store; it will be up to date when that is done")
        return report

    def index_status(self) -> dict[str, Any]:
        """``ready, language, context_keys, partitions, records, bytes, stale, behind_bytes, in_doubt, lacks``.

        ``lacks``: how many damaged pieces of the store the index was built without; `check` names them.
        """
        return self._finder.status()
