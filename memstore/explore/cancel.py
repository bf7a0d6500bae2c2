"""A question that Ctrl-C can be pressed during: asked in a thread, and left to itself when it is given up."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

from memstore.handover import Handover

T = TypeVar("T")


class GivenUpError(Exception):
    """Ctrl-C was pressed; the thread goes on and its answer is dropped."""


def cancellable(ask: Callable[[], T]) -> T:
    """What the call gives, in the main thread's time.

    Raises:
        GivenUpError: Ctrl-C.
        BaseException: whatever the call raised.
    """
    answer: Handover[T] = Handover()
    try:
        threading.Thread(target=answer.carry_out, args=(ask,), name="memstore-question", daemon=True).start()
        outcome = answer.wait()
    except KeyboardInterrupt:
        raise GivenUpError from None
    return outcome.take()
