"""Stop when asked to: signals wake a waiting main thread through a pipe, and touch no lock on their way."""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Mapping
from types import FrameType, TracebackType
from typing import Any, Self

_STOPPING = (signal.SIGTERM, signal.SIGINT)


class StopSignals:
    """For the main thread, in a ``with``: SIGTERM and SIGINT end `wait`; a second one ends the process at once.

    A handler must not set an event: the main thread could be holding its lock at that moment. And Python runs it in the
    main thread, which goes on sleeping where the kernel has another thread take the signal: so the pipe is what the
    interpreter itself writes to, at once (`signal.set_wakeup_fd`).

    Attributes:
        reason: what ended the wait: ``SIGTERM``, ``SIGINT``, or what was given to `wake`; None while nothing has.
    """

    def __init__(self) -> None:
        self.reason: str | None = None
        self._read_end, self._write_end = -1, -1
        self._before: Mapping[signal.Signals, Any] = {}
        self._wakeup_before = -1

    def __enter__(self) -> Self:
        self._read_end, self._write_end = os.pipe()
        os.set_blocking(self._write_end, False)
        self._wakeup_before = signal.set_wakeup_fd(self._write_end, warn_on_full_buffer=False)
        self._before = {number: signal.signal(number, self._on_signal) for number in _STOPPING}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._wakeup_before)
        os.close(self._read_end)
        os.close(self._write_end)

    def wait(self) -> str:
        """Sleep until a signal comes or another thread calls `wake`; the reason."""
        while self.reason is None:
            self._sleep(None)
        return self.reason

    def pause(self, seconds: float) -> str | None:
        """Sleep so long, or until a signal comes or another thread calls `wake`; the reason, None for none."""
        if self.reason is None:
            self._sleep(seconds)
        return self.reason

    def wake(self, reason: str) -> None:
        """End the wait, from any thread."""
        self.reason = self.reason or reason
        os.write(self._write_end, b"\n")

    def _sleep(self, seconds: float | None) -> None:
        if select.select([self._read_end], [], [], seconds)[0]:
            os.read(self._read_end, 4096)

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        for each in _STOPPING:  # the next one acts as if nobody had asked to be told
            signal.signal(each, signal.SIG_DFL)
        self.wake(signal.Signals(number).name)
