"""Microseconds to text and back: ISO 8601 stamps, id stamps, days, and what people type.

Formatting through ``datetime`` costs 2 µs; with the second's prefix cached it is a third of that (FACTS: cost of a
write), and records arrive many to a second.
"""

from __future__ import annotations

import datetime as dt
import re
from functools import lru_cache

from memstore.errors import UsageError

_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_US_PER_UNIT = {
    "s": 1_000_000,
    "m": 60_000_000,
    "min": 60_000_000,
    "h": 3_600_000_000,
    "d": 86_400_000_000,
    "w": 604_800_000_000,
}
_AGO = re.compile(r"(\d{1,9})\s*(s|min|m|h|d|w)")
_ISO_BASIC_DAY = re.compile(r"\d{8}")
US_PER_DAY = _US_PER_UNIT["d"]
_INTEGER_US_MIN = 10**14
"""Smaller integers (before March 1973 as microseconds) are refused: they are seconds or milliseconds of today."""
YEAR_10000_US = 253_402_300_800_000_000
"""First microsecond that no longer fits the four-digit year of ids and stamps."""


_TWO_DIGITS = tuple(f"{number:02d}" for number in range(60))


@lru_cache(maxsize=4096)
def _second_text(second: int) -> tuple[str, str]:
    """``("YYYY-MM-DDTHH:MM:SS", "YYYYMMDD_HHMMSS")`` of a whole second since 1970 UTC."""
    day, rest = divmod(second, 86400)
    hour, rest = divmod(rest, 3600)
    minute, rest = divmod(rest, 60)
    dashed, plain = _day_texts(day)
    h, m, s = _TWO_DIGITS[hour], _TWO_DIGITS[minute], _TWO_DIGITS[rest]
    return f"{dashed}T{h}:{m}:{s}", f"{plain}_{h}{m}{s}"


@lru_cache(maxsize=4096)
def _day_texts(day: int) -> tuple[str, str]:
    """``("YYYY-MM-DD", "YYYYMMDD")`` of a day since 1970."""
    dashed = (_EPOCH + dt.timedelta(days=day)).date().isoformat()
    return dashed, dashed.replace("-", "")


def iso_and_id_stamp(time_us: int) -> tuple[str, str]:
    """The two texts of one clock reading.

    Returns:
        ``("2025-01-15T14:30:00.123456Z", "20250115_143000_123456")``, both fixed-width.
    """
    second, micro = divmod(time_us, 1_000_000)
    iso, stamp = _second_text(second)
    fraction = f"{micro:06d}"
    return f"{iso}.{fraction}Z", f"{stamp}_{fraction}"


def iso_text(time_us: int) -> str:
    """``2025-01-15T14:30:00.123456Z``."""
    return iso_and_id_stamp(time_us)[0]


def day_text(time_us: int) -> str:
    """The UTC day as ``YYYYMMDD``."""
    return _second_text(time_us // 1_000_000)[1][:8]


@lru_cache(maxsize=4096)
def day_start_us(day: str) -> int:
    """First microsecond of a UTC day given as ``YYYYMMDD``.

    Raises:
        ValueError: not a day of the calendar.
    """
    if not _ISO_BASIC_DAY.fullmatch(day):
        raise ValueError(f"{day!r} is not a day written YYYYMMDD")
    moment = dt.datetime(int(day[:4]), int(day[4:6]), int(day[6:8]), tzinfo=dt.UTC)
    return (moment - _EPOCH).days * US_PER_DAY


def id_stamp_to_us(stamp: str) -> int:
    """``"20250115_143000_123456"`` back to microseconds.

    Raises:
        ValueError: not a time of the calendar.
    """
    clock = int(stamp[9:15])  # HHMMSS
    seconds = clock - 40 * (clock // 100) - 2400 * (clock // 10_000)
    return day_start_us(stamp[:8]) + seconds * 1_000_000 + int(stamp[16:22])


def datetime_to_us(moment: dt.datetime, *, assume_tz: dt.tzinfo = dt.UTC) -> int:
    """Microseconds of a datetime; one without a zone is read as ``assume_tz`` (UTC)."""
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=assume_tz)
    return (moment - _EPOCH) // dt.timedelta(microseconds=1)


def parse_time(value: dt.datetime | str | int, *, now_us: int, assume_tz: dt.tzinfo = dt.UTC) -> int:
    """What people and programs give as a time, in microseconds.

    Accepts a datetime, ISO 8601 text (``2025-01-15``, ``2025-01-15T14:30:00+02:00``, ``20250115``), an age before
    ``now_us`` (``90s``, ``15min``, ``12h``, ``7d``, ``4w``), or microseconds as an int. Text without a zone is UTC.

    Raises:
        UsageError: none of these.
    """
    if isinstance(value, bool):
        raise UsageError(f"{value!r} is not a time")
    if isinstance(value, int):
        if 0 < value < _INTEGER_US_MIN:
            raise UsageError(
                f"{value} microseconds is {iso_text(value)}: seconds or milliseconds? Give microseconds, or text"
            )
        return value
    if isinstance(value, dt.datetime):
        return datetime_to_us(value, assume_tz=assume_tz)
    if not isinstance(value, str):
        raise UsageError(f"a time is a datetime, ISO 8601 text, or an age like '7d', not {type(value).__name__}")
    text = value.strip()
    age = _AGO.fullmatch(text)
    if age:
        return now_us - int(age[1]) * _US_PER_UNIT[age[2]]
    try:
        return datetime_to_us(dt.datetime.fromisoformat(text), assume_tz=assume_tz)
    except ValueError as error:
        raise UsageError(
            f"{value!r} is not a time: use ISO 8601 like '2025-01-15T14:30:00Z' or an age like '7d', '12h', '15min'"
        ) from error
