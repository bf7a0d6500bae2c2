"""Which points stay: a pure function from (points, policy) to names.

As restic's ``forget`` has it: of each of the last so many days, weeks and months that have a point, the youngest point
stays. The youngest of all always does, and so does the youngest that was taken of a store without damage: backups of a
damaged store must not push out the last good one. Days, ISO weeks and months are UTC's.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from memstore.errors import UsageError

_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


@dataclass(frozen=True, slots=True)
class KeptPoint:
    """A point as the policy sees it: ``sound`` unless the store was damaged when it was taken."""

    name: str
    at: int
    sound: bool = True


@dataclass(frozen=True, slots=True)
class KeepPolicy:
    """Of how many days, weeks and months the youngest point is kept.

    Raises:
        UsageError: a number is negative.
    """

    daily: int = 7
    weekly: int = 4
    monthly: int = 12

    def __post_init__(self) -> None:
        """See that it can be obeyed."""
        if min(self.daily, self.weekly, self.monthly) < 0:
            raise UsageError("a number of points to keep is 0 or more")


@dataclass(frozen=True, slots=True)
class Keeping:
    """What stays.

    Attributes:
        points: names of the points that stay.
        lanes_after: lanes of points behind this one stay: any moment from it on can be restored; None: all lanes go.
    """

    points: frozenset[str]
    lanes_after: str | None


def choose_points(points: Sequence[KeptPoint], policy: KeepPolicy) -> Keeping:
    """Say what stays; the lanes are kept from the oldest of the daily points on."""
    if not points:
        return Keeping(frozenset(), None)
    youngest_first = sorted(points, key=lambda point: (point.at, point.name), reverse=True)
    newest = youngest_first[0]
    daily = _youngest_of(youngest_first, policy.daily, lambda moment: moment.strftime("%Y%m%d"))
    kept = {newest.name, *daily}
    kept.update(_youngest_of(youngest_first, policy.weekly, lambda moment: moment.strftime("%G%V")))
    kept.update(_youngest_of(youngest_first, policy.monthly, lambda moment: moment.strftime("%Y%m")))
    kept.update([point.name for point in youngest_first if point.sound][:1])
    return Keeping(frozenset(kept), daily[-1] if daily else newest.name)


def _youngest_of(youngest_first: Sequence[KeptPoint], count: int, span: Callable[[dt.datetime], str]) -> list[str]:
    """The youngest point of each of the last ``count`` spans that have one, youngest first."""
    found: dict[str, str] = {}
    for point in youngest_first:
        key = span(_EPOCH + dt.timedelta(microseconds=point.at))
        if key not in found:
            if len(found) == count:
                break
            found[key] = point.name
    return list(found.values())
