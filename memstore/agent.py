"""AgentMemory: one agent's view of a store; it reaches no other agent's records."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypedDict, Unpack

from memstore.engine.engine import Engine
from memstore.engine.record_reader import OnDamage
from memstore.errors import NotFoundError
from memstore.filters import EVERYTHING, Filters, RecordFilter, build_filter, check_names
from memstore.finder import Finder, OwnSearchFilters
from memstore.ids import check_agent_id, parse_id
from memstore.lifecycle.forget import ForgetReport, Forgetter
from memstore.record import MemoryRecord, decode_record
from memstore.search.follow import Follower
from memstore.search.result import AggregateResult, SearchResult, Sort
from memstore.writing import append_batch, append_one, own_records, record_fields


class AppendFields(TypedDict, total=False):
    """What one record holds; all of it optional.

    Attributes:
        input: what was asked: text, or ``{content, source, context_id}``.
        response: what was answered: text, or ``{content, success, confidence, processing_time_ms}``.
        content: free JSON.
        memory_type: one of `memstore.MemoryType`; INTERACTION unless given.
        importance: one of `memstore.Importance`; MEDIUM unless given.
        tags: short labels.
        context: free JSON by key.
        session: shorthand for ``context["session_id"]``.
        parent: memory id of the record this one follows from.
        related: memory ids.
        metadata: about the record; ``retention_days`` is a number.
        timestamp: when it happened: a datetime, ISO 8601 text or an age; now unless given.
        timestamp_local: the agent's own local time, kept as text.
        source_id: the id it had elsewhere: the record is then stored once, however often it is appended.
    """

    input: Any
    response: Any
    content: Any
    memory_type: str | None
    importance: str | None
    tags: Iterable[str] | None
    context: Mapping[str, Any] | None
    session: str | None
    parent: str | None
    related: Iterable[str] | None
    metadata: Mapping[str, Any] | None
    timestamp: Any
    timestamp_local: str | None
    source_id: str | None


class AgentMemory:
    """Made by ``MemStore.agent``; cheap, thread-safe, valid until its store is closed.

    Attributes:
        agent_id: whose records it reaches.
    """

    __slots__ = ("_engine", "_finder", "_forgetter", "agent_id")

    def __init__(self, engine: Engine, agent_id: str, forgetter: Forgetter, finder: Finder) -> None:
        self._engine = engine
        self._forgetter = forgetter
        self._finder = finder
        self.agent_id = check_agent_id(agent_id)

    def append(self, **fields: Unpack[AppendFields]) -> str:
        """Remember one thing; see `AppendFields`.

        Returns:
            Its memory id, once the record is durable.

        Raises:
            InvalidRecordError: a field is refused; nothing was written.
            StorageFullError: no space; nothing was written.
            WriterBrokenError: a sync failed; whether it was written is unknown.
            ReadOnlyError, StoreClosedError: the store does not take appends.
        """
        return append_one(self._engine, record_fields(self.agent_id, fields))

    def append_many(self, records: Iterable[MemoryRecord | Mapping[str, Any]]) -> list[str]:
        """Remember several things as one batch: all of them are stored, or none.

        Args:
            records: `MemoryRecord` or plain dicts, without ``agent_id`` or with this agent's.

        Returns:
            Their memory ids in order, once the batch is durable.

        Raises:
            InvalidRecordError: says which record is refused; nothing was written.
            UsageError: the batch is over ``batch_bytes_max``.
        """
        return append_batch(self._engine, own_records(self.agent_id, records)).ids

    def get(self, memory_id: str) -> MemoryRecord | None:
        """One record by its id; None where there is none or it is another agent's.

        Raises:
            UsageError: no id of this form.
            CorruptionError: the part of a file that would hold it is damaged.
        """
        self._engine.check_open()
        if parse_id(memory_id).agent_id != self.agent_id:
            return None
        line = self._engine.reader.get_line(memory_id)
        return None if line is None else decode_record(line)

    def recent(
        self, limit: int = 20, *, on_damage: OnDamage = "raise", **filters: Unpack[Filters]
    ) -> list[MemoryRecord]:
        """The newest records that match, newest first; see `Filters`.

        Args:
            limit: at most so many.
            on_damage: ``raise`` a `CorruptionError`, or ``skip`` what is damaged and log it.
            filters: which records.
        """
        return self._engine.reader.recent(self.agent_id, limit, self._filter(filters), on_damage=on_damage)

    def range(
        self, *, newest_first: bool = False, on_damage: OnDamage = "raise", **filters: Unpack[Filters]
    ) -> Iterator[MemoryRecord]:
        """Records that match, streamed in time order, oldest first unless asked otherwise; see `Filters`.

        Holds no more than a bounded window in memory, and follows files that are moved meanwhile.
        """
        found = self._engine.reader.lines(
            self.agent_id, self._filter(filters), newest_first=newest_first, on_damage=on_damage, is_use=True
        )
        return (record or decode_record(line) for line, record in found)

    def lines(
        self, *, newest_first: bool = False, on_damage: OnDamage = "raise", **filters: Unpack[Filters]
    ) -> Iterator[bytes]:
        """Like `range`, but the stored JSON lines, byte for byte, without line breaks."""
        found = self._engine.reader.lines(
            self.agent_id, self._filter(filters), newest_first=newest_first, on_damage=on_damage
        )
        return (line for line, _ in found)

    def count(self, *, on_damage: OnDamage = "raise", **filters: Unpack[Filters]) -> int:
        """How many records match; see `Filters`. Without filters but times, nothing is read but the index."""
        return self._engine.reader.count(self.agent_id, self._filter(filters), on_damage=on_damage)

    def search(
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
        """Find records of this agent by what is in them; see `MemStore.search`."""
        return self._finder.search(
            query,
            filters,
            own=self.agent_id,
            sort=sort,
            limit=limit,
            cursor=cursor,
            highlight=highlight,
            facets=facets,
        )

    def aggregate(
        self,
        query: str = "",
        *,
        by: str | Iterable[str] = (),
        metrics: str | Iterable[str] = (),
        interval: str | float | None = None,
        **filters: Unpack[OwnSearchFilters],
    ) -> AggregateResult:
        """Count this agent's records, and sum up their numbers, in groups; see `MemStore.aggregate`."""
        return self._finder.aggregate(query, filters, own=self.agent_id, by=by, metrics=metrics, interval=interval)

    def similar(self, memory_id: str, *, limit: int = 10, **filters: Unpack[OwnSearchFilters]) -> SearchResult:
        """Records of this agent that share the most telling words of one of them; see `MemStore.similar`.

        Raises:
            NotFoundError: this agent has no such record.
        """
        if parse_id(memory_id).agent_id != self.agent_id:
            raise NotFoundError(f"agent {self.agent_id!r} has no record {memory_id}")
        return self._finder.similar(memory_id, filters, own=self.agent_id, limit=limit)

    def follow(self, query: str = "", *, highlight: bool = True, **filters: Unpack[OwnSearchFilters]) -> Follower:
        """What is appended to this agent's memory from now on and matches; see `MemStore.follow`."""
        return self._finder.follow(query, filters, own=self.agent_id, highlight=highlight)

    def forget(self, memory_ids: str | Iterable[str]) -> ForgetReport:
        """Hide records of this agent at once, and for good when their file is next rewritten; see `MemStore.forget`.

        Ids of other agents are unknown here.

        Raises:
            UsageError: one is no id of this form.
            HeldError: a legal hold covers one of them; nothing was hidden.
        """
        self._engine.check_writable()
        listed = [memory_ids] if isinstance(memory_ids, str) else list(memory_ids)
        own = [memory_id for memory_id in listed if parse_id(memory_id).agent_id == self.agent_id]
        report = self._forgetter.forget(own)
        foreign = [memory_id for memory_id in listed if parse_id(memory_id).agent_id != self.agent_id]
        return ForgetReport(report.hidden, [*report.unknown, *foreign])

    def stats(self) -> dict[str, Any]:
        """``agent, records, bytes, first, last, by_type, by_importance``; reads all of the agent's records once."""
        self._engine.check_open()
        return self._engine.reader.agent_stats(self.agent_id)

    def _filter(self, filters: Filters) -> RecordFilter:
        self._engine.check_open()
        if not filters:
            return EVERYTHING
        check_names(filters, Filters.__annotations__)
        return build_filter(now_us=self._engine.clock.now_us(), **filters)
