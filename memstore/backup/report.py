"""What backups, verifications, restores and prunes say at their end."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import msgspec

from memstore.errors import CorruptionError
from memstore.format.backup_file import Gap
from memstore.timestamps import iso_text


@dataclass(slots=True)
class BackupReport:
    """What one backup did.

    Attributes:
        name: of the point.
        path: where it lies.
        at: its moment, microseconds: all that was acknowledged before is in it.
        agents, records: how many it holds; what is in lanes included.
        files, bytes: how many it holds.
        copied_files, copied_bytes: of them, and of the archived lanes, what was not there yet; the rest is linked.
        lanes: how many lanes were archived with it.
        gap: what the archive lacks since the point before.
        damage: what was damaged in the store already; it is in the point as it is.
        rounds: how many times the store was listed: once more wherever files moved meanwhile.
        locked_s: how long merges and moves had to wait, all rounds together.
        seconds: how long it took.
    """

    name: str
    path: str
    at: int
    agents: int = 0
    records: int = 0
    files: int = 0
    bytes: int = 0
    copied_files: int = 0
    copied_bytes: int = 0
    lanes: int = 0
    gap: Gap | None = None
    damage: list[CorruptionError] = field(default_factory=list)
    rounds: int = 0
    locked_s: float = 0.0
    seconds: float = 0.0

    def as_dict(self) -> dict[str, Any]:
        """For machines; docs/CLI.md lists the fields."""
        return {
            "name": self.name,
            "path": self.path,
            "at": iso_text(self.at),
            "agents": self.agents,
            "records": self.records,
            "files": self.files,
            "bytes": self.bytes,
            "copied_files": self.copied_files,
            "copied_bytes": self.copied_bytes,
            "lanes": self.lanes,
            "gap": gap_as_dict(self.gap),
            "damage": [damage_as_dict(error) for error in self.damage],
            "rounds": self.rounds,
            "locked_s": round(self.locked_s, 3),
            "seconds": round(self.seconds, 3),
        }


def gap_as_dict(gap: Gap | None) -> dict[str, Any] | None:
    """A gap for machines."""
    if gap is None:
        return None
    return {**msgspec.to_builtins(gap), "until": iso_text(gap.until) if gap.until else None}


def damage_as_dict(error: CorruptionError) -> dict[str, Any]:
    """Damage for machines."""
    return {
        "path": error.path,
        "offset_bytes": error.offset_bytes,
        "length_bytes": error.length_bytes,
        "reason": error.reason,
    }


@dataclass(slots=True)
class RestoreReport:
    """What a restore did.

    Attributes:
        point: the point that it began from.
        at: the moment that was asked for, microseconds.
        reached: the moment of which the restored store is: earlier than ``at`` where no later backup follows.
        target: the root of the store.
        kept: where the store that stood there lies now; None where there was none, or it was discarded.
        files, bytes: of the point.
        lanes, replayed: lanes and records from the archive, between the point and the moment.
        gaps: what the archive lacks between the two.
        erased: records that were erased since and were in the point.
        hidden: records that were forgotten between the point and the moment.
        held: such records that a hold covers by now; they are there.
        undeletes_left_out: how many acts brought records back between the two: nobody can name those.
        imported, already: where a part was restored: records that were brought, and that the store had.
        refused: of the part, records that the store has forgotten or erased.
        seconds: how long it took.
    """

    point: str
    at: int
    reached: int
    target: str = ""
    kept: str | None = None
    files: int = 0
    bytes: int = 0
    lanes: int = 0
    replayed: int = 0
    gaps: list[Gap] = field(default_factory=list)
    erased: int = 0
    hidden: int = 0
    held: int = 0
    undeletes_left_out: int = 0
    imported: int = 0
    already: int = 0
    refused: int = 0
    seconds: float = 0.0

    @property
    def is_complete(self) -> bool:
        """Whether nothing is known to be missing of the moment that was asked for."""
        return not self.gaps and self.reached >= self.at

    def as_dict(self) -> dict[str, Any]:
        """For machines; docs/CLI.md lists the fields."""
        return {
            "point": self.point,
            "at": iso_text(self.at),
            "reached": iso_text(self.reached),
            "complete": self.is_complete,
            "target": self.target,
            "kept": self.kept,
            "files": self.files,
            "bytes": self.bytes,
            "lanes": self.lanes,
            "replayed": self.replayed,
            "gaps": [gap_as_dict(gap) for gap in self.gaps],
            "erased": self.erased,
            "hidden": self.hidden,
            "held": self.held,
            "undeletes_left_out": self.undeletes_left_out,
            "imported": self.imported,
            "already": self.already,
            "refused": self.refused,
            "seconds": round(self.seconds, 3),
        }
