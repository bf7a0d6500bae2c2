"""A bell that wakes one thread.

No `threading.Event`: Ctrl-C in the thread that sets one can leave its lock taken, and who waits for it waits for ever
(`memstore.handover` has more of it).
"""

from __future__ import annotations

from queue import Empty, SimpleQueue


class Bell:
    """Rung by any thread, heard by one. Rings before the next wait count as one."""

    def __init__(self) -> None:
        self._rings: SimpleQueue[None] = SimpleQueue()

    def ring(self) -> None:
        """Wake who waits, or who waits next."""
        self._rings.put(None)

    def wait(self, timeout_s: float) -> None:
        """Return when it rings, or after a time."""
        try:
            self._rings.get(timeout=timeout_s)
            while True:
                self._rings.get_nowait()
        except Empty:
            return
