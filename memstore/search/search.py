"""The search of one open store, put together: what the face calls.

A search is never behind, so it has to do with whatever there is: it indexes first where that is worth it, scans where
it is not, and sees to it that the index catches up afterwards, in the background. Until the first search (or the
first ``memstore index``) of a store there is no index, and nobody pays for one.
"""

from __future__ import annotations

import logging
import os
import threading
import weakref
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

import msgspec
import orjson

from memstore.engine.engine import Engine
from memstore.errors import CorruptionError, MemstoreError, NotFoundError, UsageError
from memstore.format.consumer_file import ConsumerFile
from memstore.search.aggregate import Aggregator, group_field, parse_interval, parse_metric
from memstore.search.chunks import chunks
from memstore.search.compile import Compiler
from memstore.search.course import IndexReport, Progress
from memstore.search.cursor import Cursor
from memstore.search.document import identifier, texts_of
from memstore.search.filters import Filters
from memstore.search.follow import Follower, clear_dead_followers
from memstore.search.foreign import IndexFailedError, QueryRefusedError
from memstore.search.indexer import Indexer
from memstore.search.query import parse_question, plain_question
from memstore.search.question import Everything, Group, IdIs, Node, Question
from memstore.search.result import AggregateResult, Scanned, SearchHit, SearchResult, Sort
from memstore.search.schema import CONTEXT_FIELDS, Analyzer, IndexShape, context_column
from memstore.search.searcher import Asked, Page, Searcher
from memstore.search.similar import like
from memstore.search.source import Plan, Source, SourceFailedError
from memstore.search.sources import Sources, StandingChangedError
from memstore.search.standing import Standing
from memstore.search.state import CONSUMER, stale_months, state_of, with_state
from memstore.search.tail import TAIL_BYTES_MAX, behind_bytes

_log = logging.getLogger(__name__)
SCAN_RECORDS_MAX = 20_000
"""Records that are rather scanned than indexed while somebody waits: less than a second's work."""
BEHIND_BYTES = 1024 * 1024
"""Bytes in the tail above which the index is brought up to date in the background."""
LIMIT_MAX = 1000
"""Hits on one page."""
_ATTEMPTS_MAX = 20
_JOIN_S = 0.1
"""Seconds between questions whether to stop, while our own indexing is waited for."""
SORTS = ("relevance", "newest", "oldest")
T = TypeVar("T")
_all: weakref.WeakSet[Search] = weakref.WeakSet()


class Search:
    """Thread-safe; survives fork."""

    def __init__(self, engine: Engine) -> None:
        settings = engine.settings.search
        self._engine = engine
        self._background = settings.background and not engine.read_only
        self._shape = IndexShape.of(settings)
        self._analyzer = Analyzer(settings.language)
        self._compiler = Compiler(self._analyzer)
        self._sources = Sources(engine, shape=self._shape, analyzer=self._analyzer, compiler=self._compiler)
        self._searcher = Searcher(
            sources=self._sources,
            compiler=self._compiler,
            analyzer=self._analyzer,
            reader=engine.reader,
        )
        self._indexer = Indexer(engine, shape=self._shape, analyzer=self._analyzer, compiler=self._compiler)
        self._reset()
        _all.add(self)

    def _reset(self) -> None:
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._closing = threading.Event()

    # -- questions

    def search(
        self,
        query: str,
        filters: Filters,
        *,
        now_us: int,
        sort: Sort,
        limit: int,
        before: Cursor | None,
        highlight: bool,
        facets: Iterable[str],
    ) -> SearchResult:
        """One page of what matches; see `memstore.MemStore.search`."""
        began_s = self._engine.clock.monotonic_s()
        if sort not in SORTS:
            raise UsageError(f"sort is one of {', '.join(SORTS)}, not {sort!r}")
        _check_limit(limit)
        if not isinstance(query, str):
            raise UsageError(f"a query is text, not {type(query).__name__}")
        names = [facets] if isinstance(facets, str) else list(facets)
        fields = {name: group_field(name, self._shape.context_keys) for name in names}

        def page_of(question: Question) -> tuple[Page, Question]:
            asked = self._asked(question, filters)

            def ask(plan: Plan) -> Page:
                return self._searcher.page(
                    plan,
                    asked,
                    sort=sort,
                    limit=limit,
                    before=before,
                    highlight=highlight,
                    facets=fields,
                    now_us=now_us,
                )

            return self._answer(asked, ask), question

        page, question = self._understood(query, now_us, page_of)
        return SearchResult(
            page.hits,
            page.total,
            page.facets,
            page.cursor,
            question.hints,
            page.notes,
            page.scanned,
            self._engine.clock.monotonic_s() - began_s,
        )

    def similar(self, memory_id: str, filters: Filters, *, limit: int) -> SearchResult:
        """Records that share a record's most telling words; see `memstore.MemStore.similar`."""
        began_s = self._engine.clock.monotonic_s()
        _check_limit(limit)
        line = self._engine.reader.get_line(memory_id)
        if line is None:
            raise NotFoundError(f"there is no record {memory_id}")
        texts = texts_of(orjson.loads(line))
        nothing = self._asked(Question(None), filters)
        node: Node | None = self._answer(
            nothing,
            lambda plan: like(texts, self._analyzer, lambda terms: self._searcher.frequencies(plan, terms)),
        )
        if node is None:
            return SearchResult((), 0)
        asked = self._asked(Question(Group(must=(node,), must_not=(IdIs(memory_id),))), filters)
        page = self._answer(
            asked,
            lambda plan: self._searcher.page(
                plan, asked, sort="relevance", limit=limit, before=None, highlight=False, facets={}, now_us=0
            ),
        )
        seconds = self._engine.clock.monotonic_s() - began_s
        return SearchResult(page.hits, page.total, {}, None, (), page.notes, page.scanned, seconds)

    def aggregate(
        self,
        query: str,
        filters: Filters,
        *,
        now_us: int,
        by: Iterable[str],
        metrics: Iterable[str],
        interval: str | float | None,
    ) -> AggregateResult:
        """Groups and figures; see `memstore.MemStore.aggregate`."""
        began_s = self._engine.clock.monotonic_s()
        keys = self._shape.context_keys
        names = [by] if isinstance(by, str) else list(by)
        fields = {name: group_field(name, keys) for name in names}
        figures = [parse_metric(text, keys) for text in ([metrics] if isinstance(metrics, str) else metrics)]
        interval_us = None if interval is None else parse_interval(interval)

        def sums_of(question: Question) -> tuple[Aggregator, Scanned, tuple[str, ...], Question]:
            asked = self._asked(question, filters)

            def add_up(plan: Plan) -> tuple[Aggregator, Scanned, tuple[str, ...], Question]:
                aggregator = Aggregator(self._compiler, by=fields, metrics=figures, interval_us=interval_us)
                return aggregator, self._searcher.aggregate(plan, asked, aggregator), tuple(plan.told()), question

            return self._answer(asked, add_up)

        aggregator, scanned, notes, question = self._understood(query, now_us, sums_of)
        seconds = self._engine.clock.monotonic_s() - began_s
        return AggregateResult(aggregator.rows(), aggregator.total, question.hints, notes, scanned, seconds)

    def follow(self, query: str, filters: Filters, *, now_us: int, highlight: bool) -> Follower:
        """What is appended from now on and matches; see `memstore.MemStore.follow`."""
        if not isinstance(query, str):
            raise UsageError(f"a query is text, not {type(query).__name__}")
        question = self._question(query, now_us)
        asked, plain = self._asked(question, filters), self._asked(plain_question(query), filters)

        def match(lines: list[bytes]) -> list[SearchHit]:
            try:
                return self._matching(lines, asked, highlight=highlight)
            except QueryRefusedError as error:
                _log.info("a query was refused: %s", error)
                return self._matching(lines, plain, highlight=highlight)

        return Follower(self._engine, match, question.hints)

    def _matching(self, lines: list[bytes], asked: Asked, *, highlight: bool) -> list[SearchHit]:
        """The hits among stored lines, in the order of the lines."""
        found: dict[str, SearchHit] = {}
        for partition in chunks(lines, shape=self._shape, analyzer=self._analyzer, compiler=self._compiler):
            try:
                page = self._searcher.page(
                    Plan(lasting=[Source(partition, kind="tail")]),
                    asked,
                    sort="oldest",
                    limit=max(partition.records, 1),
                    before=None,
                    highlight=highlight,
                    facets={},
                    now_us=0,
                )
            except SourceFailedError as failed:
                raise failed.error from failed
            found.update((hit.record.memory_id, hit) for hit in page.hits)
        return [found[memory_id] for memory_id in map(_id_of, lines) if memory_id in found]

    def _understood(self, text: str, now_us: int, ask: Callable[[Question], T]) -> T:
        """Ask what a text says; its words, where the index refuses to look for that."""
        try:
            return ask(self._question(text, now_us))
        except QueryRefusedError as error:
            _log.info("a query was refused: %s", error)
            return ask(plain_question(text))

    def _question(self, text: str, now_us: int) -> Question:
        question = parse_question(text, now_us=now_us, context_keys=self._shape.context_keys)
        return Question(None, question.hints) if isinstance(question.node, Everything) else question

    def _asked(self, question: Question, filters: Filters) -> Asked:
        record = filters.record
        texts = (*(filters.agents or ()), *(record.tags_any or ()), *(record.tags_all or ()))
        for text in (*texts, *dict(record.context).values()):
            if isinstance(text, str) and not text.isprintable() and _has_lone_surrogate(text):
                raise UsageError(f"{text!r} holds a lone surrogate and is no valid text")
        fields = []
        by_key = {key: field for field, key in CONTEXT_FIELDS.items()}
        for key, value in filters.record.context:
            if key in by_key:
                text = identifier(value)
                if text is None:
                    raise UsageError(f"context {key!r} is searched by text or a whole number, not {value!r}")
                fields.append((by_key[key], text))
            elif key in self._shape.context_keys:
                fields.append((context_column(key), value))
            else:
                raise UsageError(f"context {key!r} is not indexed; name it in search.context_keys, or use range()")
        return Asked(question, filters, tuple(fields))

    def _answer(self, asked: Asked, ask: Callable[[Plan], T]) -> T:
        """Ask what there is; a part of the index that fails is left out, and asked for again."""
        for _ in range(_ATTEMPTS_MAX):
            standing = self._ready(asked.filters)
            try:
                plan = self._sources.plan(standing, asked.filters)
                self._condemn_damaged()
                answer = ask(plan)
            except StandingChangedError as changed:
                _log.debug("%s", changed)
                continue
            except SourceFailedError as failed:
                _log.error("%s", failed)
                self._sources.partitions.give_up(failed.partition)
                self._condemn_damaged()
                continue
            self._look_after(standing, plan)
            return answer
        raise IndexFailedError(
            f"{self._engine.paths.search}: the search index failed again and again; `memstore index rebuild` builds it"
        )

    # -- the index

    def _ready(self, wanted: Filters) -> Standing:
        """The index, brought up to date first where scanning would take longer."""
        standing = self._sources.standings.now()
        if self._engine.read_only:
            return standing
        watermark: Mapping[str, int] = {} if standing.content is None else standing.content.lanes
        behind = standing.ready and behind_bytes(standing.lanes, watermark) > TAIL_BYTES_MAX
        unsound = not standing.ready or bool(standing.stale)
        if not behind and not (unsound and self._sources.estimate(standing, wanted) > SCAN_RECORDS_MAX):
            return standing
        try:
            self._indexer.run()
        except MemstoreError as error:
            _log.warning("the search index could not be brought up to date, so the store is scanned: %s", error)
        return self._sources.standings.now()

    def _look_after(self, standing: Standing, plan: Plan) -> None:
        """Index in the background what a search had to do without."""
        if not self._background:
            return
        watermark: Mapping[str, int] = {} if standing.content is None else standing.content.lanes
        behind = sum(max(lane.end - watermark.get(lane.token, 0), 0) for lane in standing.lanes)
        if not standing.ready or standing.stale or plan.stale or standing.doubts or behind > BEHIND_BYTES:
            self.start_indexing()

    def start_indexing(self) -> None:
        """Bring the index up to date in the background, unless that is under way."""
        with self._lock:
            if self._closing.is_set() or (self._thread is not None and self._thread.is_alive()):
                return
            self._thread = threading.Thread(target=self._index_quietly, name="memstore-indexer", daemon=True)
            self._thread.start()

    def _index_quietly(self) -> None:
        try:
            self._indexer.run(stop=self._closing.is_set)
        except MemstoreError as error:
            _log.warning("the search index is behind, and searches scan: %s", error)
        except Exception:  # noqa: BLE001 - logged; a thread of ours must not die in silence
            _log.exception("the indexer failed; searches scan")

    def index(
        self,
        *,
        stop: Callable[[], bool] | None = None,
        progress: Progress | None = None,
        rebuild: Iterable[str] | None = None,
    ) -> IndexReport | None:
        """Bring the index up to date now; None where another process is at it."""
        self._engine.check_writable()
        clear_dead_followers(self._engine)
        while True:
            own = self._join_own(stop)
            report = self._indexer.run(stop=stop, progress=progress, rebuild=rebuild)
            if report is not None or own is self._thread or (stop is not None and stop()):
                return report

    def _join_own(self, stop: Callable[[], bool] | None) -> threading.Thread | None:
        """Wait for what we do in the background, which is no other process's work; what that was."""
        with self._lock:
            own = self._thread
        while own is not None and own.is_alive() and not (stop is not None and stop()):
            own.join(_JOIN_S)
        return own

    def catch_up(self) -> None:
        """What a process that writes does for an index that somebody uses: nothing, where nobody does."""
        if self._background and self._engine.consumers.identify(CONSUMER) is not None:
            self.start_indexing()

    def status(self) -> dict[str, Any]:
        """What there is; see `memstore.MemStore.index_status`."""
        standing = self._sources.standings.now()
        content = standing.content
        if content is None:
            return {
                "ready": False,
                "partitions": [],
                "stale": [],
                "behind_bytes": None,
                "in_doubt": False,
                "lacks": 0,
            }
        storage, root = self._engine.storage, self._engine.paths.search
        partitions = []
        for month, entry in sorted(standing.state.partitions.items()):
            directory = os.path.join(root, entry.directory)
            size = sum(
                identity.size_bytes
                for name in entry.files
                if (identity := storage.identify(os.path.join(directory, name))) is not None
            )
            partitions.append({"month": month, "records": entry.records, "bytes": size, "lacks": entry.lacks})
        return {
            "ready": True,
            "language": self._shape.language,
            "context_keys": list(self._shape.context_keys),
            "partitions": partitions,
            "records": sum(each["records"] for each in partitions),
            "bytes": sum(each["bytes"] for each in partitions),
            "stale": sorted(standing.stale),
            "behind_bytes": sum(max(lane.end - content.lanes.get(lane.token, 0), 0) for lane in standing.lanes),
            "in_doubt": bool(standing.doubts),
            "lacks": sum(entry.lacks for entry in standing.state.partitions.values()) + standing.state.unlisted,
        }

    def _condemn_damaged(self) -> None:
        """Note durably which months have to be built anew."""
        damaged = self._sources.partitions.take_damaged()
        if not damaged or self._engine.read_only:
            return

        def change(content: ConsumerFile) -> ConsumerFile:
            state = state_of(content)
            if damaged <= stale_months(content, state):
                return content
            return with_state(content, msgspec.structs.replace(state, stale=sorted(damaged.union(state.stale))))

        try:
            self._engine.consumers.update(CONSUMER, change)
        except (KeyError, CorruptionError, msgspec.ValidationError) as error:
            _log.info("the state of the search index has gone: %s", error)

    def close(self) -> None:
        """Stop what goes on in the background. Idempotent."""
        with self._lock:
            self._closing.set()
            thread = self._thread
        if thread is not None and thread.is_alive():  # a start that Ctrl-C interrupted leaves one that never began
            thread.join()
        self._sources.clear()

    def _after_fork_in_child(self) -> None:
        self._reset()
        self._sources.forget_after_fork()


def _has_lone_surrogate(text: str) -> bool:
    """Whether it is such text as the index cannot take."""
    return any("\ud800" <= char <= "\udfff" for char in text)


def _id_of(line: bytes) -> str:
    """The memory id of a stored line; nothing where it is no record (which is logged where it is left out)."""
    try:
        return str(orjson.loads(line)["memory_id"])
    except (ValueError, KeyError, TypeError):
        return ""


def _check_limit(limit: object) -> None:
    if isinstance(limit, bool) or not isinstance(limit, int) or not 1 <= limit <= LIMIT_MAX:
        raise UsageError(f"limit is a number from 1 to {LIMIT_MAX}, not {limit!r}")


def _reset_in_child() -> None:
    for search in list(_all):
        search._after_fork_in_child()  # noqa: SLF001 - its own module


os.register_at_fork(after_in_child=_reset_in_child)
