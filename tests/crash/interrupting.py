"""Ctrl-C wherever it can come: KeyboardInterrupt raised at the n-th such place that a call passes.

CPython 3.11 looks for signals where a function begins, when one of C has returned, and at the end of each round of a
loop; a profiler is told of the first two. (A tracer is told of lines, between a ``with`` and its exit too, where no
signal is ever heard.)
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import memstore

_PLACES = (os.path.dirname(memstore.__file__) + os.sep, os.path.dirname(os.__file__) + os.sep)


class Interrupter:
    """Counts the places of memstore and the standard library that the calling thread passes, and interrupts at one.

    Attributes:
        passed: how many.
    """

    def __init__(self, at: int | None = None) -> None:
        self.passed = 0
        self._at = at

    def run(self, call: Callable[[], Any]) -> bool:
        """Call; whether it was interrupted."""
        sys.setprofile(self._hear)
        try:
            call()
        except KeyboardInterrupt:
            return True
        except RuntimeError as error:  # what Python's own Condition makes of one, as `Thread.start` uses it
            if not isinstance(error.__context__, KeyboardInterrupt):
                raise
            return True
        finally:
            sys.setprofile(None)
        return False

    def _hear(self, frame: FrameType, event: str, _argument: Any) -> None:
        # Not inside a __del__: Python tells what is raised there and goes on, as if nobody had pressed anything.
        code = frame.f_code
        if event in ("call", "c_return") and code.co_filename.startswith(_PLACES) and code.co_name != "__del__":
            self.passed += 1
            if self.passed == self._at:
                raise KeyboardInterrupt
