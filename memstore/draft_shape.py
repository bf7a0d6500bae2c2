"""The shape of a record that may be encoded as it is given, checked by msgspec in C.

Most records come as plain dicts that are right already. Checking one against this shape takes 0.5 µs where looking at
it field by field takes 5; what does not fit goes to `memstore.draft`, which knows how to bring it into shape, or what
to say against it.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec

LABEL_CHARS_MAX = 4096
"""Characters of ``source_id``, ``shard_id`` and ``timestamp_local``: generous for a path, bounded for a line."""
Label = Annotated[str, msgspec.Meta(min_length=1, max_length=LABEL_CHARS_MAX)]
_TypeName = Literal[
    "INTERACTION", "CONTEXT", "LEARNING", "SYSTEM_STATE", "PERFORMANCE", "ERROR", "GOAL", "BELIEF", "PLAN"
]
_ImportanceName = Literal["CRITICAL", "HIGH", "MEDIUM", "LOW"]


class _Input(msgspec.Struct, kw_only=True, forbid_unknown_fields=True, gc=False):
    content: Any = None
    source: str = ""
    context_id: str = ""


class _Response(msgspec.Struct, kw_only=True, forbid_unknown_fields=True, gc=False):
    content: Any = None
    success: bool = False
    confidence: float = 0.0
    processing_time_ms: float = 0.0


class _Relationships(msgspec.Struct, kw_only=True, forbid_unknown_fields=True, gc=False):
    parent_memory_id: str = ""
    related_memories: list[str] = []


class StoredShape(msgspec.Struct, kw_only=True, forbid_unknown_fields=True, gc=False):
    """A dict that fits has no field that is unknown, None or of the wrong type, and no id of its own.

    Attributes are what the caller gave, or their defaults; ``metadata`` holds anything and is looked at by itself.
    """

    agent_id: str
    timestamp_utc: Any = None
    source_id: Label = ""
    timestamp_local: Label = ""
    shard_id: Label = ""
    memory_type: _TypeName | None = None
    importance: _ImportanceName | None = None
    input: _Input | str | None = None
    response: _Response | str | None = None
    content: Any = None
    context: dict[str, Any] = {}
    tags: list[str] = []
    relationships: _Relationships | None = None
    metadata: dict[str, Any] = {}


def stored_shape(fields: dict[str, Any]) -> StoredShape | None:
    """The record, if it may be encoded as it is; None where it must be looked at field by field."""
    try:
        return msgspec.convert(fields, StoredShape)
    except msgspec.ValidationError:
        return None
