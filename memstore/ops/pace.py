"""Do no more than so many bytes a second, and stop when asked to."""

from __future__ import annotations

from collections.abc import Callable

from memstore.clock import Clock
from memstore.ops.reading_files import StoppedError

BURST_S = 1.0
"""What was not used while something else took its time may be caught up by so much, and no more."""

Wait = Callable[[float], bool]
"""Waits so many seconds, or until it is told to stop; whether it was."""


class Pace:
    """A budget of bytes that grows with time. Used by one thread.

    Args:
        bytes_per_s: how fast; 0: as fast as it goes.
        clock: whose seconds.
        wait: see `Wait`.
    """

    def __init__(self, bytes_per_s: int, *, clock: Clock, wait: Wait) -> None:
        self._bytes_per_s = bytes_per_s
        self._clock = clock
        self._wait = wait
        self._free_at_s = clock.monotonic_s()

    def spend(self, length: int) -> None:
        """Wait until so many bytes may be read.

        Raises:
            StoppedError: it was told to stop.
        """
        pause_s = 0.0
        if self._bytes_per_s:
            now_s = self._clock.monotonic_s()
            self._free_at_s = max(self._free_at_s, now_s - BURST_S)
            pause_s = max(self._free_at_s - now_s, 0.0)
            self._free_at_s += length / self._bytes_per_s
        if self._wait(pause_s):
            raise StoppedError
