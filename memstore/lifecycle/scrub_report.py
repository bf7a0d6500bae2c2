"""What a scrub found: what the job that runs it is told. The scrub itself is `memstore.ops.scrub`."""

from __future__ import annotations

from dataclasses import dataclass, field

from memstore.errors import StorageError

DAMAGE_KEPT_MAX = 100
"""Errors that a report holds; all of them are logged and counted."""


@dataclass(slots=True)
class ScrubReport:
    """What a run found.

    Attributes:
        files: how many were read, those that are damaged too.
        bytes: so many of them.
        damage: how many pieces do not verify, and files or MANIFESTs that cannot be read at all.
        errors: the first of them.
        finished: False where it was stopped, or another process is at it.
    """

    files: int = 0
    bytes: int = 0
    damage: int = 0
    errors: list[StorageError] = field(default_factory=list)
    finished: bool = False
