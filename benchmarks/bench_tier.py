"""tier_warm, tier_cold: day files packed, proved and removed, against zstd alone on the same lines; and their sizes."""

from __future__ import annotations

import os

from benchmarks.figures import over
from benchmarks.floors import solid_bytes, zstd_alone
from benchmarks.measure import Bench
from benchmarks.report import Headline, Ratio, Report, Row
from benchmarks.tiers import FRAME_BYTES, LEVEL, PackedTier, bytes_of_tier, copied, fill, hot_lines, tier_all

_AGENTS, _DAYS = 4, 5


def bench_tier_warm(bench: Bench) -> None:
    """One file a day and agent, of 2 MB each."""
    _tier(bench, "warm")


def bench_tier_cold(bench: Bench) -> None:
    """One file a month and agent."""
    _tier(bench, "cold")


def _tier(bench: Bench, tier: PackedTier) -> None:
    root, work = os.path.join(bench.scratch, "hot"), os.path.join(bench.scratch, "work")
    records = fill(root, size_bytes=bench.sizes.tier_bytes, agents=_AGENTS, days=_DAYS)
    files = hot_lines(root)
    size = sum(map(len, files))
    seconds: dict[str, list[float]] = {"tiering": [], "processor": [], "floor": []}

    def before() -> None:
        seconds["floor"].append(zstd_alone(files, level=LEVEL[tier], frame_bytes=FRAME_BYTES[tier]))
        copied(root, work)

    def take() -> None:
        with bench.meter.running():
            spent, _ = tier_all(work, tier)
        seconds["tiering"].append(spent.wall_s)
        seconds["processor"].append(spent.cpu_s)

    bench.run(take, setup=before)
    packed, allocated = bytes_of_tier(work, tier)
    limit = solid_bytes(files)
    report = Report(f"tier_{tier}", bench.scratch, "as maintain syncs", records, size)
    report.headline = Headline(
        "maintain, all of it",
        [each * 1e6 for each in seconds["tiering"]],
        [records / each for each in seconds["tiering"]],
        f"zstd -{LEVEL[tier]} alone, in one thread, frames of {FRAME_BYTES[tier]:,} bytes",
        over(seconds["floor"], seconds["tiering"]),
        bench.meter.weight(bench.sizes.rounds * size),
    )
    report.rows = [
        Row("tiering", [size / each / 1e6 for each in seconds["tiering"]], "MB/s"),
        Row("floor", [size / each / 1e6 for each in seconds["floor"]], "MB/s"),
        Row("packed files", [packed], "bytes"),
        Row("packed files, as the disk allocates them", [allocated], "bytes"),
        Row("the limit: one solid zstd -19 --long", [limit], "bytes"),
    ]
    report.ratios = [
        Ratio("processor of zstd alone / of tiering", over(seconds["floor"], seconds["processor"])),
        Ratio("packed / lines", [100 * packed / size], at_most=True, unit="%"),
        Ratio("one solid zstd -19 --long / lines", [100 * limit / size], at_most=True, unit="%"),
        Ratio("limit / packed, size", [limit / packed]),
    ]
    bench.conclude(report)
