"""collapse: what collapsing repeats costs and saves on the way to cold."""

from __future__ import annotations

import os

from benchmarks.figures import over
from benchmarks.floors import zstd_alone
from benchmarks.measure import Bench
from benchmarks.report import Headline, Ratio, Report, Row
from benchmarks.tiers import FRAME_BYTES, LEVEL, bytes_of_tier, copied, fill, hot_lines, tier_all

_ON = {"deduplication_enabled": True}
_AGENTS, _DAYS = 4, 5


def bench_collapse(bench: Bench) -> None:
    """Tiering with repeats collapsed, and without, in turns."""
    root, work = os.path.join(bench.scratch, "hot"), os.path.join(bench.scratch, "work")
    records = fill(root, size_bytes=bench.sizes.tier_bytes // 2, agents=_AGENTS, days=_DAYS)
    files = hot_lines(root)
    size = sum(map(len, files))
    seconds: dict[str, list[float]] = {"on": [], "off": [], "floor": []}
    packed: dict[str, int] = {}

    def take() -> None:
        seconds["floor"].append(zstd_alone(files, level=LEVEL["cold"], frame_bytes=FRAME_BYTES["cold"]))
        copied(root, work)
        seconds["off"].append(tier_all(work, "cold")[0].wall_s)
        packed["off"] = bytes_of_tier(work, "cold")[0]
        copied(root, work)
        with bench.meter.running():
            seconds["on"].append(tier_all(work, "cold", settings=_ON)[0].wall_s)
        packed["on"] = bytes_of_tier(work, "cold")[0]

    bench.run(take)
    report = Report("collapse", bench.scratch, "as maintain syncs", records, size)
    report.headline = Headline(
        "maintain, all of it, repeats collapsed",
        [each * 1e6 for each in seconds["on"]],
        [records / each for each in seconds["on"]],
        f"zstd -{LEVEL['cold']} alone, in one thread, frames of {FRAME_BYTES['cold']:,} bytes",
        over(seconds["floor"], seconds["on"]),
        bench.meter.weight(bench.sizes.rounds * size),
    )
    report.rows = [Row(f"packed, collapsing {name}", [found], "bytes") for name, found in packed.items()]
    report.ratios = [
        Ratio("time, on / off", over(seconds["on"], seconds["off"]), at_most=True),
        Ratio("size, on / off", [packed["on"] / packed["off"]], at_most=True),
    ]
    bench.conclude(report)
