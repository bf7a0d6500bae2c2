"""What each workload should reach, as ratios in one run on two cores; the report says met or missed for each.

A ratio that a workload reports under the name that stands here is judged by it (`benchmarks.report.judged`). Targets
against peers stand with the peers.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["OF_FLOOR", "TARGETS", "Target", "target_of", "workload_of"]


@dataclass(frozen=True, slots=True)
class Target:
    """A bound.

    Attributes:
        bound: at least this.
        at_most: at most this.
        unit: of the figure; empty for a ratio.
    """

    bound: float
    at_most: bool = False
    unit: str = ""


def _at_most(bound: float, unit: str = "") -> Target:
    return Target(bound, at_most=True, unit=unit)


OF_FLOOR = "speed / floor"
"""Every workload has this one."""

TARGETS: dict[str, dict[str, Target]] = {
    "fill_batch": {OF_FLOOR: Target(0.6)},
    "fill_async": {"1,000 coroutines / one appender": Target(25), "p99 / fdatasync": _at_most(10)},
    "fill_procs": {"2 processes / 1, os": Target(1.6), "2 processes / 2 floors at once": Target(0.6)},
    "fill_agents[10000]": {OF_FLOOR: Target(0.5)},
    "fill_agents[100000]": {OF_FLOOR: Target(0.25)},
    "get_cached": {"median": _at_most(5, "µs")},
    "get_hot": {"get_hot / SQLite select and decode": _at_most(4)},
    "get_warm": {"get_warm / (get_hot + 1.5 decodings)": _at_most(1)},
    "get_cold": {"get_cold / (get_hot + 1.5 decodings)": _at_most(1)},
    "recent": {"recent(50) / 50 lines of one open file, decoded": _at_most(2)},
    "aggregate": {"DuckDB over NDJSON / aggregate": Target(10)},
    "search_filtered": {"search / bare tantivy, p50": _at_most(3)},
    "search_cold": {"search / bare tantivy, p50": _at_most(10)},
    "search_memory": {"peak resident memory": _at_most(200, "MiB")},
    "import_tree": {OF_FLOOR: Target(0.5)},
    "tier_warm": {OF_FLOOR: Target(0.5)},
    "tier_cold": {OF_FLOOR: Target(0.5)},
    "check_full": {OF_FLOOR: Target(0.5)},
    "backup": {"verify / reading every record, speed": Target(0.5)},
    "mixed": {"reads beside / alone, speed": Target(0.8), "p99 beside / alone": _at_most(3)},
    "growth": {
        "open": _at_most(100, "ms"),
        "peak resident memory": _at_most(300, "MiB"),
        "append rate / at 100,000 records": Target(0.9),
    },
}


def workload_of(name: str) -> str:
    """The workload of a variant: ``fill_procs`` of ``fill_procs[2, os]``."""
    return name.split("[", 1)[0]


def target_of(name: str, what: str) -> Target | None:
    """The target of a figure: of this variant, or of all of its workload's; None where there is none."""
    for key in (name, workload_of(name)):
        found = TARGETS.get(key, {}).get(what)
        if found is not None:
            return found
    return None
