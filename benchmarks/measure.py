"""How every workload runs and ends: rounds in which ours and the floor take turns, then a report."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks.meter import Meter
from benchmarks.report import Report
from benchmarks.sizes import Sizes

Publish = Callable[[Report], None]
Setup = Callable[[], tuple[tuple[Any, ...], dict[str, Any]] | None]


def run_rounds(
    benchmark: BenchmarkFixture,
    target: Callable[..., None],
    *,
    rounds: int,
    args: tuple[Any, ...] = (),
    setup: Setup | None = None,
    teardown: Callable[..., None] | None = None,
) -> None:
    """Call ``target`` once a round, timed; floor and peers are measured in ``setup`` and ``teardown``, beside it."""
    pedantic: Any = benchmark.pedantic  # it has no types
    pedantic(target, args=args, setup=setup, teardown=teardown, rounds=rounds)


def conclude(benchmark: BenchmarkFixture, report: Report, publish: Publish) -> None:
    """Put the result into pytest-benchmark's JSON, and show it."""
    benchmark.extra_info.update(report.as_dict())
    publish(report)


@dataclass(slots=True)
class Bench:
    """What a workload is given (the fixture ``bench``).

    Attributes:
        scratch: an empty directory on a real disk, gone afterwards.
        sizes: how much of everything.
        meter: counts memory and bytes written while it is told to.
    """

    scratch: str
    sizes: Sizes
    fixture: BenchmarkFixture
    publish: Publish
    meter: Meter = field(default_factory=Meter)

    def run(
        self,
        target: Callable[..., None],
        *,
        args: tuple[Any, ...] = (),
        setup: Setup | None = None,
        teardown: Callable[..., None] | None = None,
        rounds: int | None = None,
    ) -> None:
        """`run_rounds`, as many as the sizes say or ``rounds`` of them."""
        run_rounds(self.fixture, target, rounds=rounds or self.sizes.rounds, args=args, setup=setup, teardown=teardown)

    def conclude(self, report: Report) -> None:
        """Put the result into the JSON, and show it."""
        conclude(self.fixture, report, self.publish)
