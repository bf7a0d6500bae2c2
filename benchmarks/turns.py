"""Times calls of several sides in turn, so that what else the machine does is charged to all of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from time import perf_counter_ns
from typing import Any

from benchmarks.figures import over, percentile


class Turns:
    """Sides that are called with the same arguments, one after the other in each round.

    Attributes:
        us: microseconds of each call, by side.
        rounds: the same, round by round.
        medians: their median by side and round.
        means: their mean by side and round.
    """

    def __init__(self, sides: dict[str, Callable[[Any], object]]) -> None:
        self._sides = sides
        self.forget()

    def forget(self) -> None:
        """Begin again, after warming up."""
        self.us: dict[str, list[float]] = {name: [] for name in self._sides}
        self.rounds: dict[str, list[list[float]]] = {name: [] for name in self._sides}
        self.medians: dict[str, list[float]] = {name: [] for name in self._sides}
        self.means: dict[str, list[float]] = {name: [] for name in self._sides}

    def take(self, arguments: Sequence[Any]) -> None:
        """One round: each side calls itself with each argument."""
        for name, call in self._sides.items():
            taken = []
            for argument in arguments:
                began = perf_counter_ns()
                call(argument)
                taken.append((perf_counter_ns() - began) / 1e3)
            self.us[name] += taken
            self.rounds[name].append(taken)
            self.medians[name].append(percentile(taken, 0.5))
            self.means[name].append(sum(taken) / len(taken))

    def over(self, upper: str, lower: str) -> list[float]:
        """Ratio of the medians of each round."""
        return over(self.medians[upper], self.medians[lower])

    def over_same(self, upper: str, lower: str) -> list[float]:
        """Median of each round of the ratios of calls with the same argument.

        Where arguments differ much, medians of two sides can be of different ones, and their ratio says little.
        """
        pairs = zip(self.rounds[upper], self.rounds[lower], strict=True)
        return [percentile(over(ours, theirs), 0.5) for ours, theirs in pairs]

    def per_second(self, side: str, *, each: float = 1) -> list[float]:
        """Records a second by round, where a call is of ``each`` records."""
        return [each * 1e6 / mean for mean in self.means[side]]
