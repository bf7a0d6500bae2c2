"""Appending, as both faces do it: fields to drafts to a batch, and the wait for its commit."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from typing import Any

from memstore.draft import Draft
from memstore.engine.appender import ImportOutcome, RecordLike, record_list
from memstore.engine.batch import Batch, ThreadTicket, Ticket
from memstore.engine.engine import Engine
from memstore.errors import InvalidRecordError
from memstore.fs.lock import locked
from memstore.record import MemoryRecord

IMPORT_WAIT_S = 600.0
"""How long one import waits for another one's batch."""


def record_fields(
    agent_id: str,
    *,
    input: Any = None,  # noqa: A002 - the record's own field name
    response: Any = None,
    content: Any = None,
    memory_type: str | None = None,
    importance: str | None = None,
    tags: Iterable[str] | None = None,
    context: Mapping[str, Any] | None = None,
    session: str | None = None,
    parent: str | None = None,
    related: Iterable[str] | None = None,
    metadata: Mapping[str, Any] | None = None,
    timestamp: Any = None,
    timestamp_local: str | None = None,
    source_id: str | None = None,
) -> dict[str, Any]:
    """The arguments of ``append`` as a plain record.

    Raises:
        InvalidRecordError: ``session`` contradicts ``context["session_id"]``, or tags are one text instead of several.
    """
    fields: dict[str, Any] = {
        "agent_id": agent_id,
        "memory_type": memory_type,
        "importance": importance,
        "input": input,
        "response": response,
        "content": content,
        "timestamp_utc": timestamp,
        "timestamp_local": timestamp_local,
        "source_id": source_id,
        "metadata": metadata,
        "context": context,
    }
    if tags is not None:
        fields["tags"] = tags if isinstance(tags, (str, list, tuple)) else list(tags)
    if session is not None:
        known = (context or {}).get("session_id", session)
        if known != session:
            raise InvalidRecordError(f"session {session!r} contradicts context['session_id'] {known!r}")
        fields["context"] = {**(context or {}), "session_id": session}
    if parent is not None or related is not None:
        fields["relationships"] = {
            "parent_memory_id": parent,
            "related_memories": None if related is None else list(related),
        }
    return fields


def append_one(engine: Engine, fields: Mapping[str, Any]) -> str:
    """Append one record; its id, once it is durable."""
    engine.check_writable()
    draft = engine.appender.draft(fields)
    if draft.source_id is not None:
        return append_drafts(engine, [draft]).ids[0]
    ticket = ThreadTicket()
    batch, memory_id = engine.appender.batch_one(draft, ticket)
    engine.submit(batch, wait_for_room=True)
    ticket.wait()
    return memory_id


def append_batch(engine: Engine, records: Iterable[RecordLike]) -> ImportOutcome:
    """Append records as one batch, durable when this returns."""
    engine.check_writable()
    return append_drafts(engine, engine.appender.draft_many(records))


def append_drafts(engine: Engine, drafts: list[Draft]) -> ImportOutcome:
    """Append validated records as one batch, durable when this returns."""
    return start_append(engine, drafts).wait()


class StartedAppend:
    """A batch that is on its way to the disk. Used by one thread.

    ``wait`` must be called: until then the import lock is held, if the batch needed it.

    Attributes:
        outcome: what will have become of its records.
    """

    def __init__(self, outcome: ImportOutcome, ticket: ThreadTicket | None, held: ExitStack) -> None:
        self.outcome = outcome
        self._ticket = ticket
        self._held = held

    def wait(self) -> ImportOutcome:
        """Return when it is durable; raise what befell it. Once more does nothing."""
        ticket, self._ticket = self._ticket, None
        with self._held:
            if ticket is not None:
                ticket.wait()
        return self.outcome


def start_append(engine: Engine, drafts: list[Draft]) -> StartedAppend:
    """Begin to append validated records as one batch.

    Those from elsewhere are looked for and written under the import lock, which is held until the batch is waited for.
    """
    ticket = ThreadTicket()
    with ExitStack() as held:
        if any(draft.source_id is not None for draft in drafts):
            held.enter_context(locked(engine.storage, engine.paths.lock("import"), timeout_s=IMPORT_WAIT_S))
        batch, outcome = build_batch(engine, drafts, ticket)
        if batch.records:
            engine.submit(batch, wait_for_room=True)
        return StartedAppend(outcome, ticket if batch.records else None, held.pop_all())


def build_batch(engine: Engine, drafts: list[Draft], ticket: Ticket) -> tuple[Batch, ImportOutcome]:
    """The batch of these drafts, not submitted yet."""
    return engine.appender.batch_many(drafts, ticket)


def check_import(records: Sequence[RecordLike]) -> None:
    """See that every record of an import can be recognised a second time.

    Raises:
        InvalidRecordError: one has no ``source_id``.
    """
    for index, record in enumerate(records):
        if isinstance(record, (MemoryRecord, Draft)):
            source_id = record.source_id
        elif isinstance(record, Mapping):
            source_id = record.get("source_id")
        else:
            raise InvalidRecordError(f"a record is a MemoryRecord or a dict, not {type(record).__name__}", index=index)
        if source_id is None:
            raise InvalidRecordError("a record that is imported needs its source_id", index=index)


def own_records(
    agent_id: str, records: Iterable[MemoryRecord | Mapping[str, Any]]
) -> list[MemoryRecord | Mapping[str, Any]]:
    """Records for one agent: those without an ``agent_id`` get it.

    Raises:
        InvalidRecordError: one belongs to another agent.
    """
    own: list[MemoryRecord | Mapping[str, Any]] = []
    for index, record in enumerate(record_list(records)):
        if isinstance(record, MemoryRecord):
            given = record.agent_id
            fields: Mapping[str, Any] = {
                n: getattr(record, n) for n in record.__struct_fields__ if getattr(record, n) != ""
            }
        elif isinstance(record, Mapping):
            given = record.get("agent_id", "")
            fields = record
        else:
            raise InvalidRecordError(f"a record is a MemoryRecord or a dict, not {type(record).__name__}", index=index)
        if given not in ("", agent_id):
            raise InvalidRecordError(
                f"it belongs to agent {given!r}; this handle writes for {agent_id!r} only", index=index
            )
        own.append(record if given else {**fields, "agent_id": agent_id})
    return own
