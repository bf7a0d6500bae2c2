"""A question that Ctrl-C can be pressed during: asked in a thread, and left to itself when it is given up."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


class GivenUpError(Exception):
    """Ctrl-C was pressed; the thread goes on and its answer is dropped."""


def cancellable(ask: Callable[[], T]) -> T:
    """What the call gives, in the main thread's time.

    Raises:
        GivenUpError: Ctrl-C.
        BaseException: whatever the call raised.
    """
    answers: list[T] = []
    errors: list[BaseException] = []
    done = threading.Event()

    def run() -> None:
        try:
            answers.append(ask())
        except BaseException as error:  # noqa: BLE001 - handed to whoever waits
            errors.append(error)
        finally:
            done.set()

    try:
        threading.Thread(target=run, name="memstore-question", daemon=True).start()
        done.wait()
    except KeyboardInterrupt:
        raise GivenUpError from None
    if errors:
        raise errors[0]
    return answers[0]
