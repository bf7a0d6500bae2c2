"""An outcome that one thread waits for and another hands over, be it a value or an error.

Python raises KeyboardInterrupt in the main thread between any two instructions, those of `threading.Condition` too: a
wait for a future, or for an event, that is interrupted twice can leave their lock taken, and then both threads wait for
ever. So what the two have in common is a queue, each use of which is one call of C. And a signal that comes just before
the main thread begins to wait, or that the system gave to another thread, does not wake it: it looks up now and then.
"""

from __future__ import annotations

from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Generic, TypeVar

_LOOK_FOR_SIGNALS_S = 0.2
T = TypeVar("T")


class Outcome(Generic[T]):
    """How a call ended."""

    __slots__ = ("_error", "_value")

    def __init__(self, act: Callable[[], T]) -> None:
        self._error: BaseException | None = None
        try:
            self._value = act()
        except BaseException as error:  # noqa: BLE001 - raised by who takes the outcome
            self._error = error

    def take(self) -> T:
        """What the call returned; raises what it raised. Once."""
        if self._error is None:
            return self._value
        error, self._error = self._error, None
        try:
            raise error
        finally:
            del error  # its traceback has this frame


class Handover(Generic[T]):
    """Outcomes of calls, in order. One thread carries out, one waits."""

    def __init__(self) -> None:
        self._outcomes: SimpleQueue[Outcome[T]] = SimpleQueue()

    def carry_out(self, act: Callable[[], T]) -> None:
        """Call, and hand over how it ended. Raises nothing."""
        self._outcomes.put(Outcome(act))

    def wait(self) -> Outcome[T]:
        """How the next call ended.

        Raises:
            KeyboardInterrupt: within a fraction of a second after Ctrl-C; the call goes on.
        """
        while True:
            try:
                return self._outcomes.get(timeout=_LOOK_FOR_SIGNALS_S)
            except Empty:
                continue
