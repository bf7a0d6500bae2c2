"""A thread that works for another one, which Ctrl-C may interrupt while it waits.

Python raises KeyboardInterrupt in the main thread between any two instructions, those of `threading.Condition` too: a
wait for a future, or for an event, that is interrupted twice can leave their lock taken, and then both threads wait for
ever. So what the two have in common is queues and a lock that are each one call of C.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

_INTERRUPT_AGAIN_S = 0.05
_LOOK_FOR_SIGNALS_S = 0.2
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
        self._outcomes: SimpleQueue[tuple[Any, BaseException | None]] = SimpleQueue()
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
            value, error = self._outcome()
        except BaseException:
            self.stop()
            raise
        if error is not None:
            try:
                raise error
            finally:
                del error  # its traceback has this frame
        result: T = value
        return result

    def _outcome(self) -> tuple[Any, BaseException | None]:
        # A signal that comes just before the wait does not end it: it is looked for now and then.
        while True:
            try:
                return self._outcomes.get(timeout=_LOOK_FOR_SIGNALS_S)
            except Empty:
                continue

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


def _carry_out(
    work: SimpleQueue[Callable[[], Any] | None],
    outcomes: SimpleQueue[tuple[Any, BaseException | None]],
    ended: _Ended,
) -> None:
    try:
        for act in iter(work.get, None):
            try:
                outcomes.put((act(), None))
            except BaseException as error:  # noqa: BLE001 - raised by who waits
                outcomes.put((None, error))
            del act
    finally:
        ended.is_so = True
        ended.lock.release()
