"""Where time comes from: passed in, so that tests can turn it.

Times are integers of microseconds since 1970-01-01 UTC throughout memstore.
"""

from __future__ import annotations

import secrets
import time
from typing import Protocol

MICROSECONDS_PER_SECOND = 1_000_000
_BOOT_ID_FILE = "/proc/sys/kernel/random/boot_id"


class Clock(Protocol):
    """Wall time for stamps, monotonic time for waits, time since boot to see whether wall time can be believed."""

    def now_us(self) -> int:
        """Microseconds since 1970 UTC; may jump in either direction."""
        ...

    def monotonic_s(self) -> float:
        """Seconds that only go forward."""
        ...

    def boot_s(self) -> float:
        """Seconds since this machine was started, those it slept included; comparable within one `boot_id`."""
        ...

    def boot_id(self) -> str:
        """Which start of which machine this is; empty where the platform does not say."""
        ...


class WallClock:
    """The machine's clocks."""

    def now_us(self) -> int:
        """Microseconds since 1970 UTC."""
        return time.time_ns() // 1000

    def monotonic_s(self) -> float:
        """Seconds that only go forward."""
        return time.monotonic()

    def boot_s(self) -> float:
        """Seconds since the machine was started, those it slept included."""
        return time.clock_gettime(time.CLOCK_BOOTTIME)

    def boot_id(self) -> str:
        """What the kernel drew at random when it started; empty where there is no such kernel."""
        try:
            with open(_BOOT_ID_FILE, encoding="ascii") as file:
                return file.read().strip()
        except OSError:
            return ""


class ManualClock:
    """A clock that stands still until it is moved. Not thread-safe; for tests and simulations.

    Each is a machine of its own, started when it was made, unless it is given the ``boot_id`` of another.
    """

    def __init__(self, now_us: int, *, boot_id: str | None = None) -> None:
        self._now_us = now_us
        self._monotonic_s = 0.0
        self._boot_id = secrets.token_hex(8) if boot_id is None else boot_id

    def now_us(self) -> int:
        """The time it was last set to."""
        return self._now_us

    def monotonic_s(self) -> float:
        """Seconds advanced so far."""
        return self._monotonic_s

    def boot_s(self) -> float:
        """Seconds advanced so far."""
        return self._monotonic_s

    def boot_id(self) -> str:
        """What it was given, or drew."""
        return self._boot_id

    def advance(self, seconds: float) -> None:
        """Move all clocks forward."""
        self._now_us += int(seconds * MICROSECONDS_PER_SECOND)
        self._monotonic_s += seconds

    def step(self, seconds: float) -> None:
        """Step the wall clock only, as an operator or NTP does; may be negative."""
        self._now_us += int(seconds * MICROSECONDS_PER_SECOND)
