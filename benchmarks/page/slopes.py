"""How a figure changes when the store grows tenfold. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

FLAT = 0.1
"""A figure that changes by at most this share at each tenfold is called flat."""
GROWS_WITH = ("records", "agents")
_PLACE = ("over", "records", "agents")


@dataclass(frozen=True, slots=True)
class Slope:
    """One figure over one kind of growth.

    Attributes:
        over: what grows.
        figure: its name, with its unit.
        points: what grew, and the figure.
    """

    over: str
    figure: str
    points: tuple[tuple[float, float], ...]

    @property
    def per_tenfold(self) -> float:
        """Change at each tenfold, as a share: the line through all points on logarithmic axes, by least squares."""
        xs = [math.log10(x) for x, _ in self.points]
        ys = [math.log10(y) for _, y in self.points]
        middle_x, middle_y = sum(xs) / len(xs), sum(ys) / len(ys)
        across = sum((x - middle_x) ** 2 for x in xs)
        if not across:
            return 0.0
        rise: float = sum((x - middle_x) * (y - middle_y) for x, y in zip(xs, ys, strict=True)) / across
        return float(10.0**rise) - 1

    @property
    def is_flat(self) -> bool:
        """Whether growth can be left out of account."""
        return abs(self.per_tenfold) <= FLAT

    @property
    def is_loss(self) -> bool:
        """Whether it gets worse: a rate falls, or anything else rises."""
        change = self.per_tenfold
        return not self.is_flat and (change < 0 if self.figure.endswith("/s") else change > 0)


def slopes(points: Sequence[Mapping[str, Any]]) -> list[Slope]:
    """Of every figure, over records and over agents, where there are two points or more."""
    found = []
    for over in GROWS_WITH:
        along = sorted((point for point in points if point.get("over") == over), key=lambda point: float(point[over]))
        if len(along) > 1:
            found += [
                Slope(over, figure, tuple((float(point[over]), float(point[figure])) for point in along))
                for figure in along[0]
                if figure not in _PLACE
            ]
    return found
