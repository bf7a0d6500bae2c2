"""get_cached, get_hot, get_warm, get_cold: a record by its id, against one read of its bytes in the page cache."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from typing import Any

from benchmarks.figures import over
from benchmarks.floors import OpenFiles, SelectByKey
from benchmarks.library import CACHES_OFF, Library
from benchmarks.measure import Bench
from benchmarks.report import Headline, Report, Row, judged
from benchmarks.tiers import FRAME_BYTES, LEVEL, PackedTier, hot_lines
from benchmarks.turns import Turns
from benchmarks.workloads import LINE_BYTES, SEED
from memstore import MemStore
from memstore.codec.zstd import compress, decompress

_HOT_SET = 10_000
"""Records that fit into the default cache."""
_UNCACHED: dict[str, Any] = {"storage": {"caching": CACHES_OFF}}
_NOTHING_KEPT: dict[str, Any] = {**_UNCACHED, "reading": {"frame_cache_bytes_max": 0}}
_FLOOR = "one read of the record's bytes from an open file in the page cache"


def bench_get_cached(bench: Bench, library: Library) -> None:
    """Ids that were asked for before."""
    ids = list(library.lines)
    chosen = random.Random(SEED).sample(ids, min(_HOT_SET, len(ids)))
    with MemStore(library.hot, read_only=True) as store:
        for memory_id in chosen:
            store.get(memory_id)
        turns = _take_turns(bench, library, {"memstore": store.get}, chosen)
    report = _report("get_cached", bench, library, turns)
    report.ratios = [judged("get_cached", "median", turns.medians["memstore"])]
    bench.conclude(report)


def bench_get_hot(bench: Bench, library: Library) -> None:
    """From day files, caches off; and SQLite's select by primary key, decoded as memstore decodes it."""
    ids = list(library.lines)
    with OpenFiles(library.paths) as files:
        rows = ((memory_id, bytes(files.read(stretch))) for memory_id, stretch in library.lines.items())
        sqlite = SelectByKey(os.path.join(bench.scratch, "memory.db"), rows)
    with MemStore(library.hot, read_only=True, settings=_UNCACHED) as store:
        for memory_id in ids[:: max(len(ids) // 1000, 1)]:
            assert store.get(memory_id) == sqlite.get(memory_id) is not None
        turns = _take_turns(bench, library, {"memstore": store.get, "sqlite": sqlite.get}, ids)
    sqlite.close()
    report = _report("get_hot", bench, library, turns)
    report.rows.append(Row("SQLite select by primary key, decoded", turns.us["sqlite"], "µs"))
    report.ratios = [judged("get_hot", "get_hot / SQLite select and decode", turns.over("memstore", "sqlite"))]
    bench.conclude(report)


def bench_get_warm(bench: Bench, library: Library) -> None:
    """From frames of a day, nothing kept."""
    _get_packed(bench, library, "warm", library.warm)


def bench_get_cold(bench: Bench, library: Library) -> None:
    """From frames of a month, nothing kept."""
    _get_packed(bench, library, "cold", library.cold)


def _get_packed(bench: Bench, library: Library, tier: PackedTier, root: str) -> None:
    lines = b"".join(hot_lines(library.hot))[: FRAME_BYTES[tier]]
    frame = compress(lines, level=LEVEL[tier])
    with (
        MemStore(root, read_only=True, settings=_NOTHING_KEPT) as store,
        MemStore(root, read_only=True, settings=_UNCACHED) as keeping_frames,
        MemStore(library.hot, read_only=True, settings=_UNCACHED) as hot,
    ):
        sides: dict[str, Callable[[Any], object]] = {
            "memstore": store.get,
            "frames kept": keeping_frames.get,
            "hot": hot.get,
            "decode": lambda _: decompress(frame, raw_length=len(lines)),
        }
        turns = _take_turns(bench, library, sides, list(library.lines))
    name = f"get_{tier}"
    report = _report(name, bench, library, turns)
    report.rows += [
        Row("with the frame cache as it is set", turns.us["frames kept"], "µs"),
        Row("get_hot", turns.us["hot"], "µs"),
        Row(f"decoding one frame of {len(lines):,} bytes", turns.us["decode"], "µs"),
    ]
    medians = turns.medians
    allowed = [one + 1.5 * other for one, other in zip(medians["hot"], medians["decode"], strict=True)]
    report.ratios = [judged(name, f"{name} / (get_hot + 1.5 decodings)", over(medians["memstore"], allowed))]
    bench.conclude(report)


def _take_turns(bench: Bench, library: Library, sides: dict[str, Callable[[Any], object]], ids: list[str]) -> Turns:
    """All sides and the floor, with ids chosen at random."""
    choose = random.Random(SEED)
    lines = library.lines
    with OpenFiles(library.paths) as files:
        turns = Turns({**sides, "floor": lambda memory_id: files.read(lines[memory_id])})

        def take() -> None:
            turns.take([choose.choice(ids) for _ in range(bench.sizes.lookups)])

        take()
        turns.forget()
        with bench.meter.running():
            bench.run(take)
    return turns


def _report(name: str, bench: Bench, library: Library, turns: Turns) -> Report:
    records = len(library.lines)
    report = Report(name, bench.scratch, "reads only", records, records * LINE_BYTES)
    report.headline = Headline(
        "get",
        turns.us["memstore"],
        turns.per_second("memstore"),
        _FLOOR,
        turns.over("floor", "memstore"),
        bench.meter.weight(records * LINE_BYTES),
    )
    report.rows = [Row("floor", turns.us["floor"], "µs")]
    return report
