"""growth: append rate, get, search, memory, time to open and bytes per record, as stores and their agents grow."""

from __future__ import annotations

import os
import statistics
from typing import Any

from benchmarks.figures import over, percentile
from benchmarks.measure import Bench
from benchmarks.report import Headline, Report, Row, judged
from benchmarks.workers import fill_command, run_together
from benchmarks.workloads import LINE_BYTES, agent_names
from memstore import MemStore

_AGENTS = 100
"""Of the stores that grow in records."""
_BATCH = 1000
_LOOKUPS = 2000
REFERENCE = 100_000
"""Records of the store that append rates are compared with."""


def bench_growth_records(bench: Bench, grown_records: int, grown: dict[int, float]) -> None:
    """More and more records of 100 agents."""
    _grow(bench, "records", records=grown_records, agents=_AGENTS, grown=grown)


def bench_growth_agents(bench: Bench, grown_agents: int) -> None:
    """The same number of records, of more and more agents."""
    _grow(bench, "agents", records=bench.sizes.growth_spread, agents=grown_agents, grown={})


def _grow(bench: Bench, over_what: str, *, records: int, agents: int, grown: dict[int, float]) -> None:
    """Appended by one process, durable, in batches of 1,000, until all is merged; read by fresh ones."""
    root = os.path.join(bench.scratch, "store")
    filled: dict[str, Any] = {}
    floors: list[float] = []

    def grow() -> None:
        os.sync()
        command = fill_command(
            root + ".floor", durability="fsync", records=records, batch=_BATCH, agents=agents, kind="floor"
        )
        [floor] = run_together([command])
        floors.append(records / (floor["ended"] - floor["started"]))
        os.sync()
        with bench.meter.of_children():
            [found] = run_together(
                [fill_command(root, durability="fsync", records=records, batch=_BATCH, agents=agents)]
            )
        bench.meter.children_had([found["peak_mib"]])
        filled.update(found)

    bench.run(grow, rounds=1)
    rate = records / (filled["merged"] - filled["started"])
    if over_what == "records":
        grown[records] = rate
    stored = _bytes_on_disk(root)
    reader = ["open", root, f"--agent={agent_names(1)[0]}", f"--lookups={min(_LOOKUPS, records)}"]
    opened = [run_together([reader])[0] for _ in range(bench.sizes.openings)]
    with MemStore(root, settings={"search.background": False}) as store:
        store.index()
    [searched] = run_together([["search", root]])
    get_us = [time for found in opened for time in found["get_us"]]
    opening = statistics.median(found["open_ms"] for found in opened)
    peak = max(filled["peak_mib"], *(found["peak_mib"] for found in opened))
    name = f"growth[{records if over_what == 'records' else agents} {over_what}]"
    report = Report(name, bench.scratch, "fsync", records, records * LINE_BYTES)
    report.point = {
        "over": over_what,
        "records": records,
        "agents": agents,
        "append, records/s": rate,
        "get, µs": percentile(get_us, 0.5),
        "search, µs": percentile(searched["us"], 0.5),
        "resident while appending, MiB": filled["peak_mib"],
        "open, ms": opening,
        "bytes per record": stored / records,
    }
    report.headline = Headline(
        f"append_many of {_BATCH:,}",
        filled["us"],
        [rate],
        f"encode, join, write, fdatasync of {_BATCH:,} at a time",
        over([rate], floors),
        bench.meter.weight(records * LINE_BYTES),
    )
    report.rows = [
        Row("get in a fresh process, caches off", get_us, "µs"),
        Row("search, questions of all kinds", searched["us"], "µs"),
        Row("open in a fresh process", [found["open_ms"] for found in opened], "ms"),
        Row("its first recent(1)", [found["first_recent_ms"] for found in opened], "ms"),
        Row("resident memory of a process that searches", [searched["peak_mib"]], "MiB"),
        Row("bytes on disk per record, without the index", [stored / records], "bytes"),
    ]
    report.ratios = [
        judged(name, "open", [opening]),
        judged(name, "peak resident memory", [peak]),
    ]
    if over_what == "records" and REFERENCE in grown and records > REFERENCE:
        report.ratios.append(judged(name, "append rate / at 100,000 records", [rate / grown[REFERENCE]]))
    bench.conclude(report)


def _bytes_on_disk(root: str) -> int:
    """What files and directories take, as the disk allocates it."""
    return sum(
        os.lstat(path).st_blocks * 512
        for place, _, names in os.walk(root)
        for path in (place, *(os.path.join(place, name) for name in names))
    )
