"""Every name in a backup repository (docs/FORMAT.md, "Backup repository")."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

from memstore.format.names import BACKUP_LIST
from memstore.timestamps import id_stamp_to_us, iso_text

CONSUMER_PREFIX = "backup-"
"""Of the store's consumers, those with this prefix are backup repositories."""
LANES_LIST = "LANES.json"
REPOSITORY_FILE = "REPOSITORY.json"
INCOMING_PREFIX = ".incoming-"
"""Directories of this prefix are points in the making, or what a crash left of one."""
GOING_PREFIX = ".going-"
"""Directories of this prefix are being removed: they are renamed first, so that no half of a point looks like one."""
SCRATCH_PREFIX = ".scratch-"
"""Where a point is restored to be verified."""

_POINT = re.compile(r"(\d{8})T(\d{6})\.(\d{6})Z")


def point_name(at_us: int) -> str:
    """``20250115T143000.123456Z``: names sort by time."""
    return iso_text(at_us).replace("-", "").replace(":", "")


def point_time(name: str) -> int | None:
    """When a point was taken, microseconds, or None for any other name."""
    match = _POINT.fullmatch(name)
    try:
        return None if match is None else id_stamp_to_us("_".join(match.groups()))
    except ValueError:
        return None


@dataclass(frozen=True, slots=True)
class RepositoryPaths:
    """Paths below one repository (absolute)."""

    root: str

    @property
    def repository_file(self) -> str:
        """Whose backups lie here."""
        return os.path.join(self.root, REPOSITORY_FILE)

    @property
    def lock(self) -> str:
        """flock: one backup or prune at a time; nothing else opens it."""
        return os.path.join(self.root, ".lock")

    @property
    def archive(self) -> str:
        """Lanes as each point found them, a directory for each point: what there is between two points."""
        return os.path.join(self.root, "lanes")

    def point(self, name: str) -> str:
        """A point: a plain store."""
        return os.path.join(self.root, name)

    def lanes_of(self, name: str) -> str:
        """The lanes that a point found."""
        return os.path.join(self.archive, name)

    def point_list(self, name: str) -> str:
        """The list of a point."""
        return os.path.join(self.point(name), BACKUP_LIST)

    def lanes_list(self, name: str) -> str:
        """The list of a point's lanes."""
        return os.path.join(self.lanes_of(name), LANES_LIST)
