"""Bars, and lines over growth, drawn from figures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.figures import written
from benchmarks.page import svg

_WIDTH = 680
_LABELS = 240
"""Room for what stands beside a bar."""
_FIGURES = 70
"""Room for the figures, in a column of their own."""
_BAR = 22
_AXIS = 20
"""Room above for the powers of ten."""
_PLOT = (300, 190)
_LEFT, _RIGHT, _TOP, _BOTTOM = 58, 18, 28, 36
"""Margins of a plot."""


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar.

    Attributes:
        label: beside it.
        value: its length.
        target: where a mark is set; None: nowhere.
        bad: drawn in the colour for what falls short.
    """

    label: str
    value: float
    target: float | None = None
    bad: bool = False


@dataclass(frozen=True, slots=True)
class Bars:
    """Ratios side by side on a logarithmic axis, with a line at every power of ten.

    Attributes:
        title: says what is drawn.
        bars: from top to bottom.
        from_one: a bar begins at 1, and what is less goes to the left; else it begins at the left, and longer is more.
    """

    title: str
    bars: tuple[Bar, ...]
    from_one: bool = False

    def svg(self) -> str:
        """A self-contained element."""
        height = _AXIS + len(self.bars) * _BAR + 4
        scale = _Scale.of_tens([1.0, *(bar.value for bar in self.bars), *(bar.target or 1.0 for bar in self.bars)])
        begin = self._x(scale, 1.0 if self.from_one else scale.least)
        parts = []
        for ten in scale.tens():
            x = self._x(scale, ten)
            parts += [
                svg.line("one" if ten == 1 else "axis", (x, _AXIS - 2), (x, height)),
                svg.text("label", x, 12, f"{ten:g}", anchor="middle"),
            ]
        for number, bar in enumerate(self.bars):
            top = _AXIS + number * _BAR
            end = self._x(scale, bar.value)
            parts += [
                svg.text("label", _LABELS - 8, top + 15, bar.label, anchor="end"),
                svg.box("bad" if bar.bad else "bar", min(begin, end), top + 3, max(abs(end - begin), 1.5), _BAR - 7),
                svg.text("figure", _WIDTH - _FIGURES + 14, top + 15, written(bar.value)),
            ]
            if bar.target is not None:
                mark = self._x(scale, bar.target)
                parts.append(svg.line("target", (mark, top), (mark, top + _BAR - 2)))
        return svg.drawing(_WIDTH, height, self.title, parts)

    @staticmethod
    def _x(scale: _Scale, value: float) -> float:
        return _LABELS + scale.place(value) * (_WIDTH - _LABELS - _FIGURES)


@dataclass(frozen=True, slots=True)
class Line:
    """Values over something that grows tenfold from point to point; the axis of values begins at 0.

    Attributes:
        title: of the plot; the unit is in it.
        below: what grows.
        points: both figures of each.
        bad: the slope is not flat.
    """

    title: str
    below: str
    points: tuple[tuple[float, float], ...]
    bad: bool = False

    def svg(self) -> str:
        """A self-contained element."""
        width, height = _PLOT
        bottom = height - _BOTTOM
        highest = max(y for _, y in self.points)
        across = _Scale.around([x for x, _ in self.points])
        up = (bottom - _TOP) / (highest * 1.1 or 1.0)
        places = [(_LEFT + across.place(x) * (width - _LEFT - _RIGHT), bottom - y * up) for x, y in self.points]
        kind = "bad" if self.bad else "bar"
        parts = [
            svg.text("title", 4, 14, self.title),
            svg.line("axis", (_LEFT, bottom), (width - _RIGHT, bottom)),
            svg.text("label", _LEFT - 8, bottom + 4, "0", anchor="end"),
            svg.text("label", _LEFT - 8, bottom - highest * up + 4, written(highest), anchor="end"),
            svg.text("label", (_LEFT + width - _RIGHT) / 2, height - 4, self.below, anchor="middle"),
            svg.path(f"{kind}-line", places),
        ]
        for (x, y), place in zip(self.points, places, strict=True):
            parts += [
                svg.dot(kind, *place, f"{written(x)}: {written(y)}"),
                svg.text("label", place[0], bottom + 15, _shortened(x), anchor="middle"),
            ]
        return svg.drawing(width, height, self.title, parts)


@dataclass(frozen=True, slots=True)
class Plots:
    """Small plots side by side."""

    title: str
    lines: tuple[Line, ...]


Chart = Bars | Plots


@dataclass(frozen=True, slots=True)
class _Scale:
    """From values to shares of the room there is, by their logarithm."""

    least: float
    most: float

    @classmethod
    def around(cls, values: Sequence[float]) -> _Scale:
        """Just wide enough for all of them that are more than 0."""
        least, most = min(value for value in values if value > 0), max(values)
        return cls(least, most if most > least else least * 10)

    @classmethod
    def of_tens(cls, values: Sequence[float]) -> _Scale:
        """From the power of ten below the least to the one above the most."""
        tight = cls.around(values)
        return cls(10.0 ** math.floor(math.log10(tight.least)), 10.0 ** math.ceil(math.log10(tight.most)))

    def tens(self) -> list[float]:
        """Every power of ten."""
        first, last = round(math.log10(self.least)), round(math.log10(self.most))
        return [10.0**power for power in range(first, last + 1)]

    def place(self, value: float) -> float:
        """0 to 1."""
        return math.log(max(value, self.least) / self.least) / math.log(self.most / self.least)


def _shortened(value: float) -> str:
    """10,000 as 10k, 1,000,000 as 1M."""
    for size, letter in ((1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:g}{letter}"
    return f"{value:g}"
