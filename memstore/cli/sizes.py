"""Sizes and spans of time for people."""

from __future__ import annotations

_UNITS = ("B", "kB", "MB", "GB", "TB", "PB")
_THOUSAND = 1000.0
_YEAR_DAYS = 365.25
_LONG_DAYS = 3 * _YEAR_DAYS


def size(size_bytes: float) -> str:
    """``1.2 GB``, ``340 kB``, ``12 B``: decimal, as disks are sold."""
    value, unit = float(size_bytes), 0
    while abs(value) >= _THOUSAND and unit < len(_UNITS) - 1:
        value /= _THOUSAND
        unit += 1
    return f"{value:.0f} {_UNITS[unit]}" if unit == 0 or abs(value) >= 100 else f"{value:.1f} {_UNITS[unit]}"


def days(number: float) -> str:
    """``12 days``, ``1 day``, ``40 years``."""
    if number >= _LONG_DAYS:
        return f"{number / _YEAR_DAYS:,.0f} years"
    return f"{number:,.0f} day{'' if round(number) == 1 else 's'}"
