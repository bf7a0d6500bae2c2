"""fill_batch and fill_one against every peer: the same records, by one process, to the disk and to the system."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator

from benchmarks.measure import Bench
from benchmarks.peers.contest import Entry, entries, filled_in_turn, ratios, results, scaled
from benchmarks.peers.report import PeersReport
from benchmarks.peers.result import Durability
from benchmarks.report import Ratio
from benchmarks.workloads import LINE_BYTES, Memory, batches, memories

_AGENTS = 1000
_BATCH = 4000
_IN_BATCHES = {
    "memstore": 120_000,
    "lmdb": 40_000,
    "rocksdb": 80_000,
    "sqlite": 24_000,
    "duckdb": 40_000,
    "postgresql": 24_000,
    "diskcache": 12_000,
    "langgraph SqliteStore": 12_000,
    "one file per record": 4_000,
    "agents SQLiteSession": 2_000,
    "chroma": 2_000,
}
"""Records a round. Slow peers get fewer, which favours them: what they have written has not grown yet."""
_ONE_BY_ONE: dict[str, dict[Durability, int]] = {
    "memstore": {"fsync": 500, "os": 5000},
    "agents SQLiteSession": {"fsync": 100},
    "chroma": {"fsync": 50},
}
_ONE_BY_ONE_ELSE: dict[Durability, int] = {"fsync": 200, "os": 2000}
_POOL = 40_000


def bench_peers_fill_batch(bench: Bench) -> None:
    """Batches of 4,000 records of 1,000 agents; memstore's merges included."""
    contest = entries(["fsync", "os"])
    for entry in contest:
        entry.records = scaled(_IN_BATCHES[entry.name], bench.sizes)
        if entry.name == "one file per record" and entry.durability == "fsync":
            entry.records //= 4
    report = _fill("fill_batch", contest, bench)
    ours = contest[0]
    report.ratios = [
        *_ratio("memstore / rocksdb, sync", ours, contest, ("rocksdb", "fsync"), 2.5),
        *_ratio("memstore / sqlite, FULL", ours, contest, ("sqlite", "fsync"), 15),
        *_ratio("memstore / one file per record, not synced", ours, contest, ("one file per record", "os"), 100),
    ]
    bench.conclude(report)


def bench_peers_fill_one(bench: Bench) -> None:
    """One record at a time, each acknowledged before the next."""
    contest = entries(["fsync", "os"])
    for entry in contest:
        each = _ONE_BY_ONE.get(entry.name, _ONE_BY_ONE_ELSE)[entry.durability]
        entry.records = scaled(each, bench.sizes)
    bench.conclude(_fill("fill_one", contest, bench))


def _fill(question: str, contest: list[Entry], bench: Bench) -> PeersReport:
    size = _BATCH if question == "fill_batch" else 1
    pool = memories(_POOL, agents=_AGENTS)

    def turn(entry: Entry) -> None:
        again = entry.records > len(pool)  # the same records under new ids, which keys must be
        given = batches(pool, size=size, total=entry.records)
        filled_in_turn(entry, os.path.join(bench.scratch, "store"), _renamed(given) if again else given)

    def others() -> None:
        for entry in contest[1:]:
            turn(entry)

    bench.run(turn, args=(contest[0],), teardown=lambda _: others())
    records = contest[0].records
    report = PeersReport(f"peers_{question}", bench.scratch, "fsync and os", records, records * LINE_BYTES)
    report.question, report.results = question, results(contest)
    return report


def _renamed(given: Iterable[list[Memory]]) -> Iterator[list[Memory]]:
    for number, batch in enumerate(given):
        tail = f"{number:06x}"
        yield [
            Memory(memory.fields, {**memory.stored, "memory_id": memory.stored["memory_id"] + tail}) for memory in batch
        ]


def _ratio(name: str, ours: Entry, contest: list[Entry], wanted: tuple[str, str], target: float) -> list[Ratio]:
    return [
        Ratio(name, ratios(entry, ours), target)
        for entry in contest
        if (entry.name, entry.durability) == wanted and entry.seconds
    ]
