"""From a stored record back to the JSON objects it came from: the inverse of `memstore.layouts.mapping`. Pure.

An importer leaves ``metadata.import`` behind, a small object ("the notes"):

======== ==========================================================================================================
layout   ``memory``, ``mem``, ``pair``, ``perf``, ``error``, ``record``
in       the directories before ``AGENT/DAY/NAME``, where those follow from the object
path     the file's relative path, where it follows neither from that nor is the source id
extra    source keys that became context keys, and under which name
keep     source keys whose value the record's fields alone would not give back, with that value
drop     keys the fields would give back that the source did not have
raw      the file's text, where it is no JSON that a line can hold (NaN, integers over 64 bits, lone surrogates)
input    of a pair: the key that became ``input.content`` (null: the whole object); ``response`` likewise
parts    of a pair: which of the two were taken as they are, without a ``content`` around them
context  of ``perf`` and ``error``: true where the object's context became the record's
======== ==========================================================================================================

``keep`` and ``drop`` are the difference between the source and what `rebuild_object` makes of the fields, so that
the way back is exact whatever a source holds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from memstore.layouts.fields import IMPORTANCE_NUMBERS

NOTES_KEY = "import"
_MISSING = object()
_MEM_EXTRA = {"category": "category"}
_STORE_FIELDS = frozenset({"memory_id", "timestamp_utc", "source_id", "metadata", "context"})


class SourceFile(NamedTuple):
    """One file to write.

    Attributes:
        path: relative, with ``/``; not checked for where it leads.
        value: the JSON object, or None where ``text`` holds the file as it was.
        text: verbatim text, or None.
    """

    path: str
    value: Any
    text: str | None = None


def import_notes(record: Mapping[str, Any]) -> dict[str, Any] | None:
    """The notes of a record that came from a tree, else None."""
    metadata = record.get("metadata")
    notes = metadata.get(NOTES_KEY) if isinstance(metadata, dict) else None
    return notes if isinstance(notes, dict) and str(notes.get("layout")) in _LAYOUTS else None


def source_files(record: Mapping[str, Any]) -> list[SourceFile]:
    """The files a record was made of; ``record`` is a stored line as JSON. Empty: it came from no tree."""
    notes = import_notes(record)
    if notes is None:
        return []
    try:
        files = _source_files(record, notes)
    except (TypeError, ValueError, KeyError, AttributeError):
        return []  # anybody may write to metadata: these are no notes of an importer's
    return files if all(isinstance(file.path, str) for file in files) else []


def _source_files(record: Mapping[str, Any], notes: Mapping[str, Any]) -> list[SourceFile]:
    if "raw" in notes:
        return [SourceFile(path, None, str(text)) for path, text in notes["raw"]]
    if notes["layout"] == "pair":
        return _pair_files(record, notes)
    value = rebuild_object(record, notes, record["timestamp_utc"])
    path = notes.get("path")
    if path is None and "in" in notes:
        path = "/".join(filter(None, (notes["in"], path_tail(value))))
    return [SourceFile(path or record["source_id"], value)]


def rebuild_object(record: Mapping[str, Any], notes: Mapping[str, Any], stamp: str) -> dict[str, Any]:
    """The source object of a one-file layout.

    Args:
        record: the record's fields.
        notes: its notes; without ``keep`` and ``drop`` the result is what the fields alone give.
        stamp: the record's ``timestamp_utc``.
    """
    rebuilt = _LAYOUTS[notes["layout"]](record, notes, stamp)
    keep = notes.get("keep")
    if keep:
        rebuilt.update(keep)
    for key in notes.get("drop", ()):
        rebuilt.pop(key, None)
    return rebuilt


def difference(source: Mapping[str, Any], rebuilt: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """``keep`` and ``drop``: what must be changed in ``rebuilt`` to have the source."""
    keep: dict[str, Any] = {}
    for key, value in source.items():
        other = rebuilt.get(key, _MISSING)
        # Types first: 1, 1.0 and True are equal to Python and not to a reader of the file.
        if value is not other and (type(value) is not type(other) or value != other):
            keep[key] = value
    return keep, [key for key in rebuilt if key not in source]


def path_tail(value: Mapping[str, Any]) -> str | None:
    """``AGENT/DAY/STAMP.TYPE.memory.json`` as the platform names a ``memory`` object, if it can be told from it."""
    stamp, agent, kind = value.get("timestamp"), value.get("agent_id"), value.get("memory_type")
    if not (isinstance(stamp, str) and isinstance(agent, str) and isinstance(kind, str)):
        return None
    return usual_tail(agent, stamp, kind)


def usual_tail(agent: str, stamp: str, kind: str) -> str:
    """`path_tail` of values that are known to be text."""
    return f"{agent}/{stamp[:10].replace('-', '')}/{stamp.replace(':', '-')}.{kind}.memory.json"


def _without_extra(context: dict[str, Any], extra: Mapping[str, str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The context as it was, and what had been put into it."""
    names = set(extra.values())
    return (
        {key: value for key, value in context.items() if key not in names},
        {key: context[name] for key, name in extra.items() if name in context},
    )


def _memory(record: Mapping[str, Any], notes: Mapping[str, Any], stamp: str) -> dict[str, Any]:
    context, extra = record.get("context", {}), notes.get("extra")
    rebuilt: dict[str, Any] = {
        "timestamp": stamp[:-1],
        "memory_type": record["memory_type"].lower(),
        "importance": IMPORTANCE_NUMBERS[record["importance"]],
        "agent_id": record["agent_id"],
        "content": record.get("content"),
        "context": context,
        "tags": record.get("tags", []),
        "parent_memory_id": None,
        "memory_id": record.get("source_id"),
    }
    for name in ("input", "response"):
        value = record.get(name)
        if value is not None:
            plain = value.keys() == {"content"} and isinstance(value["content"], str)
            rebuilt[name] = value["content"] if plain else value
    for name in ("timestamp_local", "shard_id"):
        if name in record:
            rebuilt[name] = record[name]
    _add_metadata(rebuilt, record)
    if extra:
        rebuilt["context"], back = _without_extra(context, extra)
        rebuilt.update(back)
    return rebuilt


def _record(record: Mapping[str, Any], notes: Mapping[str, Any], stamp: str) -> dict[str, Any]:
    rebuilt = {key: value for key, value in record.items() if key not in _STORE_FIELDS}
    rebuilt["memory_id"] = record.get("source_id")
    rebuilt["timestamp_utc"] = stamp
    context, back = _without_extra(record.get("context", {}), notes.get("extra", {}))
    if context:
        rebuilt["context"] = context
    rebuilt.update(back)
    _add_metadata(rebuilt, record)
    return rebuilt


def _add_metadata(rebuilt: dict[str, Any], record: Mapping[str, Any]) -> None:
    metadata = {key: value for key, value in record.get("metadata", {}).items() if key != NOTES_KEY}
    if metadata:
        rebuilt["metadata"] = metadata


def _mem(record: Mapping[str, Any], notes: Mapping[str, Any], stamp: str) -> dict[str, Any]:
    metadata, back = _without_extra(record.get("context", {}), notes.get("extra", _MEM_EXTRA))
    return {
        "timestamp_utc": stamp[:-1],
        "memory_type": "STM",
        "metadata": metadata,
        "data": record.get("content"),
        **back,
    }


def _whole(record: Mapping[str, Any], notes: Mapping[str, Any], stamp: str) -> dict[str, Any]:
    del stamp
    rebuilt = dict(record.get("content") or {})
    if notes.get("context"):
        rebuilt["context"] = record.get("context", {})
    return rebuilt


def _pair_files(record: Mapping[str, Any], notes: Mapping[str, Any]) -> list[SourceFile]:
    content = record.get("content") or {}
    path = notes.get("path") or record["source_id"]
    files = []
    for kind, side in (("input", "interaction"), ("response", "response")):
        if kind not in notes:
            continue
        key, value = notes[kind], record.get(kind) or {}
        payload = value if kind in notes.get("parts", ()) else value.get("content")
        whole = payload if key is None else {key: payload, **content.get(side, {})}
        name = path if side == "interaction" or "input" not in notes else response_path(path)
        files.append(SourceFile(name, whole))
    return files


def response_path(interaction_path: str) -> str:
    """Where the response to an interaction lies."""
    return interaction_path.removesuffix(".interaction.json") + ".response.json"


_LAYOUTS: dict[str, Callable[[Mapping[str, Any], Mapping[str, Any], str], dict[str, Any]]] = {
    "memory": _memory,
    "record": _record,
    "mem": _mem,
    "perf": _whole,
    "error": _whole,
    "pair": _memory,  # never called: a pair is two objects, see _pair_files
}
