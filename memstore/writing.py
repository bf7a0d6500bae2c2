"""Appending, as both faces do it: fields to drafts to a batch, and the wait for its commit."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from memstore.draft import Draft
from memstore.engine.appender import ImportOutcome, RecordLike, record_list
from memstore.engine.batch import Batch, ThreadTicket, Ticket
from memstore.engine.engine import Engine
from memstore.errors import InvalidRecordError
from memstore.fs.lock import HeldLocks
from memstore.nearest import nearest_name
from memstore.record import MemoryRecord

_PLAIN_ARGUMENTS = frozenset(
    (
        "input",
        "response",
        "content",
        "memory_type",
        "importance",
        "context",
        "metadata",
        "timestamp_local",
        "source_id",
    )
)
_JOINED_ARGUMENTS = frozenset(("session", "parent", "related"))
IMPORT_WAIT_S = 600.0
"""How long one import waits for another one's batch."""


def record_fields(agent_id: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of ``append`` as a plain record; those that are None were not given.

    Raises:
        InvalidRecordError: an argument has no such name, or ``session`` contradicts ``context["session_id"]``.
    """
    fields: dict[str, Any] = {"agent_id": agent_id}
    for name, value in given.items():
        if value is None:
            continue
        if name in _PLAIN_ARGUMENTS:
            fields[name] = value
        elif name == "timestamp":
            fields["timestamp_utc"] = value
        elif name == "tags":
            # One text is refused later, by name, and not taken apart into letters here.
            fields["tags"] = value if isinstance(value, (str, list)) or not isinstance(value, Iterable) else list(value)
        elif name not in _JOINED_ARGUMENTS:
            near = nearest_name(name, (*_PLAIN_ARGUMENTS, *_JOINED_ARGUMENTS, "timestamp", "tags"))
            hint = f"; did you mean {near!r}?" if near else ""
            raise InvalidRecordError(f"append has no argument {name!r}{hint}")
    session = given.get("session")
    if session is not None:
        context = given.get("context") or {}
        if context.get("session_id", session) != session:
            raise InvalidRecordError(f"session {session!r} contradicts context['session_id'] {context['session_id']!r}")
        fields["context"] = {**context, "session_id": session}
    parent, related = given.get("parent"), given.get("related")
    if parent is not None or related is not None:
        fields["relationships"] = {
            **({} if parent is None else {"parent_memory_id": parent}),
            **({} if related is None else {"related_memories": list(related)}),
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

    def __init__(self, outcome: ImportOutcome, ticket: ThreadTicket | None, held: HeldLocks) -> None:
        self.outcome = outcome
        self._ticket = ticket
        self._held = held

    def wait(self) -> ImportOutcome:
        """Return when it is durable; raise what befell it. Once more does nothing."""
        ticket, self._ticket = self._ticket, None
        with self._held:
            if ticket is not None:
                try:
                    ticket.wait()
                except KeyboardInterrupt:
                    ticket.wait()  # let go of the import lock now, and somebody else would store the same once more
                    raise
        return self.outcome


def start_append(engine: Engine, drafts: list[Draft]) -> StartedAppend:
    """Begin to append validated records as one batch.

    Those from elsewhere are looked for and written under the import lock, which is held until the batch is waited for.
    """
    ticket = ThreadTicket()
    held = HeldLocks(engine.storage)
    try:
        if any(draft.source_id is not None for draft in drafts):
            held.take(engine.paths.lock("import"), timeout_s=IMPORT_WAIT_S)
        batch, outcome = build_batch(engine, drafts, ticket)
        if batch.records:
            engine.submit(batch, wait_for_room=True)
        return StartedAppend(outcome, ticket if batch.records else None, held)
    except BaseException:
        held.release()
        raise


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
