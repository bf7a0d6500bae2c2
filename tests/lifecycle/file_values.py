"""Files of an agent as values, for tests of what decides: no file behind them."""

from __future__ import annotations

from memstore.format.manifest import Frame, KindCount, PackedFile, TrashedFile
from memstore.lifecycle.packing import HotFile
from memstore.timestamps import US_PER_DAY, day_start_us, iso_and_id_stamp

KIB = 1024
HOUR_US = US_PER_DAY // 24
NOON_US = US_PER_DAY // 2


def at(day: str, hours: float = 0.0) -> int:
    """A time of a day ``YYYYMMDD``, in microseconds."""
    return day_start_us(day) + int(hours * HOUR_US)


def id_of(agent: str, time_us: int, number: int = 1) -> str:
    """A memory id."""
    return f"{agent}_{iso_and_id_stamp(time_us)[1]}{number:016x}"


def hot(day: str, *, bytes: int = 1000, records: int = 3, ingested: int | None = None) -> HotFile:  # noqa: A002
    """A day file with records from one to the other end of its day, merged at its end unless said otherwise."""
    start = day_start_us(day)
    end = start + US_PER_DAY - 1
    return HotFile(day, bytes, records, start, end, end if ingested is None else ingested)


def kind(
    first: int, last: int, records: int = 10, memory_type: str = "INTERACTION", importance: str = "LOW"
) -> KindCount:
    """Records of one type and importance."""
    return KindCount(memory_type, importance, records, first, last)


def packed(
    name: str, *kinds: KindCount, ingested: int | None = None, raw_bytes: int = 10 * KIB, own=None, **fields
) -> PackedFile:
    """A packed file of one frame, ingested when its last record was made unless said otherwise."""
    first, last = min(each.t_min for each in kinds), max(each.t_max for each in kinds)
    records = sum(each.records for each in kinds)
    frame = Frame(raw_bytes // 10, raw_bytes, records, first, last, last if ingested is None else ingested, "0" * 16)
    return PackedFile(
        file=name, size=raw_bytes // 10 + 100, xxh3="0" * 16, frames=[frame], kinds=list(kinds), own=own, **fields
    )


def trashed(file: PackedFile, purge_at: int) -> TrashedFile:
    """A file of the trash."""
    return TrashedFile(packed=file, at=purge_at - 2 * US_PER_DAY, purge_at=purge_at, reason="retention")
