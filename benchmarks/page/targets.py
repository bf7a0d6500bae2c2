"""Which targets are met and which are missed, and where memstore loses."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from benchmarks.figures import written
from benchmarks.page.document import Block, Heading, Items, Table, Text
from benchmarks.page.slopes import GROWS_WITH, slopes
from benchmarks.results import Run
from benchmarks.targets import TARGETS, Target, workload_of


@dataclass(frozen=True, slots=True)
class Judged:
    """One figure with a target; ``value`` is None where this run did not measure it."""

    workload: str
    what: str
    value: float | None
    bound: float
    at_most: bool
    unit: str

    @property
    def verdict(self) -> str:
        """``met``, ``MISSED`` or ``not measured``."""
        if self.value is None:
            return "not measured"
        return "met" if (self.value <= self.bound if self.at_most else self.value >= self.bound) else "MISSED"

    @property
    def wanted(self) -> str:
        """The target in words."""
        return f"{'at most' if self.at_most else 'at least'} {self.figure(self.bound)}"

    def figure(self, value: float) -> str:
        """With its unit."""
        return f"{written(value)} {self.unit}".strip()


def judged(run: Run) -> list[Judged]:
    """All figures with a target: those of this run in its order, then the targets it did not measure."""
    found = [
        Judged(result["name"], what, ratio["value"], ratio["target"], ratio["at_most"], ratio["unit"])
        for result in run.results
        for what, ratio in result.get("ratios", {}).items()
        if ratio["target"] is not None
    ]
    return found + [
        Judged(name, what, None, target.bound, target.at_most, target.unit)
        for name, what, target in _targets()
        if not any(each.what == what and name in (each.workload, workload_of(each.workload)) for each in found)
    ]


def target_blocks(run: Run) -> Iterator[Block]:
    """The table of all of them."""
    found = judged(run)
    counts = {verdict: sum(each.verdict == verdict for each in found) for verdict in ("met", "MISSED", "not measured")}
    yield Heading("Targets")
    yield Text(
        f"{counts['met']} met, {counts['MISSED']} missed, {counts['not measured']} not measured in this run. "
        "`speed / floor` is the speed of the workload as a share of its floor's: 0.5 takes twice as long."
    )
    rows = tuple(
        (each.workload, each.what, "-" if each.value is None else each.figure(each.value), each.wanted, each.verdict)
        for each in found
    )
    yield Table(("workload", "what", "measured", "target", ""), rows, words=2, last_words=True)


def loss_blocks(run: Run) -> Iterator[Block]:
    """Every missed target, every peer that is better, every slope that goes the wrong way."""
    missed = [
        f"`{each.workload}`: {each.what} is {each.figure(each.value)}, wanted is {each.wanted}."
        for each in judged(run)
        if each.value is not None and each.verdict == "MISSED"
    ]
    better = [
        f"`{result['question']}`: {peer['peer']} ({peer['durability']}) is {written(1 / peer['ratio'])} times "
        f"{_praise(result)} than memstore."
        for result in run.peers()
        for peer in result["peers"]
        if peer["ratio"] and peer["ratio"] < 1 and peer["peer"] != "memstore"
    ]
    points = [result["point"] for result in run.results if result.get("point")]
    steep = [
        f"{slope.figure}: {100 * slope.per_tenfold:+.0f} % each time there are ten times as many {slope.over}."
        for slope in slopes(points)
        if slope.is_loss
    ]
    yield Heading("Where memstore loses")
    for words, items in (
        ("Targets that it misses:", missed),
        ("Peers that are better at the same question, with the same durability:", better),
        (f"Figures that get worse as stores grow in {' or '.join(GROWS_WITH)}:", steep),
    ):
        if items:
            yield Text(words)
            yield Items(tuple(items))
    if not (missed or better or steep):
        yield Text("Nowhere in this run.")


def _praise(result: Mapping[str, Any]) -> str:
    return {"faster": "faster", "smaller": "smaller"}[result["better"]]


def _targets() -> Iterator[tuple[str, str, Target]]:
    for name, wanted in TARGETS.items():
        for what, target in wanted.items():
            yield name, what, target
