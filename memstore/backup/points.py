"""The points of a repository, as a list for people and machines."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from memstore.backup.report import gap_as_dict
from memstore.backup.repository import open_repository
from memstore.errors import CorruptionError
from memstore.format.backup_file import Gap
from memstore.format.backup_names import point_time
from memstore.fs.storage import Storage
from memstore.timestamps import iso_text


@dataclass(frozen=True, slots=True)
class BackupInfo:
    """One point.

    Attributes:
        name: of its directory.
        at: its moment, microseconds.
        agents, records, files, bytes: how many it holds; 0 where its list is damaged.
        follows: whether any moment since the point before it can be restored.
        gap: what the archive of lanes lacks since then.
        damaged: files that were damaged in the store already when it was taken.
        error: why its list cannot be read; None where it can.
    """

    name: str
    at: int
    agents: int = 0
    records: int = 0
    files: int = 0
    bytes: int = 0
    follows: bool = False
    gap: Gap | None = None
    damaged: int = 0
    error: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """For machines; docs/CLI.md lists the fields."""
        return {
            "name": self.name,
            "at": iso_text(self.at),
            "agents": self.agents,
            "records": self.records,
            "files": self.files,
            "bytes": self.bytes,
            "follows": self.follows,
            "gap": gap_as_dict(self.gap),
            "damaged": self.damaged,
            "error": self.error,
        }


def list_backups(storage: Storage, destination: str) -> list[BackupInfo]:
    """The points, oldest first.

    Raises:
        NotFoundError: there is no repository.
        VersionError: a newer memstore wrote one of them.
    """
    repository = open_repository(storage, destination)
    archived = set(repository.lanes_points())
    found: list[BackupInfo] = []
    for name in repository.points():
        at = point_time(name) or 0
        try:
            listed = repository.read_list(name)
        except CorruptionError as error:
            found.append(BackupInfo(name, at, error=str(error)))
            continue
        before = found[-1].name if found else None
        head, end = listed.head, listed.end
        follows = name in archived and head.previous is not None and head.gap is None and before == head.previous
        found.append(
            BackupInfo(
                name,
                at,
                agents=end.agents,
                records=end.records + end.lane_records,
                files=end.files,
                bytes=end.bytes,
                follows=follows,
                gap=head.gap,
                damaged=len(head.damaged),
            )
        )
    return found
