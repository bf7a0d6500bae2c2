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
