"""Whether a record of an import is the one that is stored under its id, in whatever words. Pure."""

from __future__ import annotations

from typing import Any

import msgspec

from memstore.layouts.rebuild import NOTES_KEY
from memstore.record import MemoryRecord

_COMPARED = ("memory_type", "importance", "content", "context", "tags")
_LOCATION = ("in", "path")


def is_same(fields: dict[str, Any], record: MemoryRecord) -> bool:
    """Whether a stored record holds what these fields do, wherever its source lay."""
    empty: dict[str, Any] = {"content": None, "context": {}, "tags": []}
    return (
        all(fields.get(name, empty.get(name)) == getattr(record, name) for name in _COMPARED)
        and all(_part(fields.get(name)) == _part(getattr(record, name)) for name in ("input", "response"))
        and _without_location(fields.get("metadata", {})) == _without_location(record.metadata)
    )


def _part(value: object) -> dict[str, Any]:
    plain = msgspec.to_builtins(value) if isinstance(value, msgspec.Struct) else value
    return {key: item for key, item in plain.items() if item is not None} if isinstance(plain, dict) else {}


def _without_location(metadata: dict[str, Any]) -> dict[str, Any]:
    notes = metadata.get(NOTES_KEY)
    if not isinstance(notes, dict):
        return metadata
    notes = {key: value for key, value in notes.items() if key not in _LOCATION}
    if "raw" in notes and isinstance(notes["raw"], list):
        notes["raw"] = [text for _, text in notes["raw"]]
    if isinstance(notes.get("keep"), dict):
        # A qualified source id keeps the id it had as well.
        notes["keep"] = {key: value for key, value in notes["keep"].items() if key != "memory_id"}
        if not notes["keep"]:
            del notes["keep"]
    return {**metadata, NOTES_KEY: notes}
