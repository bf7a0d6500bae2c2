"""How every benchmark runs and ends: rounds in which ours and theirs take turns, then a report."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks.report import Report

Publish = Callable[[Report], None]


def run_rounds(
    benchmark: BenchmarkFixture,
    target: Callable[..., None],
    *,
    rounds: int,
    args: tuple[Any, ...] = (),
    setup: Callable[[], tuple[tuple[Any, ...], dict[str, Any]]] | None = None,
    teardown: Callable[..., None] | None = None,
) -> None:
    """Call ``target`` once a round, timed; floor and peers are measured in ``setup`` and ``teardown``, beside it."""
    pedantic: Any = benchmark.pedantic  # it has no types
    pedantic(target, args=args, setup=setup, teardown=teardown, rounds=rounds)


def conclude(benchmark: BenchmarkFixture, report: Report, publish: Publish) -> None:
    """Put the result into pytest-benchmark's JSON, and show it."""
    benchmark.extra_info.update(report.as_dict())
    publish(report)


def over(ours: list[float], theirs: list[float]) -> list[float]:
    """Ratio of each round: what was measured side by side is compared."""
    return [a / b for a, b in zip(ours, theirs, strict=True)]
