"""What a check says at its end, in figures; and the counting of them on the way."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

from memstore.clock import Clock
from memstore.errors import StorageError
from memstore.ops.finding import Finding
from memstore.ops.reading_files import StoppedError

FINDINGS_MAX = 10_000
"""Findings that a report lists, some 5 MB; all are told as they are found, and all are counted."""


@dataclass(slots=True)
class Checked:
    """How much was looked at.

    Attributes:
        agents: directories of agents.
        lanes: lanes.
        files: files whose content was looked at.
        bytes: read from them.
        records: lines that were read and are whole; in a quick check, lines that MANIFESTs and lanes count.
    """

    agents: int = 0
    lanes: int = 0
    files: int = 0
    bytes: int = 0
    records: int = 0

    def add(self, other: Checked) -> None:
        """What another part of the check has looked at."""
        self.agents += other.agents
        self.lanes += other.lanes
        self.files += other.files
        self.bytes += other.bytes
        self.records += other.records


@dataclass(slots=True)
class CheckReport:
    """What a check found.

    Attributes:
        root: the store's directory.
        full: whether every byte was read.
        checked: how much was looked at.
        findings: the first `FINDINGS_MAX` of them, in the order in which they were found.
        by_severity: how many there are of each severity.
        records_affected: how many records lie in what is damaged, as far as that is known.
        seconds: how long it took.
        finished: False where it was told to stop.
    """

    root: str
    full: bool
    checked: Checked = field(default_factory=Checked)
    findings: list[Finding] = field(default_factory=list)
    by_severity: Counter[str] = field(default_factory=Counter)
    records_affected: int = 0
    seconds: float = 0.0
    finished: bool = True
    on_finding: Callable[[Finding], None] | None = None

    @property
    def is_clean(self) -> bool:
        """Whether all was looked at and nothing is damaged."""
        return self.finished and not self.damaged and not self.unread

    @property
    def damaged(self) -> int:
        """How many findings are damage."""
        return self.by_severity["damage"]

    @property
    def unread(self) -> int:
        """How many places could not be looked at."""
        return self.by_severity["unread"]

    def add(self, finding: Finding) -> None:
        """One more finding."""
        self.by_severity[finding.severity] += 1
        if finding.severity == "damage":
            self.records_affected += finding.records or 0
        if len(self.findings) < FINDINGS_MAX:
            self.findings.append(finding)
        if self.on_finding is not None:
            self.on_finding(finding)

    def attempt(self, path: str, look: Callable[[], Iterable[Finding]]) -> None:
        """Add what a look finds. What cannot be read is told, and the rest is looked at all the same."""
        try:
            for finding in look():
                self.add(finding)
        except StorageError as error:
            self.add(Finding("unknown_name", "unread", path, str(error)))

    def as_dict(self) -> dict[str, Any]:
        """For machines; docs/CLI.md lists the fields."""
        return {
            **self.summary(),
            "findings": [finding.as_dict() for finding in self.findings],
            "findings_left_out": self.by_severity.total() - len(self.findings),
        }

    def summary(self) -> dict[str, Any]:
        """The figures alone."""
        return {
            "root": self.root,
            "full": self.full,
            "finished": self.finished,
            "clean": self.is_clean,
            "damaged": self.damaged,
            "unread": self.unread,
            "notes": self.by_severity["note"],
            "records_affected": self.records_affected,
            "checked": asdict(self.checked),
            "seconds": round(self.seconds, 3),
        }


def carry_out(report: CheckReport, look: Callable[[], None], *, clock: Clock) -> CheckReport:
    """Look until the end, or until `StoppedError` says to stop; a report that says which, and how long it took."""
    began_s = clock.monotonic_s()
    try:
        look()
    except StoppedError:
        report.finished = False
    report.seconds = clock.monotonic_s() - began_s
    return report
