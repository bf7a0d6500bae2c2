"""What a line of NDJSON says that its record does not. Pure."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from typing import Any

from memstore.ids import derived_id
from memstore.layouts import fields as read
from memstore.layouts.rebuild import difference, rebuild_object
from memstore.layouts.source import Source
from memstore.timestamps import iso_text


def keep_of_line(source: Source, fields: dict[str, Any], notes: dict[str, Any]) -> None:
    """What a line says that its record does not; its spelling of times, names and parts is no loss."""
    if source.raw is not None:
        notes["raw"] = source.raw
        return
    time: int = fields["timestamp_utc"]
    source_id: str = fields["source_id"]
    said_time = "timestamp_utc" if source.value.get("timestamp_utc") is not None else "timestamp"

    def is_said(key: str, value: object) -> bool:
        if key in _SAID_IN_OTHER_WORDS:
            return _SAID_IN_OTHER_WORDS[key](value)
        if key == said_time:
            return read.time_us(value, dt.UTC) == time
        if key == "memory_id":
            return bool(value == derived_id(fields["agent_id"], source_id, time))
        return value is None or (key == "source_id" and read.source_id_or_none(value) == source_id)

    given = {key: value for key, value in source.value.items() if not is_said(key, value)}
    keep, _ = difference(given, rebuild_object(fields, {"layout": "record", **notes}, iso_text(time)))
    notes.pop("extra", None)  # a line needs no way back, and its keys can be found by their names
    if keep:
        notes["keep"] = keep


def _is_empty(value: object) -> bool:
    return value is None or value in ({}, [])


# Values of a line's key that need not be kept because the record says the same.
_SAID_IN_OTHER_WORDS: dict[str, Callable[[object], bool]] = {
    "input": lambda value: value is None or isinstance(value, str),
    "response": lambda value: value is None or isinstance(value, str),
    "memory_type": lambda value: value is None or read.type_name(value) is not None,
    "importance": lambda value: value is None or read.importance_name(value) is not None,
    "context": _is_empty,
    "tags": _is_empty,
    "metadata": _is_empty,
    "relationships": _is_empty,
}
