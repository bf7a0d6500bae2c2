"""Remove points that a policy does not keep, and lanes that lead nowhere without them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from memstore.backup.keeping import KeepPolicy, KeptPoint, choose_points
from memstore.backup.registry import Registration
from memstore.backup.repository import Repository, open_repository
from memstore.engine.engine import Engine
from memstore.errors import CorruptionError
from memstore.format.backup_names import point_time
from memstore.fs.storage import Storage


@dataclass(slots=True)
class PruneReport:
    """What a prune did, or would do.

    Attributes:
        kept, removed: names of points.
        lanes_removed: points whose lanes were removed.
        moments_from: name of the point from which on any moment can be restored; None where none can.
        unreadable: points whose list is damaged: they count for nothing, and are left for somebody to look at.
        done: False for a dry run.
    """

    kept: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    lanes_removed: list[str] = field(default_factory=list)
    moments_from: str | None = None
    unreadable: list[str] = field(default_factory=list)
    done: bool = False

    def as_dict(self) -> dict[str, Any]:
        """For machines; docs/CLI.md lists the fields."""
        return {
            "kept": self.kept,
            "removed": self.removed,
            "lanes_removed": self.lanes_removed,
            "moments_from": self.moments_from,
            "unreadable": self.unreadable,
            "done": self.done,
        }


def prune_backups(
    storage: Storage, destination: str, policy: KeepPolicy, *, dry_run: bool = False, engine: Engine | None = None
) -> PruneReport:
    """Remove what the policy does not keep.

    Args:
        storage: where the repository lies.
        destination: its directory.
        policy: what is kept.
        dry_run: only say what would be done.
        engine: the store that was backed up, if it is at hand: it is told which points are left.

    Raises:
        NotFoundError: there is no repository.
        LockedError: a backup, or another prune, is at work there.
    """
    repository = open_repository(storage, destination)
    if dry_run:
        return _plan(repository, policy)
    with repository.locked():
        report = _plan(repository, policy)
        for name in report.removed:
            repository.remove(repository.paths.point(name))
        for name in report.lanes_removed:
            repository.remove(repository.paths.lanes_of(name))
        report.done = True
        if engine is not None and not engine.read_only:
            Registration(engine, repository.root).note_points(repository.points())
    return report


def _plan(repository: Repository, policy: KeepPolicy) -> PruneReport:
    report = PruneReport()
    points: list[KeptPoint] = []
    for name in repository.points():
        try:
            head = repository.read_head(name)
        except CorruptionError:
            report.unreadable.append(name)
            continue
        points.append(KeptPoint(name, point_time(name) or head.at, sound=not head.damaged))
    keeping = choose_points(points, policy)
    report.kept = [point.name for point in points if point.name in keeping.points]
    report.removed = [point.name for point in points if point.name not in keeping.points]
    report.moments_from = keeping.lanes_after
    # Those of the point itself are in its own lanes/, as far as they were not merged.
    report.lanes_removed = [
        name
        for name in repository.lanes_points()
        if keeping.lanes_after is not None and name <= keeping.lanes_after and name not in report.unreadable
    ]
    return report
