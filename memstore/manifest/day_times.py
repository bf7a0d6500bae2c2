"""Which of a day's pieces may hold a time: found by bisecting, however many pieces a busy agent's day has.

They stand in the order they were written, which is nearly that of their times; a record with an old time makes an
exception. So two bounds that only ever rise are kept with each: the highest time up to it, and the lowest from it on.
"""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from itertools import accumulate
from operator import itemgetter
from typing import Any, NamedTuple

_T_MIN, _T_MAX = itemgetter(0), itemgetter(1)


class DayTimes(NamedTuple):
    """Of each piece of a day, microseconds.

    Attributes:
        reached: the highest ``t_max`` up to it.
        left: the lowest ``t_min`` from it on.
    """

    reached: list[int]
    left: list[int]

    @classmethod
    def of(cls, pieces: Sequence[tuple[Any, ...]]) -> DayTimes:
        """Those of pieces whose first two members are ``t_min`` and ``t_max``."""
        reached = list(accumulate(map(_T_MAX, pieces), max))
        left = list(accumulate(map(_T_MIN, reversed(pieces)), min))
        left.reverse()
        return cls(reached, left)

    def range(self, first_us: int, last_us: int) -> slice:
        """Outside of it no piece holds a time of this range, both ends inclusive; most within it do."""
        return slice(bisect.bisect_left(self.reached, first_us), bisect.bisect_right(self.left, last_us))
