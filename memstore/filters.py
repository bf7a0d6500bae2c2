"""Which records a read wants: typed arguments, never strings pasted together.

A filter answers twice: quickly on the bytes of a line (may be wrong in one direction only: it never rejects a line that
matches) and exactly on the decoded record.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypedDict, TypeVar

from memstore.errors import UsageError
from memstore.nearest import nearest_name
from memstore.record import Importance, MemoryRecord, MemoryType
from memstore.timestamps import YEAR_10000_US, parse_time

TypeArgument = MemoryType | str | Iterable[MemoryType | str]
TimeArgument = dt.datetime | str | int
ImportanceArgument = Importance | str | Iterable[Importance | str]
E = TypeVar("E", MemoryType, Importance)


class Filters(TypedDict, total=False):
    """Which records a read wants; all given ones must hold.

    Attributes:
        memory_type: one or several types.
        importance: one or several importances, exactly.
        min_importance: at least this one.
        tags: any of these.
        tags_all: all of these.
        since: from this time on: a datetime, ISO 8601 text, or an age like ``"7d"``.
        until: before this time.
        session: ``context["session_id"]``.
        context: keys of ``context`` and their values.
    """

    memory_type: TypeArgument | None
    importance: ImportanceArgument | None
    min_importance: str | None
    tags: str | Iterable[str] | None
    tags_all: str | Iterable[str] | None
    since: TimeArgument | None
    until: TimeArgument | None
    session: str | None
    context: Mapping[str, Any] | None


@dataclass(frozen=True, slots=True)
class RecordFilter:
    """Immutable. Times are microseconds, ``since_us`` inclusive, ``until_us`` exclusive."""

    since_us: int = 0
    until_us: int = YEAR_10000_US
    memory_types: frozenset[MemoryType] | None = None
    importances: frozenset[Importance] | None = None
    tags_any: frozenset[str] | None = None
    tags_all: frozenset[str] | None = None
    context: tuple[tuple[str, Any], ...] = ()
    _needles: tuple[bytes, ...] = field(default=(), repr=False, compare=False)

    @property
    def by_time_only(self) -> bool:
        """Whether times decide alone, so that records need not be decoded to count them."""
        return (
            self.memory_types is None
            and self.importances is None
            and self.tags_any is None
            and self.tags_all is None
            and not self.context
        )

    def may_match(self, line: bytes) -> bool:
        """False only where the line cannot match; cheap."""
        needles = self._needles
        return not needles or any(needle in line for needle in needles)

    def matches(self, record: MemoryRecord) -> bool:
        """Whether the record is wanted, its time aside (the reader has seen to that)."""
        if self.memory_types is not None and record.memory_type not in self.memory_types:
            return False
        if self.importances is not None and record.importance not in self.importances:
            return False
        if self.tags_any is not None and self.tags_any.isdisjoint(record.tags):
            return False
        if self.tags_all is not None and not self.tags_all.issubset(record.tags):
            return False
        return all(key in record.context and record.context[key] == value for key, value in self.context)


EVERYTHING = RecordFilter()
"""What a caller gives who names nothing."""


def build_filter(
    *,
    now_us: int,
    memory_type: TypeArgument | None = None,
    importance: ImportanceArgument | None = None,
    min_importance: Importance | str | None = None,
    tags: str | Iterable[str] | None = None,
    tags_all: str | Iterable[str] | None = None,
    since: TimeArgument | None = None,
    until: TimeArgument | None = None,
    session: str | None = None,
    context: Mapping[str, Any] | None = None,
) -> RecordFilter:
    """A filter from what a caller gives.

    Args:
        now_us: what ages like ``"7d"`` count back from.
        memory_type: one or several types.
        importance: one or several importances, exactly.
        min_importance: at least this one.
        tags: any of these.
        tags_all: all of these.
        since: from this time on, inclusive.
        until: up to this time, exclusive.
        session: shorthand for ``context={"session_id": session}``.
        context: keys of ``context`` and the values they must have.

    Raises:
        UsageError: an unknown type, importance or time; ``since`` after ``until``.
    """
    types = None if memory_type is None else frozenset(_members(memory_type, MemoryType, "memory_type"))
    importances = None if importance is None else frozenset(_members(importance, Importance, "importance"))
    if min_importance is not None:
        (least,) = _members(min_importance, Importance, "min_importance")
        wanted = frozenset(i for i in Importance if i.rank >= least.rank)
        importances = wanted if importances is None else importances & wanted
    since_us = 0 if since is None else parse_time(since, now_us=now_us)
    until_us = YEAR_10000_US if until is None else parse_time(until, now_us=now_us)
    if since is not None and until is not None and since_us > until_us:
        raise UsageError(f"since ({since!r}) is after until ({until!r})")
    if context is not None and not isinstance(context, Mapping):
        raise UsageError(f"context is a mapping of keys to the values they must have, not {context!r}")
    pairs = dict(context or {})
    if session is not None:
        pairs["session_id"] = session
    needles: tuple[bytes, ...] = ()
    if types is not None:
        needles = tuple(f'"memory_type":"{t.value}"'.encode() for t in types)
    elif importances is not None:
        needles = tuple(f'"importance":"{i.value}"'.encode() for i in importances)
    return RecordFilter(
        since_us=max(since_us, 0),
        until_us=min(until_us, YEAR_10000_US),
        memory_types=types,
        importances=importances,
        tags_any=_texts(tags, "tags"),
        tags_all=_texts(tags_all, "tags_all"),
        context=tuple(sorted(pairs.items(), key=lambda pair: pair[0])),
        _needles=needles,
    )


def check_names(given: Iterable[str], known: Collection[str]) -> None:
    """Raises: UsageError: one of the given filters has no known name; it says which name is meant, or all there are."""
    for name in given:
        if name not in known:
            near = nearest_name(name, known)
            hint = f"did you mean {near!r}?" if near else f"there are {', '.join(known)}"
            raise UsageError(f"there is no filter {name!r}; {hint}")


def _members(value: object, kind: type[E], name: str) -> list[E]:
    values = [value] if isinstance(value, str) else value
    if not isinstance(values, Iterable):
        raise UsageError(f"{name} {value!r} is unknown; it is one of {', '.join(kind)}")
    try:
        return [kind(v) for v in values]
    except (TypeError, ValueError) as error:
        raise UsageError(f"{name} {value!r} is unknown; it is one of {', '.join(kind)}") from error


def _texts(value: str | Iterable[str] | None, name: str) -> frozenset[str] | None:
    if value is None:
        return None
    try:
        texts = frozenset([value] if isinstance(value, str) else value)
    except TypeError as error:
        raise UsageError(f"{name} are text, not {value!r}") from error
    if not all(isinstance(text, str) for text in texts):
        raise UsageError(f"{name} are text, not {value!r}")
    return texts
