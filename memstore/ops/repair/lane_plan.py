"""What is to become of one lane, as a value; and in words."""

from __future__ import annotations

import os
from dataclasses import dataclass, field

import xxhash

from memstore.format.lane import Slice
from memstore.format.names import lane_token
from memstore.fs.storage import StorageFile
from memstore.ops.repair.repair_step import RepairStep, sources_of
from memstore.ops.repair.salvage_lane import LaneSalvage, Load


@dataclass(slots=True)
class LanePlan:
    """What is to become of one lane.

    Attributes:
        path: where it lies.
        salvage: what is left of it.
        slices: good slices that are not merged yet.
        lines: whole lines without a commit line that may be kept, by agent and day.
        is_written: whether a living process writes it: then it is left alone.
        file: the lane, open and locked, from which slices are still to be read.
        is_for_consumers: whether all of it is merged and it waits for consumers alone.
        erased: how many of its lines were erased while it could not be reached.
        lost_from: the store has it no more, and this file of the second copy is it; empty for a lane that is there.
    """

    path: str
    salvage: LaneSalvage = field(default_factory=LaneSalvage)
    slices: list[tuple[Slice, Load]] = field(default_factory=list)
    lines: dict[tuple[str, str], list[bytes]] = field(default_factory=dict)
    is_written: bool = False
    file: StorageFile | None = None
    is_for_consumers: bool = False
    erased: int = 0
    lost_from: str = ""

    def close(self) -> None:
        """Let go of the lane. Idempotent."""
        if self.file is not None:
            self.file.close()

    @property
    def token(self) -> str:
        """How MANIFESTs cite it."""
        return lane_token(os.path.basename(self.path))

    @property
    def adopted_token(self) -> str:
        """The token of the lane for lines that had lost their commit line: the same at each attempt."""
        return xxhash.xxh3_128_hexdigest(f"adopted from {self.token}".encode())

    @property
    def writer(self) -> int:
        """The writer number in its name."""
        return int(os.path.basename(self.path)[:8], 16)

    @property
    def records(self) -> int:
        """How many are saved."""
        return sum(item.records for item, _ in self.slices) + sum(map(len, self.lines.values()))

    @property
    def step(self) -> RepairStep:
        """In words."""
        if self.is_written:
            sentence = f"{self.path} is damaged, and a living process writes it: end that, and repair again."
            return RepairStep("withheld", self.path, sentence)
        if self.is_for_consumers:
            sentence = (
                f"Set {self.path} aside: it is merged, and no record is lost. What waited for it (an index, a backup) "
                "does without: a moment between two backups may not be restored whole."
            )
            return RepairStep("release_lane", self.path, sentence)
        if self.lost_from:
            sentence = f"Take {self.records} records from {self.lost_from}, which the store has lost unmerged."
            return RepairStep("restore_lane", self.path, sentence, records_kept=self.records)
        lost = sum(each.records or 0 for each in self.salvage.lost)
        sentence = f"Release {self.path}: {self.records} records that are not merged yet"
        if self.salvage.mended:
            sentence += f", {self.salvage.mended} place(s) put right"
        if self.salvage.copied:
            sentence += f" ({sources_of(self.salvage.copied)})"
        unknown = any(each.records is None for each in self.salvage.lost)
        sentence += (
            f"; {lost}{' and an unknown number of others' if unknown else ''} are lost." if lost or unknown else "."
        )
        if self.erased:
            sentence += f" It holds {self.erased} lines that were erased: erase them once more, then the quarantine has"
            sentence += " none of them either."
        return RepairStep(
            "release_lane",
            self.path,
            sentence,
            records_kept=self.records,
            records_lost=lost,
            copied=tuple(self.salvage.copied),
        )
