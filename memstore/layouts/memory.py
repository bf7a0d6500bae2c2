"""``memory`` and ``record`` objects to a record's fields: the usual form quickly, any other leniently. Pure."""

from __future__ import annotations

import datetime as dt
from typing import Any

from memstore.ids import derived_id
from memstore.layouts import fields as read
from memstore.layouts.common import agent_of, relationships_of, time_of, usual_time_us, with_extra
from memstore.layouts.rebuild import NOTES_KEY, usual_tail
from memstore.layouts.source import Hints, Source
from memstore.record import MemoryType

_MEMORY_KEYS = frozenset(
    (
        "agent_id",
        "content",
        "context",
        "importance",
        "memory_id",
        "memory_type",
        "parent_memory_id",
        "tags",
        "timestamp",
    )
)
_RECORD_KEYS = _MEMORY_KEYS | {
    "timestamp_utc",
    "timestamp_local",
    "shard_id",
    "source_id",
    "input",
    "response",
    "relationships",
    "metadata",
}
_LOWER_TYPES = {m.value.lower(): m.value for m in MemoryType}
_BEFORE_TAIL = frozenset(("/", ""))
_NUMBER_TYPES = (int, float)


def regular_memory(source: Source, hints: Hints) -> dict[str, Any] | None:
    """A ``memory`` object of the usual form, which its fields alone give back; None: it needs the long way.

    Nearly every file is of this form, and the long way costs three times as much.
    """
    path, value = source.path, source.value
    if source.raw is not None or value.keys() != _MEMORY_KEYS or hints.tz is not dt.UTC:
        return None
    stamp, tags, context, source_id = value["timestamp"], value["tags"], value["context"], value["memory_id"]
    kind, importance = value["memory_type"], value["importance"]
    if (
        (time := usual_time_us(stamp)) is None
        or type(kind) is not str
        or (memory_type := _LOWER_TYPES.get(kind)) is None
        or type(importance) is not int
        or (importance_name := read.IMPORTANCE_NAMES.get(importance)) is None
        or (agent := read.agent_or_none(value["agent_id"])) is None
        or type(source_id) is not str
        or not 0 < len(source_id) <= read.SOURCE_ID_CHARS_MAX
        or type(context) is not dict
        or read.text_list_or_none(tags) is None
        or value["parent_memory_id"] is not None
    ):
        return None
    fields: dict[str, Any] = {
        "agent_id": agent,
        "timestamp_utc": time,
        "memory_type": memory_type,
        "importance": importance_name,
        "source_id": source_id,
    }
    content = value["content"]
    if content is not None:
        fields["content"] = content
    if context:
        fields["context"] = context
    if tags:
        fields["tags"] = tags
    tail = usual_tail(agent, stamp, kind)
    if path.endswith(tail) and path[-len(tail) - 1 : -len(tail)] in _BEFORE_TAIL:
        notes = {"layout": "memory", "in": path[: -len(tail) - 1]}
    else:
        notes = {"layout": "memory", "path": path}
    fields["metadata"] = {NOTES_KEY: notes}
    return fields


def map_record(sources: tuple[Source, ...], hints: Hints, notes: dict[str, Any]) -> dict[str, Any]:
    """A ``memory`` or ``record`` object whose keys may be missing, of wrong types, or unknown."""
    source = sources[0]
    value = source.value
    get = value.get
    agent = agent_of(source, hints, get("agent_id"))
    fields: dict[str, Any] = {
        "agent_id": agent,
        "timestamp_utc": time_of(source, hints, get("timestamp_utc"), get("timestamp")),
        "memory_type": read.type_name(get("memory_type")) or _default_type(value),
        "importance": read.importance_name(get("importance")) or "MEDIUM",
    }
    fields["source_id"] = _source_id(source, fields)
    _copy_plain(value, fields)
    given = get("context")
    context = with_extra(given if isinstance(given, dict) else {}, value, value.keys() - _RECORD_KEYS, notes)
    if context:
        fields["context"] = context
    metadata = get("metadata")
    if isinstance(metadata, dict) and metadata and _fits_metadata(metadata):
        # A record exported from a store that had imported it: its notes lead to where it first came from.
        kept = metadata if not notes.get("layout") else {k: v for k, v in metadata.items() if k != NOTES_KEY}
        if kept:
            fields["metadata"] = kept
    relationships = relationships_of(value, agent, hints)
    if relationships:
        fields["relationships"] = relationships
    return fields


def _copy_plain(value: dict[str, Any], fields: dict[str, Any]) -> None:
    """Keys that become the field of the same name."""
    for name in ("timestamp_local", "shard_id"):
        text = value.get(name)
        if isinstance(text, str) and 0 < len(text) <= read.SOURCE_ID_CHARS_MAX:
            fields[name] = text
    for name in ("input", "response"):
        if value.get(name) is not None:
            fields[name] = read.part(value.get(name), name)
    if value.get("content") is not None:
        fields["content"] = value.get("content")
    tags = read.text_list_or_none(value.get("tags"))
    if tags:
        fields["tags"] = tags


def _default_type(value: dict[str, Any]) -> str:
    """What a record is that does not say so, or says what no type is called."""
    asks = value.get("input") is not None or value.get("response") is not None
    return "INTERACTION" if asks and value.get("memory_type") is None else "SYSTEM_STATE"


def _fits_metadata(metadata: dict[str, Any]) -> bool:
    days = metadata.get("retention_days")
    return days is None or (isinstance(days, _NUMBER_TYPES) and not isinstance(days, bool) and days >= 0)


def _source_id(source: Source, fields: dict[str, Any]) -> str:
    """The id it had; of one that memstore derived itself, the id it was derived from, so that it stays the same."""
    memory_id = read.source_id_or_none(source.value.get("memory_id"))
    source_id = read.source_id_or_none(source.value.get("source_id"))
    if memory_id is None:
        return source_id or source.path
    if source_id is not None and derived_id(fields["agent_id"], source_id, fields["timestamp_utc"]) == memory_id:
        return source_id
    return memory_id
