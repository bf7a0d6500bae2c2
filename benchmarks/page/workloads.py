"""The named workloads side by side."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from benchmarks.figures import written, written_us
from benchmarks.page.chart import Bar, Bars
from benchmarks.page.document import Block, Heading, Table, Text
from benchmarks.results import Run
from benchmarks.targets import OF_FLOOR

_TIMES = ("workload", "one operation", "median", "p90", "p99", "max", "records/s", "speed / floor")
_WEIGHTS = ("workload", "records", "MB", "durability", "resident, MiB", "of it before", "written / stored", "floor")


def workload_blocks(run: Run) -> Iterator[Block]:
    """Times, then what they were of and what they took."""
    named = run.named()
    yield Heading("Workloads")
    yield Text(
        "Each workload takes turns with its floor: the inevitable part of the same work, done by the least code. "
        "Percentiles are over all operations of all rounds; rates and ratios are medians of the "
        "rounds; of `reopen`, the rate is of openings."
    )
    bars = tuple(_bar(result) for result in named)
    yield Bars(
        "Speed as a share of the floor's: longer is faster, 1 is the floor; a mark is the target, orange is missed",
        bars,
    )
    yield Table(_TIMES, tuple(map(_times, named)), words=2)
    yield Text(
        "`written / stored`: bytes that the kernel counted as written to the disk for this workload, for each byte of "
        "its records as lines; a page counts each time it is synced, as for the disk. Where it is unknown, the kernel "
        "does not tell. Resident memory is the peak of the process, with what was there before: the records to be "
        "written, and what earlier workloads left. Of several processes it is the sum."
    )
    yield Table(_WEIGHTS, tuple(map(_weights, named)), last_words=True)


def detail_blocks(run: Run) -> Iterator[Block]:
    """Every row and every ratio without a target."""
    yield Heading("All figures")
    rows = [
        (result["name"], name, *(written(row[key]) for key in ("median", "p90", "p99", "max")), row["unit"])
        for result in run.results
        for name, row in result.get("rows", {}).items()
        if "median" in row
    ]
    yield Table(("workload", "what", "median", "p90", "p99", "max", "unit"), tuple(rows), words=2, last_words=True)
    ratios = [
        (result["name"], what, f"{written(ratio['value'])} {ratio['unit']}".strip())
        for result in run.results
        for what, ratio in result.get("ratios", {}).items()
        if ratio["target"] is None and what != OF_FLOOR
    ]
    if ratios:
        yield Text("Ratios that have no target:")
        yield Table(("workload", "what", "ratio"), tuple(ratios), words=2)


def _bar(result: Mapping[str, Any]) -> Bar:
    ratio = result["ratios"][OF_FLOOR]
    return Bar(result["name"], ratio["value"], ratio["target"], ratio["verdict"] == "MISSED")


def _times(result: Mapping[str, Any]) -> tuple[str, ...]:
    headline = result["headline"]
    us = headline["us"]
    return (
        f"`{result['name']}`",
        headline["operation"],
        *(written_us(us[key]) for key in ("median", "p90", "p99", "max")),
        written(headline["per_second"]),
        written(headline["of_floor"]["value"]),
    )


def _weights(result: Mapping[str, Any]) -> tuple[str, ...]:
    headline = result["headline"]
    per_byte = headline["written_per_byte"]
    return (
        f"`{result['name']}`",
        f"{result['records']:,}",
        written(result["bytes"] / 1e6),
        result["durability"],
        written(headline["resident_mib"]),
        written(headline["before_mib"]),
        "unknown" if per_byte is None else written(per_byte),
        headline["floor"],
    )
