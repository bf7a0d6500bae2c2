"""Which files of an agent go down a tier together. Pure; month by month, for no file ever holds two months.

A month that has been over for longer than ``warm_storage_days`` becomes one cold file, of everything there is of it.
Before that, its days go warm: taken in order, days that are old enough are joined, with small warm files beside them,
until a file is worth a frame. So a quiet agent has a few files a month, not one a day, and what a warm file spans
never overlaps another.

Records that come late, for a day that a packed file spans, wait in a day file until no more have come for a while;
then they are folded into that file. A month that goes cold takes them along at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal, Self

from memstore.config import LifecycleSettings
from memstore.format.manifest import PackedFile
from memstore.format.names import parse_cold_file_name
from memstore.lifecycle.action import Pack, days_of
from memstore.timestamps import US_PER_DAY, day_start_us

WARM_RAW_BYTES_MAX = 64 * 1024 * 1024
"""A group does not grow past this but by a single day: what is read or written at once stays small."""
NEEDS_BYTES_MIN = 64 * 1024
"""Asked for at least: directories and MANIFEST lines grow, too."""
_RATIO_UNKNOWN = 0.5
_RATIO_MARGIN = 1.5
"""A month may pack worse than those before it."""


@dataclass(frozen=True, slots=True)
class HotFile:
    """A day file: its day (``YYYYMMDD``), committed bytes, records, their times, and when the youngest was merged."""

    day: str
    bytes: int
    records: int
    t_min: int
    t_max: int
    ingested: int


@dataclass(frozen=True, slots=True)
class SizeEstimate:
    """How small an agent's records become, from those that are packed already; None: none is."""

    ratio: float | None

    @classmethod
    def of(cls, packed: Iterable[PackedFile]) -> Self:
        """By all packed files that an agent has."""
        sizes = [(each.size, each.raw_bytes) for each in packed]
        raw_bytes = sum(raw for _, raw in sizes)
        return cls(sum(size for size, _ in sizes) / raw_bytes if raw_bytes else None)

    def expected_bytes(self, raw_bytes: int) -> int:
        """What is left of so many bytes, most likely."""
        return int(raw_bytes * (_RATIO_UNKNOWN if self.ratio is None else self.ratio))

    def needs_bytes(self, raw_bytes: int) -> int:
        """What to have free before they are packed."""
        margin = 1.0 if self.ratio is None else _RATIO_MARGIN
        return max(int(self.expected_bytes(raw_bytes) * margin), NEEDS_BYTES_MIN)


@dataclass(frozen=True, slots=True)
class Aging:
    """When files are old enough for what, seen from one moment.

    Attributes:
        now_us: that moment.
        warm_days: a day goes warm when its age is above this.
        cold_days: a month goes cold when the age of its last day is above this.
        retention_days: from this age of a day on, reading does not keep it hot.
        keep_read_us: for so long after it was read a file stays a tier up.
        fold_after_us: late records wait so long after the last of them came.
        warm_bytes: a warm file of less is joined by its neighbours.
    """

    now_us: int
    warm_days: float
    cold_days: int
    retention_days: float | None
    keep_read_us: int
    fold_after_us: int
    warm_bytes: int

    @classmethod
    def of(cls, lifecycle: LifecycleSettings, *, now_us: int, shortest_retention_days: float | None) -> Self:
        """By the settings, and the shortest period that retention has for the agent (None: all is kept)."""
        hot_days = lifecycle.hot_storage_days
        shortest = shortest_retention_days
        return cls(
            now_us=now_us,
            warm_days=hot_days if shortest is None else min(hot_days, shortest),
            cold_days=lifecycle.warm_storage_days,
            retention_days=shortest,
            keep_read_us=int(lifecycle.keep_read_days * US_PER_DAY),
            fold_after_us=int(lifecycle.fold_after_days * US_PER_DAY),
            warm_bytes=lifecycle.warm_frame_bytes,
        )

    def day_is_old(self, day: str) -> bool:
        """Whether a day may go warm."""
        return self._age(day) > self.warm_days

    def month_is_old(self, month: str) -> bool:
        """Whether a month is over for long enough to go cold."""
        year, number = int(month[:4]), int(month[4:])
        after = f"{year + number // 12:04d}{number % 12 + 1:02d}01"
        return (self.now_us // US_PER_DAY) - (day_start_us(after) // US_PER_DAY - 1) > self.cold_days

    def is_in_use(self, read_us: int | None) -> bool:
        """Whether a file was read so lately that it stays where it is. A read far ahead of the clock says nothing."""
        return read_us is not None and abs(self.now_us - read_us) < self.keep_read_us

    def is_settled(self, hot: HotFile) -> bool:
        """Whether no records have come to a day file for a while. An arrival ahead of the clock says nothing."""
        return not 0 <= self.now_us - hot.ingested < self.fold_after_us

    def must_go(self, day: str) -> bool:
        """Whether a day holds what retention may be waiting for, so that reading cannot keep it."""
        return self.retention_days is not None and self._age(day) > self.retention_days

    def _age(self, day: str) -> int:
        return self.now_us // US_PER_DAY - day_start_us(day) // US_PER_DAY


@dataclass(slots=True)
class _Unit:
    """What is packed together or not at all: a day, or a packed file (several that overlap) with its late records."""

    first: str
    last: str
    sources: list[str] = field(default_factory=list)
    late: list[str] = field(default_factory=list)
    cold: bool = False
    packed: int = 0
    raw_bytes: int = 0
    ready: bool = True
    in_use: bool = False


def plan_packs(
    agent: str,
    hot: Mapping[str, HotFile],
    packed: Mapping[str, PackedFile],
    *,
    reads: Mapping[str, int],
    aging: Aging,
    sizes: SizeEstimate,
) -> Iterator[Pack]:
    """The files to pack, newest month first.

    Args:
        agent: whose.
        hot: its day files.
        packed: its warm and cold files, those aside that go anyway.
        reads: when files were last read.
        aging: what is old enough.
        sizes: what comes out.
    """
    months = {each.day[:6] for each in hot.values()} | {days_of(name)[0][:6] for name in packed}
    for month in sorted(months, reverse=True):
        files = _MonthFiles(
            agent,
            month,
            {name: each for name, each in hot.items() if each.day.startswith(month)},
            {name: each for name, each in packed.items() if days_of(name)[0].startswith(month)},
            reads=reads,
            aging=aging,
            sizes=sizes,
        )
        yield from files.packs()


class _MonthFiles:
    """One month of one agent."""

    def __init__(
        self,
        agent: str,
        month: str,
        hot: Mapping[str, HotFile],
        packed: Mapping[str, PackedFile],
        *,
        reads: Mapping[str, int],
        aging: Aging,
        sizes: SizeEstimate,
    ) -> None:
        self._agent = agent
        self._month = month
        self._hot = hot
        self._packed = packed
        self._reads = reads
        self._aging = aging
        self._sizes = sizes

    def packs(self) -> list[Pack]:
        """Newest first."""
        units = self._units()
        if self._aging.month_is_old(self._month):
            pack = self._go_cold(units)
            if pack is not None:
                return [pack]
        groups = _groups(units, self._aging.warm_bytes)
        return [pack for group in reversed(groups) for pack in self._go_warm(group)]

    # -- what there is

    def _units(self) -> list[_Unit]:
        """Days and packed files in the order of their days, each late day file with the packed file that spans it."""
        units = self._packed_units()
        for name, hot in sorted(self._hot.items()):
            spanning = [unit for unit in units if unit.packed and unit.first <= hot.day <= unit.last]
            kept = self._aging.is_in_use(self._reads.get(name)) and not self._aging.must_go(hot.day)
            ready = self._aging.day_is_old(hot.day) and not kept
            if not spanning:
                units.append(_Unit(hot.day, hot.day, [name], raw_bytes=hot.bytes, ready=ready, in_use=kept))
            elif ready:
                spanning[0].late.append(name)
        units.sort(key=lambda unit: (unit.first, unit.last))
        return _joined_days(units)

    def _packed_units(self) -> list[_Unit]:
        """Packed files, those that overlap as one unit; a cold file spans its whole month."""
        units: list[_Unit] = []
        for name in sorted(self._packed, key=days_of):
            first, last = days_of(name)
            if units and first <= units[-1].last:
                unit = units[-1]
                unit.last = max(unit.last, last)
            else:
                unit = _Unit(first, last)
                units.append(unit)
            unit.sources.append(name)
            unit.packed += 1
            unit.cold |= parse_cold_file_name(name) is not None
            unit.raw_bytes += self._packed[name].raw_bytes
            unit.in_use |= self._aging.is_in_use(self._reads.get(name))
        return units

    # -- what becomes of it

    def _go_cold(self, units: list[_Unit]) -> Pack | None:
        """All of the month, or what it waits for: a file of it that was read lately, unless it is cold already."""
        if all(unit.cold for unit in units):
            return None
        if any(unit.in_use and not unit.cold for unit in units):
            return None
        sources = [name for unit in units if unit.ready for name in (*unit.sources, *unit.late)]
        return self._pack(sources, "cold", "cold")

    def _go_warm(self, group: list[_Unit]) -> Iterator[Pack]:
        """One warm file of a group; where it is one packed file alone, its late records, if no more are coming."""
        if len(group) == 1 and group[0].packed:
            unit = group[0]
            settled = [name for name in unit.late if self._aging.is_settled(self._hot[name])]
            if settled or unit.packed > 1:
                yield self._pack([*unit.sources, *settled], "fold", "cold" if unit.cold else "warm")
            return
        settled = [n for unit in group for n in unit.late if self._aging.is_settled(self._hot[n])]
        yield self._pack([*(name for unit in group for name in unit.sources), *settled], "warm", "warm")

    def _pack(self, sources: list[str], reason: Literal["warm", "cold", "fold"], tier: Literal["warm", "cold"]) -> Pack:
        hot = [self._hot[name] for name in sources if name in self._hot]
        packed = [self._packed[name] for name in sources if name in self._packed]
        raw_bytes = sum(each.bytes for each in hot) + sum(each.raw_bytes for each in packed)
        stored_bytes = sum(each.bytes for each in hot) + sum(each.size for each in packed)
        return Pack(
            agent=self._agent,
            reason=reason,
            tier=tier,
            month=self._month,
            sources=tuple(sources),
            records=sum(each.records for each in hot) + sum(each.records for each in packed),
            raw_bytes=raw_bytes,
            stored_bytes=stored_bytes,
            needs_bytes=self._sizes.needs_bytes(raw_bytes),
            frees_bytes=max(stored_bytes - self._sizes.expected_bytes(raw_bytes), 0),
        )


def _joined_days(units: list[_Unit]) -> list[_Unit]:
    """Day files of the same day as one unit: a day is packed whole, or ranges would overlap."""
    joined: list[_Unit] = []
    for unit in units:
        before = joined[-1] if joined else None
        if before is not None and not before.packed and not unit.packed and before.first == unit.first:
            before.sources += unit.sources
            before.raw_bytes += unit.raw_bytes
            before.ready &= unit.ready
            before.in_use |= unit.in_use
        else:
            joined.append(unit)
    return joined


def _groups(units: list[_Unit], enough_bytes: int) -> list[list[_Unit]]:
    """Units that become one file: neighbours, until they are worth it. A packed file that is stands alone."""
    groups: list[list[_Unit]] = []
    group: list[_Unit] = []
    gathered = 0

    def close() -> None:
        nonlocal group, gathered
        if group:
            groups.append(group)
        group, gathered = [], 0

    for unit in units:
        if not unit.ready:
            close()
        elif unit.cold or (unit.packed and unit.raw_bytes >= enough_bytes):
            close()
            groups.append([unit])
        else:
            if gathered + unit.raw_bytes > WARM_RAW_BYTES_MAX:
                close()
            group.append(unit)
            gathered += unit.raw_bytes
            if gathered >= enough_bytes:
                close()
    close()
    return groups
