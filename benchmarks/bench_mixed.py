"""mixed: 80 % reads and 20 % durable writes, while another process packs old files of the same store."""

from __future__ import annotations

import os
import shutil
from typing import Any

from benchmarks.aside import put_aside
from benchmarks.figures import over, percentile
from benchmarks.floors import fdatasync_us
from benchmarks.measure import Bench
from benchmarks.report import Headline, Report, Row, judged
from benchmarks.tiers import fill
from benchmarks.workers import run_together
from benchmarks.workloads import LINE_BYTES, batches, memories
from memstore import MemStore

_OLD_FILE_BYTES = 30_000
_OLD_DAYS = 10
_READ_AGENT = "reader_agent_0001"
_READ_RECORDS = 5000
_READ_BATCH = 10


def bench_mixed(bench: Bench) -> None:
    """What readers lose to writers and tiering: the same reads before and meanwhile, in a process of their own."""
    root, old = os.path.join(bench.scratch, "store"), os.path.join(bench.scratch, "old")
    agents = bench.sizes.mixed_agents
    fill(old, size_bytes=agents * _OLD_DAYS * _OLD_FILE_BYTES, agents=agents, days=_OLD_DAYS)
    _append_new(old, min(_READ_RECORDS, bench.sizes.mixed_operations))
    found: dict[str, list[dict[str, Any]]] = {"alone": [], "beside": [], "tiering": []}
    syncs: list[float] = []
    mix = ["mix", root, f"--operations={bench.sizes.mixed_operations}", f"--agent={_READ_AGENT}"]

    def take() -> None:
        put_aside(root)
        shutil.copytree(old, root)
        os.sync()
        syncs.append(percentile(fdatasync_us(os.path.join(bench.scratch, "sync")), 0.5))
        [alone] = run_together([[*mix, "--reads-only"]])
        with bench.meter.of_children():
            beside, tiering = run_together([mix, ["tier", root]])
        bench.meter.children_had([beside["peak_mib"]])
        for name, result in (("alone", alone), ("beside", beside), ("tiering", tiering)):
            found[name].append(result)

    bench.run(take)
    operations = bench.sizes.mixed_operations
    reads = {side: [result["reads"] for result in found[side]] for side in ("alone", "beside")}
    writes = [result["writes"] for result in found["beside"]]
    took = [result["ended"] - result["started"] for result in found["beside"]]
    # The floor of such a mix: its reads as they are alone, its writes as a write and a sync of one record.
    floor_s = [
        (_mean(alone) * len(beside) + sync * len(written)) / 1e6
        for alone, beside, written, sync in zip(reads["alone"], reads["beside"], writes, syncs, strict=True)
    ]
    report = Report("mixed", bench.scratch, "fsync", operations, operations * LINE_BYTES)
    report.headline = Headline(
        "get, beside writes and tiering",
        [time for times in reads["beside"] for time in times],
        [operations / each for each in took],
        "the reads as they are alone, and write and fdatasync of one record for each write",
        over(floor_s, took),
        bench.meter.weight(sum(map(len, writes)) * LINE_BYTES),
    )
    report.rows = [
        Row("get, alone", [time for times in reads["alone"] for time in times], "µs"),
        Row("append", [time for times in writes for time in times], "µs"),
        Row("tiering went on for so much of the mix", list(map(_overlap, found["beside"], found["tiering"])), "%"),
        Row("files packed meanwhile", [result["actions"] for result in found["tiering"]]),
    ]
    report.ratios = [
        judged(
            "mixed", "reads beside / alone, speed", over(*([_mean(t) for t in reads[s]] for s in ("alone", "beside")))
        ),
        judged(
            "mixed",
            "p99 beside / alone",
            over(*([percentile(t, 0.99) for t in reads[s]] for s in ("beside", "alone"))),
        ),
    ]
    bench.conclude(report)


def _append_new(root: str, records: int) -> None:
    """Records of today, which stay in a day file and are what is read; a few at a time, as agents append."""
    with MemStore(root, durability="os") as store:
        for batch in batches(memories(min(records, 1000), agents=1), size=_READ_BATCH, total=records):
            store.append_many({**memory.fields, "agent_id": _READ_AGENT} for memory in batch)
        assert not store.drain().pending


def _overlap(beside: dict[str, Any], tiering: dict[str, Any]) -> float:
    both = min(beside["ended"], tiering["ended"]) - max(beside["started"], tiering["started"])
    took = float(beside["ended"] - beside["started"])
    return 100 * max(float(both), 0.0) / took


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)
