"""fill_procs: 1, 2 and 4 processes append to one store, against as many floors at once, and against one process."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import pytest

from benchmarks.aside import put_aside
from benchmarks.figures import over
from benchmarks.measure import Bench
from benchmarks.report import Headline, Ratio, Report, Row, judged
from benchmarks.workers import fill_command, run_together
from benchmarks.workloads import LINE_BYTES

_BATCH = 1000


@pytest.mark.parametrize("durability", ["fsync", "os"])
def bench_fill_procs(bench: Bench, durability: str) -> None:
    """Records per second of all together until the last acknowledgement; 1,000 agents, batches of 1,000.

    All numbers of processes take turns in a round: their ratios are what is asked for.
    """
    each, processes = bench.sizes.fill_procs_each, bench.sizes.processes
    rates: dict[int, list[float]] = {count: [] for count in processes}
    merged: dict[int, list[float]] = {count: [] for count in processes}
    floors: dict[int, list[float]] = {count: [] for count in processes}
    us: list[float] = []
    root = os.path.join(bench.scratch, "store")

    def together(kind: str, count: int) -> list[dict[str, Any]]:
        os.sync()
        return run_together(
            [
                fill_command(
                    root if kind == "fill" else f"{root}-{number}",
                    durability=durability,
                    records=each,
                    batch=_BATCH,
                    agents=bench.sizes.agents,
                    seed=number,
                    kind=kind,
                )
                for number in range(count)
            ]
        )

    def take() -> None:
        for count in processes:
            floors[count].append(count * each / _seconds(together("floor", count)))
            with bench.meter.of_children():
                found = together("fill", count)
            bench.meter.children_had([item["peak_mib"] for item in found])
            rates[count].append(count * each / _seconds(found))
            merged[count].append(count * each / _seconds(found, until="merged"))
            if count == 2:
                us.extend(time for item in found for time in item["us"])
            put_aside(root)

    bench.run(take, rounds=max(bench.sizes.rounds - 1, 1))  # starting processes is what takes long
    name = f"fill_procs[{durability}]"
    written = len(rates[2]) * sum(processes) * each * LINE_BYTES
    report = Report(name, bench.scratch, durability, 2 * each, 2 * each * LINE_BYTES)
    report.headline = Headline(
        f"append_many of {_BATCH:,}, by one of 2 processes",
        us,
        rates[2],
        "two floors at once, each to a file of its own",
        over(rates[2], floors[2]),
        bench.meter.weight(written),
    )
    report.rows = [
        row
        for count in processes
        for row in (
            Row(f"{count} at once, to the last acknowledgement", rates[count], "records/s"),
            Row(f"{count} at once, all merged", merged[count], "records/s"),
            Row(f"{count} at once, floor", floors[count], "records/s"),
        )
    ]
    report.ratios = [
        judged(name, "2 processes / 2 floors at once", over(rates[2], floors[2])),
        judged(name, f"2 processes / 1, {durability}", over(rates[2], rates[1])),
    ]
    for count in processes[2:]:
        report.ratios += [
            Ratio(f"{count} processes / 1, {durability}", over(rates[count], rates[1])),
            Ratio(f"{count} processes / {count} floors at once", over(rates[count], floors[count])),
        ]
    bench.conclude(report)


def _seconds(found: Sequence[dict[str, Any]], *, until: str = "ended") -> float:
    """From the first start to the last end."""
    last: float = max(item[until] for item in found)
    first: float = min(item["started"] for item in found)
    return last - first
