"""Where time comes from: passed in, so that tests can turn it.

Times are integers of microseconds since 1970-01-01 UTC throughout memstore.
"""

from __future__ import annotations

import time
from typing import Protocol

MICROSECONDS_PER_SECOND = 1_000_000


class Clock(Protocol):
    """Wall time for stamps, monotonic time for waits."""

    def now_us(self) -> int:
        """Microseconds since 1970 UTC; may jump in either direction."""
        ...

    def monotonic_s(self) -> float:
        """Seconds that only go forward."""
        ...


class WallClock:
    """The machine's clocks."""

    def now_us(self) -> int:
        """Microseconds since 1970 UTC."""
        return time.time_ns() // 1000

    def monotonic_s(self) -> float:
        """Seconds that only go forward."""
        return time.monotonic()


class ManualClock:
    """A clock that stands still until it is moved. Not thread-safe; for tests and simulations."""

    def __init__(self, now_us: int) -> None:
        self._now_us = now_us
        self._monotonic_s = 0.0

    def now_us(self) -> int:
        """The time it was last set to."""
        return self._now_us

    def monotonic_s(self) -> float:
        """Seconds advanced so far."""
        return self._monotonic_s

    def advance(self, seconds: float) -> None:
        """Move both clocks forward."""
        self._now_us += int(seconds * MICROSECONDS_PER_SECOND)
        self._monotonic_s += seconds

    def step(self, seconds: float) -> None:
        """Step the wall clock only, as an operator or NTP does; may be negative."""
        self._now_us += int(seconds * MICROSECONDS_PER_SECOND)
