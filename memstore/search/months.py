"""Months of record time, as partitions have them. Pure."""

from __future__ import annotations

import datetime as dt
from functools import lru_cache

from memstore.timestamps import day_start_us, day_text


def month_of(time_us: int) -> str:
    """``YYYYMM``, UTC."""
    return day_text(time_us)[:6]


@lru_cache(maxsize=1024)
def month_span_us(month: str) -> tuple[int, int]:
    """First microsecond of a month, and the first behind it."""
    return day_start_us(f"{month}01"), day_start_us(f"{following(month)}01") if month != "999912" else _YEAR_10000


def following(month: str) -> str:
    """The next month."""
    first = dt.date(int(month[:4]), int(month[4:6]), 1)
    return (first + dt.timedelta(days=32)).strftime("%Y%m")


_YEAR_10000 = 253_402_300_800_000_000
