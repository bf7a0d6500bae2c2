"""What the mappings of several layouts share: whose a source is, when, and what it is related to. Pure."""

from __future__ import annotations

import datetime as dt
import re
from typing import Any

from memstore.errors import UsageError
from memstore.ids import derived_id, parse_id
from memstore.layouts import fields as read
from memstore.layouts.source import LINE_PREFIX, DamagedError, Hints, Source

_RELATIONSHIP_KEYS = frozenset(("parent_memory_id", "related_memories"))


_USUAL_STAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}", re.ASCII)
"""What `memstore.timestamps.iso_text` gives, without its ``Z``."""


def usual_time_us(stamp: object) -> int | None:
    """Microseconds of UTC text that `memstore.timestamps.iso_text` gives back, but for its ``Z``; None of any other."""
    if type(stamp) is not str or _USUAL_STAMP.fullmatch(stamp) is None:
        return None
    return read.time_us(stamp, dt.UTC)


def agent_of(source: Source, hints: Hints, *given: object, category: object = None) -> str:
    """The first of the given values that can be an agent id, else what the directories say, else the hint."""
    for value in given:
        agent = read.agent_or_none(value)
        if agent is not None:
            return agent
    directories = source.path.split("/")[:-1]
    agent = read.directory_agent_id(directories, root_is_tier=hints.root_is_tier, category=category) or hints.agent
    if agent is None:
        raise DamagedError("it names no agent, and neither does its directory")
    return agent


def time_of(source: Source, hints: Hints, *given: object) -> int:
    """Microseconds of the first of the given values that is a time, else of the file's name."""
    for value in given:
        time = read.time_us(value, hints.tz)
        if time is not None:
            return time
    name = source.path.rpartition("/")[2]
    is_line = source.line is not None or name.startswith(LINE_PREFIX)
    time = None if is_line else read.name_time_us(name, hints.tz)
    if time is None:
        said = [value for value in given if value is not None]
        reason = f"its timestamp {said[0]!r:.80} cannot be read" if said else "it holds no timestamp"
        raise DamagedError(reason + ("" if is_line else ", and its name holds none"))
    return time


def with_extra(
    context: dict[str, Any], value: dict[str, Any], names: set[str], notes: dict[str, Any]
) -> dict[str, Any]:
    """The context and, beside it, the source keys that have no field; the notes say which."""
    if not names:
        return context
    extra: dict[str, str] = {}
    joined = dict(context)
    for name in sorted(names):
        free = name
        while free in joined:
            free = f"imported_{free}"
        joined[free] = value[name]
        extra[name] = free
    notes["extra"] = extra
    return joined


def relationships_of(value: dict[str, Any], agent: str, hints: Hints) -> dict[str, Any]:
    """Parent and related records under the ids they have in this store."""
    given = value.get("relationships")
    mapped: dict[str, Any] = {}
    parent = read.source_id_or_none(value.get("parent_memory_id"))
    if isinstance(given, dict) and given.keys() <= _RELATIONSHIP_KEYS:
        parent = parent or read.source_id_or_none(given.get("parent_memory_id"))
        related = read.text_list_or_none(given.get("related_memories"))
        if related:
            mapped["related_memories"] = [_resolved(text, agent, hints) for text in related]
    if parent is not None:
        mapped["parent_memory_id"] = _resolved(parent, agent, hints)
    return mapped


def _resolved(memory_id: str, agent: str, hints: Hints) -> str:
    """A related record's id in this store; where that cannot be known, as it was."""
    try:
        parts = parse_id(memory_id)
    except UsageError:
        return (hints.resolve(memory_id, agent) if hints.resolve is not None else None) or memory_id
    if int(memory_id[-16], 16) >= 8:  # derived: the same in every store
        return memory_id
    known = hints.resolve(memory_id, agent) if hints.resolve is not None else None
    return known or derived_id(parts.agent_id, memory_id, parts.time_us)
