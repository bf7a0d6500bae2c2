"""``python -m benchmarks.compare``: the last result against the one before; ends with 1 where something got worse.

Ratios are compared, not times: floor and workload were measured side by side, so that a slower day of the machine
changes both. A ratio got worse when it moved the wrong way by more than its rounds lie apart, then or now, and by more
than a tenth in any case.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.figures import aligned, spread, written
from benchmarks.results import DIRECTORY, Run, read_run, saved_runs
from benchmarks.targets import OF_FLOOR

NOISE_MIN = 0.1
"""What two runs of the same code differ by on a machine that is shared."""


@dataclass(frozen=True, slots=True)
class Change:
    """One ratio then and now.

    Attributes:
        workload: whose.
        what: over what.
        then: median of the older run's rounds; None: it was not measured.
        now: of the newer one's; None likewise.
        noise: how far apart they may be without meaning anything, as a share.
        at_most: less is better.
    """

    workload: str
    what: str
    then: float | None
    now: float | None
    noise: float = 0.0
    at_most: bool = False

    @property
    def gain(self) -> float | None:
        """By how much it got better, as a share; less than 0 where it got worse."""
        if not self.then or not self.now:
            return None
        return (self.then / self.now if self.at_most else self.now / self.then) - 1

    @property
    def verdict(self) -> str:
        """``WORSE``, ``better``, ``gone``, ``new``, or nothing."""
        if self.then is None or self.now is None:
            return "new" if self.then is None else "gone"
        gain = self.gain or 0.0
        if gain < -self.noise:
            return "WORSE"
        return "better" if gain > self.noise else ""


def changes(then: Run, now: Run) -> Iterator[Change]:
    """Every ratio to a floor and every ratio with a target, in the order of the newer run."""
    before, after = _ratios(then), _ratios(now)
    for key in [*after, *(key for key in before if key not in after)]:
        old, new = before.get(key), after.get(key)
        known = new or old
        assert known is not None
        noise = max([NOISE_MIN, *(spread(each["rounds"]) for each in (old, new) if each)])
        yield Change(*key, _value(old), _value(new), noise, known["at_most"])


def _ratios(run: Run) -> dict[tuple[str, str], Mapping[str, Any]]:
    return {
        (result["name"], what): ratio
        for result in run.results
        for what, ratio in result.get("ratios", {}).items()
        if what == OF_FLOOR or ratio["target"] is not None
    }


def _value(ratio: Mapping[str, Any] | None) -> float | None:
    return None if ratio is None else float(ratio["value"])


def text(then: Run, now: Run, found: Sequence[Change]) -> str:
    """A table for a terminal."""
    head = [
        f"then: {then.taken}, commit {then.commit}, load {_load(then)}",
        f"now:  {now.taken}, commit {now.commit}, load {_load(now)}",
    ]
    if then.machine != now.machine:
        head.append("The machines or versions differ: " + ", ".join(_differing(then.machine, now.machine)))
    table: list[tuple[str, ...]] = [("workload", "ratio", "then", "now", "change", "noise", "")]
    for change in found:
        gain = "" if change.gain is None else f"{100 * change.gain:+.0f} %"
        figures = ["-" if value is None else written(value) for value in (change.then, change.now)]
        table.append((change.workload, change.what, *figures, gain, f"{100 * change.noise:.0f} %", change.verdict))
    worse = sum(change.verdict == "WORSE" for change in found)
    return "\n".join([*head, "", *aligned(table), "", f"{worse} got worse than the noise"])


def _differing(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    return sorted(key for key in {*one, *other} if one.get(key) != other.get(key))


def _load(run: Run) -> str:
    return " to ".join(f"{load:.1f}" for load in run.load)


def last_two(directory: str) -> tuple[str, str] | None:
    """Paths of the last result and of the one before it that measured as much; None: there is no such pair."""
    paths = saved_runs(directory)
    if not paths:
        return None
    size = read_run(paths[-1]).size
    older = [path for path in paths[:-1] if read_run(path).size == size]
    return (older[-1], paths[-1]) if older else None


def main(arguments: Sequence[str]) -> int:
    """Exit code: 0 nothing got worse, 1 something did, 2 there is nothing to compare."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.compare", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("paths", nargs="*", help="two results, the older first (the last two)")
    parser.add_argument("--directory", default=DIRECTORY, help="where results lie (%(default)s)")
    options = parser.parse_args(arguments)
    pair = tuple(options.paths) if len(options.paths) == 2 else last_two(options.directory)
    if pair is None:
        print(f"{options.directory} has no two results of the same size: run `make bench` twice")
        return 2
    then, now = map(read_run, pair)
    found = list(changes(then, now))
    print(text(then, now, found))
    return int(any(change.verdict == "WORSE" for change in found))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
