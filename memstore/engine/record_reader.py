"""Questions about one agent's records, answered over lanes and files, through three caches that change no answer.

``records``: lines by memory id, valid until records disappear anywhere in the store. ``patterns``: the lines of a
``recent`` and the number of a ``count``, by question, valid for one version of the agent. ``agent_stats``: an agent's
figures, valid for one version. Lines are cached, not decoded records: a caller may change the dicts inside a record,
and must not change them for the next one.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any, Literal

from memstore.cache.sieve import SieveCache
from memstore.clock import Clock
from memstore.config import CachingSettings
from memstore.engine.forgotten import Forgotten
from memstore.engine.lookup import FEW_MAX, find_few, find_line, find_lines
from memstore.engine.reading import DamageHandler, ReadHandler, Reading, raise_damage
from memstore.engine.view import ViewBuilder
from memstore.errors import CorruptionError, UsageError
from memstore.filters import RecordFilter
from memstore.ids import parse_id
from memstore.metrics import Metrics
from memstore.record import MemoryRecord, decode_record, decode_records
from memstore.timestamps import YEAR_10000_US

_log = logging.getLogger(__name__)
OnDamage = Literal["raise", "skip"]
_MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class _Answer:
    """An answer and the version of the agent it was true for."""

    version: tuple[object, ...]
    lines: tuple[bytes, ...] = ()
    count: int = 0


class RecordReader:
    """Thread-safe; one per store."""

    def __init__(
        self,
        *,
        builder: ViewBuilder,
        clock: Clock,
        caching: CachingSettings,
        metrics: Metrics,
        forgotten: Forgotten,
        on_read: ReadHandler | None,
    ) -> None:
        self._builder = builder
        self._forgotten = forgotten
        self._on_read = on_read
        self._metrics = metrics
        ttl_s = caching.cache_ttl_minutes * 60
        self._records: SieveCache[tuple[int, bytes]] = SieveCache(
            clock, bytes_max=int(caching.recent_memories_mb * _MIB), ttl_s=ttl_s
        )
        self._patterns: SieveCache[_Answer] = SieveCache(
            clock, bytes_max=int(caching.pattern_cache_mb * _MIB), ttl_s=ttl_s
        )
        self._agent_stats: SieveCache[tuple[tuple[object, ...], dict[str, Any]]] = SieveCache(
            clock, bytes_max=int(caching.agent_stats_cache_mb * _MIB), ttl_s=ttl_s
        )

    def get_line(self, memory_id: str) -> bytes | None:
        """The stored line of a record without its line break, or None where there is none.

        Raises:
            UsageError: no id of this form.
            CorruptionError: the part of a file that would hold it is damaged.
        """
        epoch = self._forgotten.epoch()  # before the line is read: what disappears meanwhile makes it stale
        line = self._cached(memory_id, epoch)
        if line is None:
            parts = parse_id(memory_id)
            line = find_line(self._builder, parts.agent_id, memory_id, parts.time_us, on_read=self._on_read)
            if line is not None:
                self._records.put(memory_id, (epoch, line), len(line) + len(memory_id))
        return line

    def _cached(self, memory_id: str, epoch: int) -> bytes | None:
        entry = self._records.get(memory_id)
        return entry[1] if entry is not None and entry[0] == epoch else None

    def get_lines(self, memory_ids: Iterable[str]) -> list[bytes | None]:
        """Like `get_line` for many ids; each agent's are looked for together."""
        listed = list(memory_ids)
        found: dict[str, bytes] = {}
        wanted: dict[str, dict[str, int]] = {}
        epoch = self._forgotten.epoch()
        for memory_id in listed:
            line = self._cached(memory_id, epoch)
            if line is None:
                parts = parse_id(memory_id)
                wanted.setdefault(parts.agent_id, {})[memory_id] = parts.time_us
            else:
                found[memory_id] = line
        for agent, times in wanted.items():
            try:
                if len(times) <= FEW_MAX:
                    lines = find_few(self._builder, agent, times, on_read=self._on_read)
                    for memory_id, line in lines.items():
                        self._records.put(memory_id, (epoch, line), len(line) + len(memory_id))
                else:
                    lines = find_lines(self._builder, agent, times)
            except CorruptionError:
                # It may lie where none of these ids does: one by one, only those that it touches are refused.
                lines = {memory_id: each for memory_id in times if (each := self.get_line(memory_id)) is not None}
            found.update(lines)
        return [found.get(memory_id) for memory_id in listed]

    def existing(self, agent: str, wanted: Mapping[str, int]) -> dict[str, bytes]:
        """The lines of those of an agent's ids (with their times) that are stored; never answered from a cache.

        The line of one that was stored and forgotten is empty.
        """
        return find_lines(self._builder, agent, wanted, forgotten=True)

    def lines(
        self, agent: str, wanted: RecordFilter, *, newest_first: bool, on_damage: OnDamage, is_use: bool = False
    ) -> Iterator[tuple[bytes, MemoryRecord | None]]:
        """Matching lines in time order, each with its record where that had to be decoded anyway.

        ``is_use``: an agent makes use of them, so that their files stay a tier up; an export does not.
        """
        on_read = self._on_read if is_use else None
        reading = Reading(self._builder, agent, self._damage_handler(on_damage), on_read=on_read)
        return _matching(reading, wanted, newest_first=newest_first)

    def recent(self, agent: str, limit: int, wanted: RecordFilter, *, on_damage: OnDamage) -> list[MemoryRecord]:
        """The newest matching records, newest first.

        Raises:
            UsageError: ``limit`` is negative.
        """
        if limit < 0:
            raise UsageError(f"limit must be at least 0, not {limit}")
        reading = Reading(self._builder, agent, self._damage_handler(on_damage), on_read=self._on_read)
        version = reading.version  # before the first line: what is appended from here on may be missing
        key = ("recent", agent, limit, on_damage, wanted)
        answer = self._recall(key, reading)
        if answer is not None:
            return decode_records(answer.lines)
        if wanted.by_time_only:
            lines = reading.scan(since_us=wanted.since_us, until_us=wanted.until_us, newest_first=True)
            newest = tuple(islice(lines, limit))
            self._remember(key, _Answer(version, newest), reading)
            return decode_records(newest)
        found = list(islice(_matching(reading, wanted, newest_first=True), limit))
        self._remember(key, _Answer(version, tuple(line for line, _ in found)), reading)
        return [record or decode_record(line) for line, record in found]

    def count(self, agent: str, wanted: RecordFilter, *, on_damage: OnDamage) -> int:
        """How many records match; where times decide alone, without reading them."""
        reading = Reading(self._builder, agent, self._damage_handler(on_damage))
        if wanted.by_time_only:
            return reading.count(since_us=wanted.since_us, until_us=wanted.until_us)
        key = ("count", agent, on_damage, wanted)
        answer = self._recall(key, reading)
        if answer is None:
            version = reading.version
            number = sum(1 for _ in _matching(reading, wanted, newest_first=False))
            answer = _Answer(version, count=number)
            self._remember(key, answer, reading)
        return answer.count

    def agent_stats(self, agent: str) -> dict[str, Any]:
        """``agent, records, bytes, first, last, by_type, by_importance``.

        Reads every record of the agent, once per version of it.
        """
        reading = Reading(self._builder, agent)
        known = self._agent_stats.get(agent)
        if known is not None and known[0] == reading.version:
            return {k: dict(v) if isinstance(v, dict) else v for k, v in known[1].items()}
        version = reading.version
        by_type: dict[str, int] = {}
        by_importance: dict[str, int] = {}
        records = size = 0
        first = last = None
        for line in reading.scan(since_us=0, until_us=YEAR_10000_US, newest_first=False):
            record = decode_record(line)
            by_type[record.memory_type] = by_type.get(record.memory_type, 0) + 1
            by_importance[record.importance] = by_importance.get(record.importance, 0) + 1
            records += 1
            size += len(line) + 1
            first = first or record.timestamp_utc
            last = record.timestamp_utc
        figures: dict[str, Any] = {
            "agent": agent,
            "records": records,
            "bytes": size,
            "first": first,
            "last": last,
            "by_type": dict(sorted(by_type.items())),
            "by_importance": dict(sorted(by_importance.items())),
        }
        self._agent_stats.put(agent, (version, figures), 1000)
        return {k: dict(v) if isinstance(v, dict) else v for k, v in figures.items()}

    def cache_stats(self) -> dict[str, dict[str, float | int]]:
        """Size and hit rate of each cache."""
        return {
            "records": self._records.stats(),
            "patterns": self._patterns.stats(),
            "agent_stats": self._agent_stats.stats(),
        }

    def clear_caches(self) -> None:
        """Forget everything; the next answers come from disk."""
        self._records.clear()
        self._patterns.clear()
        self._agent_stats.clear()

    def _damage_handler(self, on_damage: OnDamage) -> DamageHandler:
        if on_damage == "raise":
            return raise_damage
        if on_damage != "skip":
            raise UsageError(f"on_damage is 'raise' or 'skip', not {on_damage!r}")
        return self._skip

    def _skip(self, error: CorruptionError) -> None:
        self._metrics.add("damage_skipped")
        _log.warning("reading around damage: %s", error)

    def _recall(self, key: tuple[object, ...], reading: Reading) -> _Answer | None:
        try:
            answer = self._patterns.get(key)
        except TypeError:  # a filter on a list or dict in context cannot be a key
            return None
        return answer if answer is not None and answer.version == reading.version else None

    def _remember(self, key: tuple[object, ...], answer: _Answer, reading: Reading) -> None:
        if not self._patterns.enabled or reading.met_damage:  # damage may be repaired, and the version stays
            return
        try:
            self._patterns.put(key, answer, 200 + sum(len(line) + 60 for line in answer.lines))
        except TypeError:
            return


def _matching(
    reading: Reading, wanted: RecordFilter, *, newest_first: bool
) -> Iterator[tuple[bytes, MemoryRecord | None]]:
    lines = reading.scan(since_us=wanted.since_us, until_us=wanted.until_us, newest_first=newest_first)
    if wanted.by_time_only:
        for line in lines:
            yield line, None
        return
    for line in lines:
        if wanted.may_match(line):
            record = decode_record(line)
            if wanted.matches(record):
                yield line, record
