"""AsyncMemStore: the same, awaitable.

An append is encoded in the event loop (microseconds) and awaits the future of its commit, holding no thread; reads
run in a small pool of threads.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack

from memstore.agent import AgentMemory, AppendFields
from memstore.aio_caretaking import AsyncCaretaking
from memstore.aio_finding import FOLLOW_EVERY_S, AsyncFinding, followed
from memstore.aio_replicating import AsyncReplicating
from memstore.clock import Clock
from memstore.engine.appender import ImportOutcome, record_list
from memstore.engine.batch import LoopTicket
from memstore.engine.engine import Engine
from memstore.engine.maintenance import DrainReport
from memstore.engine.record_reader import OnDamage
from memstore.filters import Filters
from memstore.finder import OwnSearchFilters
from memstore.lifecycle.forget import ForgetReport
from memstore.record import MemoryRecord
from memstore.search.result import AggregateResult, SearchHit, SearchResult, Sort, with_passages
from memstore.store import Durability, MemStore, SettingsArgument
from memstore.writing import append_drafts, build_batch, check_import, own_records, record_fields

T = TypeVar("T")
_READ_THREADS_MAX = 16
"""Reads are short and share the GIL; more threads only wait for each other."""
_RANGE_BATCH = 256
_INLINE_RECORDS_MAX = 64
"""A longer batch is encoded in a thread, so that the loop is not held for more than a millisecond or so."""


class AsyncMemStore(AsyncCaretaking, AsyncFinding, AsyncReplicating):
    """`MemStore` with awaitable methods, for one event loop at a time. See `MemStore` for arguments and errors."""

    def __init__(
        self,
        root: str | os.PathLike[str],
        *,
        settings: SettingsArgument | None = None,
        durability: Durability | None = None,
        read_only: bool = False,
        create: bool = True,
        maintain: bool = False,
        analytics: Callable[[MemStore], object] | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._store = MemStore(
            root,
            settings=settings,
            durability=durability,
            read_only=read_only,
            create=create,
            maintain=maintain,
            analytics=analytics,
            clock=clock,
        )
        self._engine: Engine = self._store._engine  # noqa: SLF001 - the two faces share one engine
        threads = min(self._store.settings.performance.max_concurrent_operations, _READ_THREADS_MAX)
        self._pool = ThreadPoolExecutor(max_workers=threads, thread_name_prefix="memstore-read")

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    @property
    def root(self) -> str:
        """The store's directory, absolute."""
        return self._store.root

    def agent(self, agent_id: str) -> AsyncAgentMemory:
        """The view of one agent."""
        return AsyncAgentMemory(self, self._store.agent(agent_id))

    async def append(self, *, agent_id: str, **fields: Unpack[AppendFields]) -> str:
        """See `MemStore.append`."""
        return await self._append_one(record_fields(agent_id, fields))

    async def append_many(self, records: Iterable[MemoryRecord | Mapping[str, Any]]) -> list[str]:
        """See `MemStore.append_many`."""
        return (await self._append_batch(record_list(records))).ids

    async def import_many(self, records: Iterable[MemoryRecord | Mapping[str, Any]]) -> ImportOutcome:
        """See `MemStore.import_many`."""
        listed = record_list(records)
        check_import(listed)
        return await self._append_batch(listed)

    async def get(self, memory_id: str) -> MemoryRecord | None:
        """See `MemStore.get`."""
        return await self._call(self._store.get, memory_id)

    async def get_many(self, memory_ids: Iterable[str]) -> list[MemoryRecord | None]:
        """See `MemStore.get_many`."""
        return await self._call(self._store.get_many, list(memory_ids))

    async def agents(self) -> list[str]:
        """See `MemStore.agents`."""
        return await self._call(self._store.agents)

    async def stats(self) -> dict[str, Any]:
        """See `MemStore.stats`."""
        return await self._call(self._store.stats)

    async def shards(self) -> list[dict[str, Any]]:
        """See `MemStore.shards`."""
        return await self._call(self._store.shards)

    async def drain(self, timeout_s: float = 30.0) -> DrainReport:
        """See `MemStore.drain`."""
        return await self._call(self._store.drain, timeout_s)

    async def add_shard(self, volume: str | None = None) -> dict[str, Any]:
        """See `MemStore.add_shard`."""
        return await self._call(self._store.add_shard, volume)

    async def pin(self, agent_id: str, shard: str | None) -> dict[str, Any]:
        """See `MemStore.pin`."""
        return await self._call(self._store.pin, agent_id, shard)

    async def close(self) -> None:
        """See `MemStore.close`."""
        await asyncio.get_running_loop().run_in_executor(None, self._store.close)
        self._pool.shutdown(wait=False)

    async def _call(self, function: Callable[..., T], *arguments: Any) -> T:
        self._engine.check_open()
        return await asyncio.get_running_loop().run_in_executor(self._pool, function, *arguments)

    async def _append_one(self, fields: Mapping[str, Any]) -> str:
        engine = self._engine
        engine.check_writable()
        draft = engine.appender.draft(fields)
        if draft.source_id is not None:
            return (await self._call(append_drafts, engine, [draft])).ids[0]
        ticket = LoopTicket(asyncio.get_running_loop())
        batch, memory_id = engine.appender.batch_one(draft, ticket)
        await self._wait_for_room()
        engine.submit(batch, wait_for_room=False)
        await ticket.future
        return memory_id

    async def _append_batch(self, records: list[MemoryRecord | Mapping[str, Any]]) -> ImportOutcome:
        engine = self._engine
        engine.check_writable()
        inline = len(records) <= _INLINE_RECORDS_MAX
        drafts = (
            engine.appender.draft_many(records) if inline else await self._call(engine.appender.draft_many, records)
        )
        if any(draft.source_id is not None for draft in drafts):
            return await self._call(append_drafts, engine, drafts)
        ticket = LoopTicket(asyncio.get_running_loop())
        batch, outcome = (
            build_batch(engine, drafts, ticket) if inline else await self._call(build_batch, engine, drafts, ticket)
        )
        if batch.records:
            await self._wait_for_room()
            engine.submit(batch, wait_for_room=False)
            await ticket.future
        return outcome

    async def _wait_for_room(self) -> None:
        if self._engine.congested:
            await self._call(self._engine.wait_for_room)

    async def _stream(self, iterator: Iterator[T]) -> AsyncIterator[T]:
        while batch := await self._call(_take, iterator, _RANGE_BATCH):
            for item in batch:
                yield item


class AsyncAgentMemory:
    """`AgentMemory` with awaitable methods. See there for arguments and errors."""

    __slots__ = ("_agent", "_store")

    def __init__(self, store: AsyncMemStore, agent: AgentMemory) -> None:
        self._store = store
        self._agent = agent

    @property
    def agent_id(self) -> str:
        """Whose records it reaches."""
        return self._agent.agent_id

    async def append(self, **fields: Unpack[AppendFields]) -> str:
        """See `AgentMemory.append`."""
        return await self._store._append_one(record_fields(self.agent_id, fields))  # noqa: SLF001 - made by its store

    async def append_many(self, records: Iterable[MemoryRecord | Mapping[str, Any]]) -> list[str]:
        """See `AgentMemory.append_many`."""
        return (await self._store._append_batch(own_records(self.agent_id, records))).ids  # noqa: SLF001 - made by its store

    async def get(self, memory_id: str) -> MemoryRecord | None:
        """See `AgentMemory.get`."""
        return await self._store._call(self._agent.get, memory_id)  # noqa: SLF001 - made by its store

    async def recent(
        self, limit: int = 20, *, on_damage: OnDamage = "raise", **filters: Unpack[Filters]
    ) -> list[MemoryRecord]:
        """See `AgentMemory.recent`."""
        return await self._store._call(lambda: self._agent.recent(limit, on_damage=on_damage, **filters))  # noqa: SLF001

    def range(
        self, *, newest_first: bool = False, on_damage: OnDamage = "raise", **filters: Unpack[Filters]
    ) -> AsyncIterator[MemoryRecord]:
        """See `AgentMemory.range`; an asynchronous iterator."""
        found = self._agent.range(newest_first=newest_first, on_damage=on_damage, **filters)
        return self._store._stream(found)  # noqa: SLF001 - made by its store

    def lines(
        self, *, newest_first: bool = False, on_damage: OnDamage = "raise", **filters: Unpack[Filters]
    ) -> AsyncIterator[bytes]:
        """See `AgentMemory.lines`; an asynchronous iterator."""
        found = self._agent.lines(newest_first=newest_first, on_damage=on_damage, **filters)
        return self._store._stream(found)  # noqa: SLF001 - made by its store

    async def count(self, *, on_damage: OnDamage = "raise", **filters: Unpack[Filters]) -> int:
        """See `AgentMemory.count`."""
        return await self._store._call(lambda: self._agent.count(on_damage=on_damage, **filters))  # noqa: SLF001

    async def search(
        self,
        query: str = "",
        *,
        sort: Sort = "relevance",
        limit: int = 10,
        cursor: str | None = None,
        highlight: bool = True,
        facets: str | Iterable[str] = (),
        **filters: Unpack[OwnSearchFilters],
    ) -> SearchResult:
        """See `AgentMemory.search`."""
        return await self._store._call(  # noqa: SLF001 - made by its store
            lambda: with_passages(
                self._agent.search(
                    query, sort=sort, limit=limit, cursor=cursor, highlight=highlight, facets=facets, **filters
                )
            )
        )

    async def aggregate(
        self,
        query: str = "",
        *,
        by: str | Iterable[str] = (),
        metrics: str | Iterable[str] = (),
        interval: str | float | None = None,
        **filters: Unpack[OwnSearchFilters],
    ) -> AggregateResult:
        """See `AgentMemory.aggregate`."""
        return await self._store._call(  # noqa: SLF001 - made by its store
            lambda: self._agent.aggregate(query, by=by, metrics=metrics, interval=interval, **filters)
        )

    async def similar(self, memory_id: str, *, limit: int = 10, **filters: Unpack[OwnSearchFilters]) -> SearchResult:
        """See `AgentMemory.similar`."""
        return await self._store._call(  # noqa: SLF001 - made by its store
            lambda: self._agent.similar(memory_id, limit=limit, **filters)
        )

    def follow(
        self,
        query: str = "",
        *,
        highlight: bool = True,
        every_s: float = FOLLOW_EVERY_S,
        **filters: Unpack[OwnSearchFilters],
    ) -> AsyncIterator[SearchHit]:
        """See `AgentMemory.follow`; an asynchronous iterator without end, which begins when it is first asked."""
        call = self._store._call  # noqa: SLF001 - made by its store
        return followed(call, lambda: self._agent.follow(query, highlight=highlight, **filters), every_s)

    async def forget(self, memory_ids: str | Iterable[str]) -> ForgetReport:
        """See `AgentMemory.forget`."""
        return await self._store._call(self._agent.forget, memory_ids)  # noqa: SLF001 - made by its store

    async def stats(self) -> dict[str, Any]:
        """See `AgentMemory.stats`."""
        return await self._store._call(self._agent.stats)  # noqa: SLF001 - made by its store


def _take(iterator: Iterator[T], count: int) -> list[T]:
    return list(islice(iterator, count))
