"""Which point a restore begins from, and how far the lanes behind it have to be followed."""

from __future__ import annotations

from dataclasses import dataclass

from memstore.backup.replay import Between, lanes_between
from memstore.backup.repository import Repository
from memstore.backup.verify import newest_point
from memstore.errors import NotFoundError, UsageError
from memstore.format.backup_file import BackupList
from memstore.format.backup_names import point_time
from memstore.timestamps import iso_text


@dataclass(frozen=True, slots=True)
class Moment:
    """What is to be restored.

    Attributes:
        point: name of the point to begin from.
        listed: its list.
        at_us: the moment; the point's own unless another was asked for.
        between: what there is from the point up to that moment.
    """

    point: str
    listed: BackupList
    at_us: int
    between: Between


def find_moment(repository: Repository, *, point: str | None, at_us: int | None, now_us: int) -> Moment:
    """The newest point that is not behind the moment, and the lanes from there on.

    Args:
        repository: where the points are.
        point: begin from this one.
        at_us: the moment; that of the point, the newest one, unless given.
        now_us: no moment behind this one has been yet.

    Raises:
        UsageError: the moment is still to come, or lies before the named point.
        NotFoundError: there is no such point, or none as old as that.
        CorruptionError: a list does not verify.
    """
    if at_us is not None and at_us > now_us:
        raise UsageError(f"{iso_text(at_us)} is still to come; nothing is known of it")
    name = point or _point_before(repository, at_us)
    listed = repository.read_list(name)
    if at_us is None or at_us == listed.head.at:
        return Moment(name, listed, listed.head.at, Between(reached=listed.head.at))
    if at_us < listed.head.at:
        raise UsageError(f"{name} was taken after {iso_text(at_us)}; leave the point out, and the right one is taken")
    return Moment(name, listed, at_us, lanes_between(repository, name, listed.head, at_us))


def _point_before(repository: Repository, at_us: int | None) -> str:
    newest = newest_point(repository)
    if at_us is None:
        return newest
    points = repository.points()
    old_enough = [name for name in points if (point_time(name) or 0) <= at_us]
    if not old_enough:
        oldest = iso_text(point_time(points[0]) or 0)
        raise NotFoundError(f"{repository.root}: the oldest backup there is of {oldest}, after {iso_text(at_us)}")
    return old_enough[-1]
