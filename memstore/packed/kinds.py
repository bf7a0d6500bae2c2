"""Which kinds of records some lines hold: what retention wants to know of a packed file without unpacking it.

Only the fields that matter are decoded, in C, a megabyte of lines at a time. A record's own ``metadata.retention_days``
may be any JSON; only what can be a period counts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, NamedTuple

import msgspec
import orjson

from memstore.errors import StorageError
from memstore.format.lines import ID_STAMP_CHARS, split_lines
from memstore.format.manifest import KindCount
from memstore.ids import ID_TAIL_CHARS
from memstore.timestamps import US_PER_DAY, id_stamp_to_us, iso_and_id_stamp

RETENTION_DAYS_MAX = 1_000_000
"""Longer periods are mistakes; a time 2,700 years from now still is an int64 of microseconds."""

_CHUNK_BYTES = 1 << 20
"""Lines decoded at once: a struct of a few hundred bytes for each is in memory meanwhile."""


class Repeat(NamedTuple):
    """A line that stands for a record with another one's content: both ids. It has no kind of its own."""

    memory_id: str
    repeat_of: str


class _Metadata(msgspec.Struct, frozen=True, gc=False):
    retention_days: msgspec.Raw = msgspec.Raw()


class _Fields(msgspec.Struct, frozen=True, gc=False):
    memory_id: str
    memory_type: str = "INTERACTION"
    importance: str = "MEDIUM"
    repeat_of: msgspec.Raw = msgspec.Raw()


class _Line(_Fields, frozen=True, gc=False):
    metadata: _Metadata | None = None


class _LooseLine(_Fields, frozen=True, gc=False):
    metadata: msgspec.Raw = msgspec.Raw()


@dataclass(slots=True)
class _Count:
    """Times as id stamps, which sort in time order: reading one as a time costs as much as counting ten records."""

    records: int
    first: str
    last: str


_decoder = msgspec.json.Decoder(_Line)
_loose_decoder = msgspec.json.Decoder(_LooseLine)
_metadata_decoder = msgspec.json.Decoder(_Metadata)
_kind: Callable[[_Line], tuple[str, str]] = attrgetter("memory_type", "importance")
_memory_id: Callable[[_Line], str] = attrgetter("memory_id")


class KindCounter:
    """Counts records by type and importance, and those that set how long they are kept. Not thread-safe.

    Args:
        whole: every line is a record, even one that has a field ``repeat_of`` of its own; otherwise such a line stands
            for a repeat.

    Attributes:
        lines: how many lines `add` has been given, repeats included.
    """

    def __init__(self, *, whole: bool = False) -> None:
        self._whole = whole
        self._counts: dict[tuple[str, str], _Count] = {}
        self._own: tuple[int, int, int] | None = None
        self.lines = 0

    def add(self, lines: bytes, *, ingested_us: int) -> list[Repeat]:
        """Count whole, sorted lines.

        Args:
            lines: any number of them, each with its line break.
            ingested_us: when they reached a day file.

        Returns:
            The lines that stand for repeats. They are not counted: only their originals know their kind. Whoever has
            the records whole adds those instead, or adds each by `add_record`.

        Raises:
            StorageError: a line is no record.
        """
        assert not lines or lines.endswith(b"\n"), lines[-80:]
        repeats: list[Repeat] = []
        start = 0
        while start < len(lines):
            end = len(lines) if len(lines) - start <= _CHUNK_BYTES else lines.find(b"\n", start + _CHUNK_BYTES) + 1
            self._add_chunk(_decode(lines[start:end]), ingested_us, repeats)
            start = end
        return repeats

    def add_record(
        self, memory_type: str, importance: str, *, time_us: int, ingested_us: int, retention_days: object = None
    ) -> None:
        """Count one record whose fields are known; ``retention_days`` as its metadata says it, whatever that is."""
        stamp = iso_and_id_stamp(time_us)[1]
        self._count((memory_type, importance), 1, stamp, stamp)
        self._add_own(time_us, ingested_us, retention_days)

    def kinds(self) -> list[KindCount]:
        """All that was counted, by type and importance, sorted."""
        return [
            KindCount(*kind, count.records, id_stamp_to_us(count.first), id_stamp_to_us(count.last))
            for kind, count in sorted(self._counts.items())
        ]

    @property
    def own(self) -> tuple[int, int, int] | None:
        """How many records set their own period, and when the first and the last of them ends; None for no record."""
        return self._own

    def _add_chunk(self, decoded: list[_Line], ingested_us: int, repeats: list[Repeat]) -> None:
        self.lines += len(decoded)
        for line in decoded:
            if not self._whole and bytes(line.repeat_of):
                repeats.append(Repeat(line.memory_id, str(_loads(line.repeat_of))))
            elif line.metadata is not None and bytes(line.metadata.retention_days):
                self._add_own(id_stamp_to_us(_stamp(line.memory_id)), ingested_us, _loads(line.metadata.retention_days))
        whole = [line for line in decoded if not bytes(line.repeat_of)] if repeats else decoded
        kinds, ids = list(map(_kind, whole)), list(map(_memory_id, whole))
        # Sorted by time, so the last line of a kind says its last time, and read backwards its first.
        last = dict(zip(kinds, ids, strict=True))
        first = dict(zip(reversed(kinds), reversed(ids), strict=True))
        for kind, records in Counter(kinds).items():
            self._count(kind, records, _stamp(first[kind]), _stamp(last[kind]))

    def _count(self, kind: tuple[str, str], records: int, first: str, last: str) -> None:
        count = self._counts.get(kind)
        if count is None:
            self._counts[kind] = _Count(records, first, last)
            return
        count.records += records
        count.first = min(count.first, first)
        count.last = max(count.last, last)

    def _add_own(self, time_us: int, ingested_us: int, retention_days: object) -> None:
        period_us = own_period_us(retention_days)
        if period_us is None:
            return
        end = max(time_us, ingested_us) + period_us
        count, earliest, latest = self._own or (0, end, end)
        self._own = count + 1, min(earliest, end), max(latest, end)


def own_period_us(retention_days: object) -> int | None:
    """How long a record is kept by its own ``metadata.retention_days``, in microseconds.

    Returns:
        None where that is not a positive, finite number of at most `RETENTION_DAYS_MAX` days: then it says nothing.
    """
    if isinstance(retention_days, bool) or not isinstance(retention_days, (int, float)):
        return None
    return int(retention_days * US_PER_DAY) if 0 < retention_days <= RETENTION_DAYS_MAX else None


def _decode(lines: bytes) -> list[_Line]:
    try:
        return _decoder.decode_lines(lines)
    except msgspec.DecodeError:
        return list(map(_decode_any, split_lines(lines)))


def _decode_any(line: bytes) -> _Line:
    """A line whose ``metadata`` may be no object, as other programs write; a StorageError where it is no record."""
    try:
        loose = _loose_decoder.decode(line)
        raw = bytes(loose.metadata)
        metadata = _metadata_decoder.decode(raw) if raw.startswith(b"{") else None
    except msgspec.DecodeError as error:
        raise StorageError(f"a stored line is no record of format 2.0 ({error}): {line[:120]!r}") from error
    return _Line(loose.memory_id, loose.memory_type, loose.importance, loose.repeat_of, metadata)


def _loads(raw: msgspec.Raw) -> Any:
    try:
        return orjson.loads(bytes(raw))
    except orjson.JSONDecodeError:  # a number that no reader takes, such as 1e999
        return None


def _stamp(memory_id: str) -> str:
    start = 1 - ID_TAIL_CHARS
    return memory_id[start : start + ID_STAMP_CHARS]
