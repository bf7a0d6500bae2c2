"""One memory: the platform's record format, version 2.0, as a frozen struct.

A record lives on disk as one JSON line, ``memory_id`` first, fields at their default left out (``memory_type`` and
``importance`` always written, so that ``jq`` and SQL can filter on them). Lines are moved as bytes, so fields that
this version does not know survive; only decoding to a struct drops them.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from typing import Any

import msgspec

from memstore.errors import StorageError


class MemoryType(enum.StrEnum):
    """What kind of memory a record is."""

    INTERACTION = "INTERACTION"
    CONTEXT = "CONTEXT"
    LEARNING = "LEARNING"
    SYSTEM_STATE = "SYSTEM_STATE"
    PERFORMANCE = "PERFORMANCE"
    ERROR = "ERROR"
    GOAL = "GOAL"
    BELIEF = "BELIEF"
    PLAN = "PLAN"


class Importance(enum.StrEnum):
    """How much a record matters; ``rank`` orders them, CRITICAL highest."""

    CRITICAL = "CRITICAL"
    HIGH = "HIGH"
    MEDIUM = "MEDIUM"
    LOW = "LOW"

    @property
    def rank(self) -> int:
        """LOW 1, MEDIUM 2, HIGH 3, CRITICAL 4."""
        return _RANKS[self]


_RANKS = {Importance.LOW: 1, Importance.MEDIUM: 2, Importance.HIGH: 3, Importance.CRITICAL: 4}


class InputPart(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """What the agent was asked."""

    content: Any = None
    source: str | None = None
    context_id: str | None = None


class ResponsePart(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """What the agent answered."""

    content: Any = None
    success: bool | None = None
    confidence: float | None = None
    processing_time_ms: float | None = None


class Relationships(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """Ids of other records."""

    parent_memory_id: str | None = None
    related_memories: list[str] = []


def _interaction() -> MemoryType:
    return MemoryType.INTERACTION


def _medium() -> Importance:
    return Importance.MEDIUM


class MemoryRecord(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """One memory.

    To append one, give ``agent_id`` and what it holds; the store stamps ``memory_id`` and, unless given,
    ``timestamp_utc``.

    Attributes:
        memory_id: given by the store: routes itself, sorts by time.
        timestamp_utc: ISO 8601 with microseconds and ``Z``; agrees with the id.
        timestamp_local: the agent's own local time, as it was given.
        agent_id: who it belongs to: up to 200 bytes of UTF-8.
        shard_id: as it was given; where a record lives is the ring's to say.
        source_id: the id it had where it came from, for records that were imported.
        memory_type: one of `MemoryType`.
        importance: one of `Importance`.
        input: what was asked.
        response: what was answered.
        content: free JSON, for everything that is no question-and-answer.
        context: free JSON by key; ``session_id``, ``user_id``, ``task_id`` and ``model`` are the usual ones.
        tags: short labels.
        relationships: parent and related records.
        metadata: ``memory_version``, ``retention_days`` and what else describes the record.
    """

    memory_id: str = ""
    timestamp_utc: str = ""
    timestamp_local: str | None = None
    agent_id: str = ""
    shard_id: str | None = None
    source_id: str | None = None
    # A factory, because omit_defaults leaves plain defaults out of the line and keeps these in.
    memory_type: MemoryType = msgspec.field(default_factory=_interaction)
    importance: Importance = msgspec.field(default_factory=_medium)
    input: InputPart | None = None
    response: ResponsePart | None = None
    content: Any = None
    context: dict[str, Any] = {}
    tags: list[str] = []
    relationships: Relationships | None = None
    metadata: dict[str, Any] = {}


_decoder = msgspec.json.Decoder(MemoryRecord)


def decode_records(lines: Iterable[bytes]) -> list[MemoryRecord]:
    """The records of many stored lines; see `decode_record`."""
    listed = list(lines)
    try:
        return list(map(_decoder.decode, listed))
    except msgspec.DecodeError:
        return [decode_record(line) for line in listed]  # says which


def decode_record(line: bytes) -> MemoryRecord:
    """The record of one stored line.

    Raises:
        StorageError: the line verifies but is no record of this version (written by hand or by a newer memstore).
    """
    try:
        return _decoder.decode(line)
    except msgspec.DecodeError as error:
        raise StorageError(f"a stored line is no record of format 2.0 ({error}): {line[:120]!r}") from error
