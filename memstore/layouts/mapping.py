"""From one source file's path and parsed JSON to a record's fields, for every layout a platform is known to use. Pure.

========= ======================================================= ======================================================
layout    file                                                    becomes
========= ======================================================= ======================================================
memory    ``TIER/AGENT/YYYYMMDD/STAMP.TYPE.memory.json``          field by field
record    the same name, holding ``timestamp_utc``                a record as memstore exports it
mem       ``TIER/[AGENT/]CATEGORY/STAMP.CATEGORY.mem.json``       data to content; metadata and category to context
pair      ``AGENT/YYYYMMDD/interactions/STAMP.interaction.json``  input, with ``STAMP.response.json`` as its response
perf      ``AGENT/YYYYMMDD/performance/STAMP.perf.json``          the object as content
error     ``AGENT/YYYYMMDD/errors/STAMP.error.json``              the object as content
line      a line of NDJSON                                        a record, leniently read
========= ======================================================= ======================================================

Nothing of a source is lost: what has no field goes to ``context``, what a field cannot hold as it is stays in the notes
(see `memstore.layouts.rebuild`), which also lead back to the very same object.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import xxhash

from memstore.ids import derived_id
from memstore.layouts import fields as read
from memstore.layouts.line import keep_of_line
from memstore.layouts.memory import map_record, regular_memory
from memstore.layouts.platform import map_mem, map_pair, map_whole, regular_mem
from memstore.layouts.rebuild import NOTES_KEY, difference, path_tail, rebuild_object
from memstore.layouts.source import Hints, Source
from memstore.timestamps import iso_text

_ORDER = (
    "agent_id",
    "timestamp_utc",
    "memory_type",
    "importance",
    "timestamp_local",
    "shard_id",
    "source_id",
    "input",
    "response",
    "content",
    "context",
    "tags",
    "relationships",
    "metadata",
)
"""As a stored line has them."""


_REGULAR: dict[str, Callable[[Source, Hints], dict[str, Any] | None]] = {"memory": regular_memory, "mem": regular_mem}


def map_sources(layout: str, sources: tuple[Source, ...], hints: Hints, qualifier: str | None = None) -> dict[str, Any]:
    """The fields of the record that a source (of a pair, up to two) holds.

    Args:
        layout: as `layout_of` gives it.
        sources: the parsed file, or an interaction and its response.
        hints: see there.
        qualifier: appended to the source id, for a source whose id another one has already.

    Returns:
        What ``MemStore.import_many`` takes: ``timestamp_utc`` in microseconds, everything else in its stored form (see
        `memstore.draft.draft_stored_form`).

    Raises:
        DamagedError: it holds no agent or time.
    """
    first = sources[0]
    if qualifier is None and layout in _REGULAR:
        regular = _REGULAR[layout](first, hints)
        if regular is not None:
            return regular
    if layout == "memory" and "timestamp_utc" in first.value and "timestamp" not in first.value:
        layout = "record"
    notes: dict[str, Any] = {} if layout == "line" else {"layout": layout}
    fields = _MAPPERS[layout](sources, hints, notes)
    if qualifier is not None:
        source_id = f"{fields['source_id']}@{qualifier}"
        if len(source_id) > read.SOURCE_ID_CHARS_MAX:
            source_id = f"hash:{xxhash.xxh3_128_hexdigest(source_id.encode())}"
        fields["source_id"] = source_id
    _finish(layout, sources, fields, notes)
    return {name: fields[name] for name in _ORDER if name in fields}


def memory_id_of(fields: dict[str, Any]) -> str:
    """The id under which the record is stored."""
    return derived_id(fields["agent_id"], fields["source_id"], fields["timestamp_utc"])


def _finish(layout: str, sources: tuple[Source, ...], fields: dict[str, Any], notes: dict[str, Any]) -> None:
    """Add to the notes what the way back needs, and the notes to the record."""
    first = sources[0]
    is_raw = any(source.raw is not None for source in sources)
    if layout == "line":
        keep_of_line(first, fields, notes)
    elif is_raw:
        notes["raw"] = [[s.path, s.raw if s.raw is not None else json.dumps(s.value)] for s in sources]
    elif layout != "pair":
        rebuilt = rebuild_object(fields, notes, iso_text(fields["timestamp_utc"]))
        keep, drop = difference(first.value, rebuilt)
        if keep:
            notes["keep"] = keep
        if drop:
            notes["drop"] = drop
    if layout != "line" and not is_raw and first.path != fields["source_id"]:
        tail = path_tail(first.value) if layout == "memory" else None
        if tail is not None and f"/{first.path}".endswith(f"/{tail}"):
            notes["in"] = first.path[: -len(tail) - 1]
        else:
            notes["path"] = first.path
    if notes:
        metadata = fields.get("metadata", {})
        fields["metadata"] = {**metadata, "import_line" if layout == "line" else NOTES_KEY: notes}


_MAPPERS: dict[str, Callable[[tuple[Source, ...], Hints, dict[str, Any]], dict[str, Any]]] = {
    "memory": map_record,
    "record": map_record,
    "mem": map_mem,
    "pair": map_pair,
    "perf": map_whole,
    "error": map_whole,
    "line": map_record,
}
