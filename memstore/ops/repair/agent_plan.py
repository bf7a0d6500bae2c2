"""What is to become of one agent, as a value: what is left of its index and its files, and what follows from that."""

from __future__ import annotations

import os
from dataclasses import dataclass, field

from memstore.ops.repair.salvage import FileSalvage
from memstore.ops.repair.salvaged_index import SalvagedIndex


@dataclass(slots=True)
class AgentPlan:
    """What is left of an agent, and what is to be done with it.

    Attributes:
        agent: whose.
        directory: its directory.
        index: what is left of its MANIFEST.
        files: every file of it that was looked at.
        unmerged: tokens of lanes whose merge is taken back: their slices are merged once more.
        doubled: by path, what lines begin with that are kept elsewhere.
        repeated: by path, how many lines stand in the file twice.
        hidden: ids that must not be seen.
        strangers: paths of files that hold nothing of their own and are set aside.
        next_version: above every version there is.
        untold: how many records were forgotten by acts of which nobody knows whose they are.
        is_incomplete: whether something of the index is not known, be it that its lines are damaged or gone.
        other: a directory of the agent in which nobody looks for it; empty where there is none.
    """

    agent: str
    directory: str
    index: SalvagedIndex
    files: list[FileSalvage] = field(default_factory=list)
    unmerged: frozenset[str] = frozenset()
    doubled: dict[str, set[bytes]] = field(default_factory=dict)
    repeated: dict[str, int] = field(default_factory=dict)
    hidden: frozenset[str] = frozenset()
    strangers: list[str] = field(default_factory=list)
    next_version: int = 1
    untold: int = 0
    is_incomplete: bool = False
    other: str = ""

    def can_restore(self, each: FileSalvage) -> bool:
        """Whether a file can be written again just as it was."""
        return (
            each.listed
            and not self.is_elsewhere(each)
            and not (each.can_stay or each.lost or each.lost_repeats or each.changed)
            and not self.stands_twice(each)
            and bool(each.pieces)
        )

    def is_kept(self, each: FileSalvage) -> bool:
        """Whether a file stays as it is, or as it was."""
        if self.is_elsewhere(each):
            return False
        return (each.can_stay and not self.stands_twice(each)) or self.can_restore(each)

    def stands_twice(self, each: FileSalvage) -> int:
        """How many lines of a file are kept elsewhere, or once too often in it."""
        return len(self.doubled.get(each.path, ())) + self.repeated.get(each.path, 0)

    def is_elsewhere(self, each: FileSalvage) -> bool:
        """Whether a file lies where nobody looks for it, so that what is in it has to come into another."""
        return bool(self.other) and each.path.startswith(self.other + os.sep)

    @property
    def needs_index(self) -> bool:
        """Whether the MANIFEST has to be written anew."""
        return (
            self.is_incomplete
            or bool(self.other)
            or bool(self.index.mended)
            or bool(self.unmerged)
            or not self.index.is_there
            or self.hidden != self.index.manifest.hidden.ids
            or any(not self.is_kept(each) or each.changed for each in self.files)
        )

    @property
    def is_nothing(self) -> bool:
        """Whether there is nothing to do."""
        return not self.needs_index and not self.strangers and not any(map(self.can_restore, self.files))
