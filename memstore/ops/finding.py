"""What a check finds: one place of one file, why it is not as it should be, and what a repair would do about it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

Severity = Literal["damage", "unread", "note"]
"""``damage``: bytes or files are not what was written. ``unread``: it could not be looked at, so nobody knows.
``note``: as a crash, a kill or maintenance under way leaves it; the store puts it right by itself."""

Kind = Literal[
    "store_file",
    "holds",
    "forgotten",
    "lifecycle_file",
    "schedule",
    "reads",
    "consumer",
    "shard",
    "archive",
    "lane",
    "manifest",
    "day_file",
    "packed_file",
    "seek_table",
    "record",
    "orphan",
    "temporary",
    "misplaced",
    "unknown_name",
    "replica",
    "search_index",
]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was found. Two that are equal are the same thing.

    Attributes:
        kind: what it concerns.
        severity: see `Severity`.
        path: the file or directory.
        offset_bytes: where in it; 0 where all of it is concerned.
        length_bytes: how much of it; 0 where it is missing, or no bytes of its own are concerned.
        records: how many records are affected; None where nobody can tell.
        agent: whose; None where it concerns no single agent, or nobody can tell.
        reason: what is not as it should be.
        repair: what `memstore repair` would do, or what puts it right without one; empty where nothing has to be done.
    """

    kind: Kind
    severity: Severity
    path: str
    reason: str
    offset_bytes: int = 0
    length_bytes: int = 0
    records: int | None = 0
    agent: str | None = None
    repair: str = ""

    @property
    def sentence(self) -> str:
        """In words."""
        place = self.path
        if self.length_bytes:
            place = f"{self.path}: bytes {self.offset_bytes} to {self.offset_bytes + self.length_bytes}"
        return f"{place}: {self.reason}"

    def as_dict(self) -> dict[str, Any]:
        """For machines."""
        return asdict(self)
