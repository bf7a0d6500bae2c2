"""``mem``, ``perf``, ``error`` and interaction files to a record's fields. Pure."""

from __future__ import annotations

import datetime as dt
from typing import Any

from memstore.layouts import fields as read
from memstore.layouts.common import agent_of, relationships_of, time_of, usual_time_us, with_extra
from memstore.layouts.rebuild import NOTES_KEY
from memstore.layouts.source import Hints, Source

_MEM_KEYS = frozenset(("data", "memory_type", "metadata", "timestamp_utc"))
_MEM_USUAL_KEYS = _MEM_KEYS | {"category"}
_CATEGORY_TYPES = {
    "interaction": "INTERACTION",
    "interactions": "INTERACTION",
    "performance": "PERFORMANCE",
    "error": "ERROR",
    "errors": "ERROR",
}
_WHOLE_TYPES = {"perf": "PERFORMANCE", "error": "ERROR"}


def regular_mem(source: Source, hints: Hints) -> dict[str, Any] | None:
    """A ``mem`` object of the usual form, which its fields alone give back; None: it needs the long way."""
    value = source.value
    if source.raw is not None or value.keys() != _MEM_USUAL_KEYS or hints.tz is not dt.UTC:
        return None
    metadata, category = value["metadata"], value["category"]
    if (
        value["memory_type"] != "STM"
        or type(metadata) is not dict
        or "category" in metadata
        or type(category) is not str
        or (time := usual_time_us(value["timestamp_utc"])) is None
    ):
        return None
    fields: dict[str, Any] = {
        "agent_id": agent_of(source, hints, metadata.get("agent_id"), category=category),
        "timestamp_utc": time,
        "memory_type": _CATEGORY_TYPES.get(category.rpartition("/")[2].lower(), "SYSTEM_STATE"),
        "importance": "MEDIUM",
    }
    if len(source.path) > read.SOURCE_ID_CHARS_MAX or not source.path:
        return None
    fields["source_id"] = source.path
    if value["data"] is not None:
        fields["content"] = value["data"]
    fields["context"] = {**metadata, "category": category}
    fields["metadata"] = {NOTES_KEY: {"layout": "mem"}}
    return fields


def map_mem(sources: tuple[Source, ...], hints: Hints, notes: dict[str, Any]) -> dict[str, Any]:
    """A ``mem`` object: data to content, metadata and category to context."""
    source = sources[0]
    value = source.value
    metadata, category = value.get("metadata"), value.get("category")
    context: dict[str, Any] = metadata if isinstance(metadata, dict) else {}
    names = value.keys() - _MEM_KEYS
    if names == {"category"} and "category" not in context:  # the usual case, which needs no note
        context = {**context, "category": category}
    else:
        context = with_extra(context, value, names, notes)
        notes.setdefault("extra", {})
    agent = agent_of(source, hints, metadata.get("agent_id") if isinstance(metadata, dict) else None, category=category)
    last = category.rpartition("/")[2].lower() if isinstance(category, str) else ""
    fields: dict[str, Any] = {
        "agent_id": agent,
        "source_id": read.source_id_or_none(value.get("memory_id")) or source.path,
        "timestamp_utc": time_of(source, hints, value.get("timestamp_utc"), value.get("timestamp")),
        "memory_type": _CATEGORY_TYPES.get(last) or read.type_name(value.get("memory_type")) or "SYSTEM_STATE",
        "importance": read.importance_name(value.get("importance")) or "MEDIUM",
    }
    if value.get("data") is not None:
        fields["content"] = value["data"]
    if context:
        fields["context"] = context
    return fields


def _common(source: Source, hints: Hints, memory_type: str) -> dict[str, Any]:
    """Fields that are copied from an object which itself stays whole."""
    value = source.value
    fields: dict[str, Any] = {
        "agent_id": agent_of(source, hints, value.get("agent_id")),
        "source_id": read.source_id_or_none(value.get("memory_id")) or source.path,
        "timestamp_utc": time_of(source, hints, value.get("timestamp_utc"), value.get("timestamp")),
        "memory_type": memory_type,
        "importance": read.importance_name(value.get("importance")) or "MEDIUM",
    }
    tags = read.text_list_or_none(value.get("tags"))
    if tags:
        fields["tags"] = tags
    relationships = relationships_of(value, fields["agent_id"], hints)
    if relationships:
        fields["relationships"] = relationships
    return fields


def map_whole(sources: tuple[Source, ...], hints: Hints, notes: dict[str, Any]) -> dict[str, Any]:
    """A ``perf`` or ``error`` object as content."""
    source = sources[0]
    fields = _common(source, hints, _WHOLE_TYPES[notes["layout"]])
    context = source.value.get("context")
    if isinstance(context, dict) and context:
        fields["context"] = context
        fields["content"] = {key: value for key, value in source.value.items() if key != "context"}
        notes["context"] = True
    else:
        fields["content"] = source.value
    return fields


def map_pair(sources: tuple[Source, ...], hints: Hints, notes: dict[str, Any]) -> dict[str, Any]:
    """An interaction and its response, or one of them alone."""
    fields = _common(sources[0], hints, "INTERACTION")
    content: dict[str, Any] = {}
    for source in sources:
        is_response = source.path.endswith(".response.json")
        kind, side = ("response", "response") if is_response else ("input", "interaction")
        value = source.value
        key = next((name for name in (kind, "content") if name in value), None)
        payload = value if key is None else value[key]
        notes[kind] = key
        if read.fits_part(payload, kind):
            notes.setdefault("parts", []).append(kind)
            fields[kind] = payload
        else:
            fields[kind] = {} if payload is None else {"content": payload}
            if is_response and key is not None:
                copies = {
                    name: value[name] for name in ("success", "confidence", "processing_time_ms") if name in value
                }
                fields[kind].update(copies if read.fits_part(copies, kind) else {})
        rest = {} if key is None else {name: item for name, item in value.items() if name != key}
        if rest:
            content[side] = rest
    if content:
        fields["content"] = content
    context = sources[0].value.get("context")
    if isinstance(context, dict) and context:
        fields["context"] = context
    return fields
