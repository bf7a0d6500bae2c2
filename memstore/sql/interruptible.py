"""A thread that works for another one, which Ctrl-C may interrupt while it waits.

What the two have in common is queues and a lock that are each one call of C (`memstore.handover` has the reason).
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, TypeVar

from memstore.handover import Handover

_INTERRUPT_AGAIN_S = 0.05
T = TypeVar("T")


class InterruptibleThread:
    """Does one thing after the other. Used by one thread; it ends with `stop`, or when it is let go of.

    Args:
        name: of the thread.
        interrupt: ends what it is at, if that hears it.
    """

    def __init__(self, name: str, *, interrupt: Callable[[], None]) -> None:
        self._interrupt = interrupt
        self._work: SimpleQueue[Callable[[], Any] | None] = SimpleQueue()
        self._outcomes: Handover[Any] = Handover()
        self._ended = _Ended()
        self._thread = threading.Thread(
            target=_carry_out, args=(self._work, self._outcomes, self._ended), name=name, daemon=True
        )
        self._thread.start()
        weakref.finalize(self, self._work.put, None)

    def call(self, work: Callable[[], T]) -> T:
        """What ``work`` returns or raises. Whatever interrupts the wait for it stops the thread.

        Raises:
            RuntimeError: it has been stopped.
        """
        if self._ended.is_so:
            raise RuntimeError(f"thread {self._thread.name} has been stopped")
        self._work.put(work)
        try:
            outcome = self._outcomes.wait()
        except BaseException:
            self.stop()
            raise
        result: T = outcome.take()
        return result

    def stop(self) -> None:
        """Return when the thread has ended. Idempotent.

        An interrupt that comes before the work has begun may be forgotten, so it is repeated until the thread hears;
        and whoever presses Ctrl-C once more meanwhile does not leave it at work, or nothing would ever end it.
        """
        self._work.put(None)
        while not self._ended.is_so:
            try:
                self._interrupt()
                self._ended.lock.acquire(timeout=_INTERRUPT_AGAIN_S)
            except KeyboardInterrupt:
                continue


class _Ended:
    """Whether a thread has ended, and a lock that it holds until then."""

    def __init__(self) -> None:
        self.is_so = False
        self.lock = threading.Lock()
        self.lock.acquire()


def _carry_out(work: SimpleQueue[Callable[[], Any] | None], outcomes: Handover[Any], ended: _Ended) -> None:
    try:
        for act in iter(work.get, None):
            outcomes.carry_out(act)
            del act
    finally:
        ended.is_so = True
        ended.lock.release()
