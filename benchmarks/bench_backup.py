"""backup: the first one, one of an unchanged store, verifying and restoring, against copying and syncing the files."""

from __future__ import annotations

import os
from time import perf_counter

from benchmarks.aside import put_aside
from benchmarks.figures import over
from benchmarks.floors import copy_and_sync
from benchmarks.measure import Bench
from benchmarks.report import Headline, Ratio, Report, Row, judged
from benchmarks.workloads import LINE_BYTES, batches, memories
from memstore import MemStore, restore

_AGENTS = 100
_BATCH = 4000
_POOL = 20_000


def bench_backup(bench: Bench) -> None:
    """All of it in turns; nothing is written to the store meanwhile."""
    root, dest, plain = (os.path.join(bench.scratch, name) for name in ("store", "backups", "plain"))
    records = bench.sizes.backup
    with MemStore(root, durability="os") as store:
        for batch in batches(memories(min(records, _POOL), agents=_AGENTS), size=_BATCH, total=records):
            store.append_many([memory.fields for memory in batch])
        assert not store.drain().pending
    steps = ("first", "floor", "unchanged", "verify", "range", "restore")
    seconds: dict[str, list[float]] = {name: [] for name in steps}

    def take() -> None:
        for directory in (dest, plain):
            put_aside(directory)
        os.sync()
        seconds["floor"].append(copy_and_sync(os.path.join(root, "memory"), plain))
        put_aside(plain)
        with MemStore(root) as store:
            with bench.meter.running():
                began = perf_counter()
                made = store.backup(dest)
                seconds["first"].append(perf_counter() - began)
            assert made.records == records
            began = perf_counter()
            assert store.backup(dest).copied_bytes == 0
            seconds["unchanged"].append(perf_counter() - began)
            began = perf_counter()
            verified = store.verify_backup(dest)
            seconds["verify"].append(perf_counter() - began)
            assert verified.is_good
            assert verified.records == records
        seconds["range"].append(_read_all(root, records))
        began = perf_counter()
        assert restore(dest, plain).is_complete
        seconds["restore"].append(perf_counter() - began)

    bench.run(take)
    report = Report("backup", bench.scratch, "fsync", records, records * LINE_BYTES)
    report.headline = Headline(
        "first backup",
        [each * 1e6 for each in seconds["first"]],
        [records / each for each in seconds["first"]],
        "copy the same files, and sync",
        over(seconds["floor"], seconds["first"]),
        bench.meter.weight(bench.sizes.rounds * records * LINE_BYTES),
    )
    report.rows = [Row(name, values, "s") for name, values in seconds.items()]
    report.ratios = [
        Ratio("backup of an unchanged store / first", over(seconds["unchanged"], seconds["first"]), at_most=True),
        judged("backup", "verify / reading every record, speed", over(seconds["range"], seconds["verify"])),
        Ratio("restore / copying and syncing, speed", over(seconds["floor"], seconds["restore"])),
    ]
    bench.conclude(report)


def _read_all(root: str, records: int) -> float:
    """Seconds of decoding every record."""
    began = perf_counter()
    with MemStore(root, read_only=True) as store:
        assert sum(sum(1 for _ in store.agent(agent).range()) for agent in store.agents()) == records
    return perf_counter() - began
