"""What an import did."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

Progress = Callable[[int, int], None]
"""Called with (done, total): files of a tree, bytes of an NDJSON file; total 0: not known."""


@dataclass(slots=True)
class ImportReport:
    """Counts of one import; filled while it runs.

    Attributes:
        files: files looked at; of an NDJSON import, 1.
        imported: records that are new in the store (in a dry run: that would be).
        already_present: records the store had already.
        damaged: sources (files or lines) that hold no readable record: as many as ``damaged_files``.
        damaged_files: ``{"path", "reason"}`` of each; of a line ``path:number``, 1 the first.
        skipped: files that are not ours: as many as ``skipped_files``.
        skipped_files: ``{"path", "reason"}`` of each.
        records: records read, ``imported + already_present``.
        bytes: bytes of source text read.
        seconds: wall time.
        dry_run: nothing was written.
    """

    files: int = 0
    imported: int = 0
    already_present: int = 0
    damaged: int = 0
    skipped: int = 0
    records: int = 0
    bytes: int = 0
    seconds: float = 0.0
    dry_run: bool = False
    damaged_files: list[dict[str, str]] = field(default_factory=list)
    skipped_files: list[dict[str, str]] = field(default_factory=list)

    def add_damaged(self, path: str, reason: str) -> None:
        """Note a source that could not be read."""
        self.damaged += 1
        self.damaged_files.append({"path": path, "reason": reason})

    def add_skipped(self, path: str, reason: str) -> None:
        """Note a file that is not ours."""
        self.skipped += 1
        self.skipped_files.append({"path": path, "reason": reason})

    def as_dict(self) -> dict[str, Any]:
        """The report as one JSON object."""
        return {name: getattr(self, name) for name in self.__slots__}
