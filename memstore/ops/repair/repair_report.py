"""What a repair did, or would do: for people, and for machines."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from memstore.errors import MemstoreError
from memstore.ops.repair.repair_step import RepairStep
from memstore.ops.report import CheckReport


@dataclass(slots=True)
class RepairReport:
    """What a repair did, or would do.

    Attributes:
        steps: in order.
        before: what was found at the beginning.
        after: what is found now; None for a plan.
        quarantine: the directory in which the old files lie; empty where none was set aside.
        failed: what could not be done, and why; the next repair tries it again.
        copies: what people call the copies that good bytes are taken from, in the order in which they are asked.
        copies_missing: of each copy that the store knows of and that cannot be asked, why.
    """

    before: CheckReport
    steps: list[RepairStep] = field(default_factory=list)
    after: CheckReport | None = None
    quarantine: str = ""
    failed: list[tuple[str, MemstoreError]] = field(default_factory=list)
    copies: list[str] = field(default_factory=list)
    copies_missing: list[str] = field(default_factory=list)

    @property
    def withheld(self) -> list[RepairStep]:
        """What a person has to see to."""
        return [step for step in self.steps if step.kind == "withheld"]

    @property
    def records_lost(self) -> int:
        """How many records could not be saved, as far as that is known."""
        return sum(step.records_lost for step in self.steps)

    @property
    def is_clean(self) -> bool:
        """Whether nothing is damaged any more."""
        return self.after is not None and self.after.is_clean and not self.failed

    def as_dict(self) -> dict[str, Any]:
        """For machines; docs/CLI.md lists the fields."""
        return {
            "copies": self.copies,
            "copies_missing": self.copies_missing,
            "before": self.before.summary(),
            "steps": [step.as_dict() for step in self.steps],
            "records_lost": self.records_lost,
            "withheld": len(self.withheld),
            "failed": [{"path": path, "error": f"{type(error).__name__}: {error}"} for path, error in self.failed],
            "quarantine": self.quarantine,
            "after": None if self.after is None else self.after.as_dict(),
        }
