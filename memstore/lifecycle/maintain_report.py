"""What a run of maintenance did, and what it left and why: for people, and for machines."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from memstore.errors import MemstoreError
from memstore.lifecycle.action import Action, Withheld
from memstore.lifecycle.worker import ActionResult

BUSY = Withheld(what="maintenance", why="another process is maintaining this store")
"""What a report says was skipped where another process, or another thread, is at it."""
NO_ROOM = "no room: "
"""How the reason begins why something was skipped for lack of space."""


@dataclass(slots=True)
class MaintainReport:
    """What a run of maintenance did.

    Attributes:
        done: what was carried out, in order.
        skipped: what was not, and why: no room, a hold, another process that was faster.
        failed: what could not be, and the error; what it was to replace is still there.
        finished: False where the time limit ended the run, somebody waits for an erasure or an undelete, or another
            process is maintaining the store.
    """

    done: list[ActionResult] = field(default_factory=list)
    skipped: list[tuple[Action, str]] = field(default_factory=list)
    failed: list[tuple[Action, MemstoreError]] = field(default_factory=list)
    finished: bool = True

    def as_dict(self) -> dict[str, Any]:
        """For machines."""
        return {
            "finished": self.finished,
            "done": [
                {
                    **result.action.as_dict(),
                    "seconds": round(result.seconds, 6),
                    "bytes_before": result.bytes_before,
                    "bytes_after": result.bytes_after,
                    "records_done": result.records,
                }
                for result in self.done
            ],
            "skipped": [{**action.as_dict(), "skipped_because": why} for action, why in self.skipped],
            "failed": [
                {**action.as_dict(), "error": f"{type(error).__name__}: {error}"} for action, error in self.failed
            ],
        }
