"""get, recent(50) and bytes on disk against every peer: the same records, all at rest, all in the page cache."""

from __future__ import annotations

import os
import random
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from benchmarks.aside import MakeDirectory, empty_files
from benchmarks.library import CACHES_OFF
from benchmarks.measure import Bench
from benchmarks.peers.contest import Entry, asked_in_turn, entries, ratios, results, scaled, write_all
from benchmarks.peers.ours import MemstorePeer
from benchmarks.peers.peer import Peer, UnsupportedError
from benchmarks.peers.report import PeersReport
from benchmarks.report import Ratio
from benchmarks.sizes import Sizes
from benchmarks.workloads import LINE_BYTES, SEED, agent_names, batches, memories
from memstore import MemStore
from memstore.clock import ManualClock
from memstore.timestamps import US_PER_DAY

_BATCH = 4000
_RECORDS = {"one file per record": 20_000, "agents SQLiteSession": 10_000, "chroma": 8_000}
_RECORDS_ELSE = 40_000
_GETS = {"duckdb": 200, "chroma": 200}
_GETS_ELSE = 2000
_RECENT = 50
_ASKED_AGENTS = {"chroma": 20, "duckdb": 50}


@dataclass(slots=True)
class Filled:
    """A peer at rest with what was written into it.

    Attributes:
        entry: it, with ``bytes_per_record``; copied for each question.
        peer: open; None where it is missing or failed.
        ids: of its records.
    """

    entry: Entry
    peer: Peer | None
    ids: list[str]

    def begin(self) -> Entry:
        """An entry for one more question."""
        old = self.entry
        return Entry(old.found, old.name, "does not matter", failed=old.failed)


def _agents(sizes: Sizes) -> int:
    return 2 if sizes.name == "smoke" else 100


def _fill(entry: Entry, directory: str, *, agents: int) -> Filled:
    if entry.out:
        return Filled(entry, None, [])
    peer: Peer | None = None
    try:
        peer = entry.found.kind(directory, reach="os" if "os" in entry.found.kind.reaches else "fsync")
        ids = write_all(peer, batches(memories(entry.records, agents=agents), size=_BATCH, total=entry.records), [])
        peer.settle()
        if not peer.served:
            peer.close()
        entry.bytes_per_record = peer.bytes_on_disk() / entry.records
        if not peer.served:
            peer = (
                MemstorePeer(directory, settings={"storage": {"caching": CACHES_OFF}}, read_only=True)
                if entry.name == "memstore"
                else (entry.found.kind(directory))
            )
    except Exception as error:  # noqa: BLE001 - whatever a peer raises is its result, and the others go on
        entry.failed = f"{type(error).__name__}: {error}"
        return Filled(entry, None, [])
    return Filled(entry, peer, ids)


@pytest.fixture(scope="module")
def filled(make_directory: MakeDirectory, sizes: Sizes) -> Iterator[list[Filled]]:
    """Our own without its caches, memstore with them, then every peer."""
    scratch = make_directory("memstore-peers-")
    made: list[Filled] = []
    try:
        for number, entry in enumerate(entries(["does not matter"])):
            entry.records = scaled(_RECORDS.get(entry.name, _RECORDS_ELSE), sizes)
            made.append(_fill(entry, os.path.join(scratch, str(number)), agents=_agents(sizes)))
        [ours] = [each for each in made if each.entry.name == "memstore"]
        cached = MemstorePeer(os.path.join(scratch, "0"), read_only=True)
        for memory_id in ours.ids:
            cached.get(memory_id)
        made.insert(1, Filled(Entry(ours.entry.found, "memstore, cached", "does not matter"), cached, ours.ids))
        yield made
    finally:
        for each in made:
            if each.peer is not None:
                each.peer.close()
        empty_files(scratch)


def bench_peers_get(bench: Bench, filled: list[Filled]) -> None:
    """By id, all over the records; memstore from day files with its caches off, and with them."""
    choose = random.Random(SEED)

    def ask(each: Filled, peer: Peer, entry: Entry) -> None:
        entry.records = calls = _GETS.get(entry.name, _GETS_ELSE)
        asked_in_turn(entry, peer.get, [choose.choice(each.ids) for _ in range(calls)])

    contest = _take_turns(bench, filled, ask, lambda each, peer: peer.get(each.ids[0]))
    report = _report("get", contest, bench)
    [sqlite] = [entry for entry in contest if entry.name == "sqlite"]
    report.ratios = [
        Ratio("memstore, caches off / sqlite", [1 / each for each in ratios(sqlite, contest[0])], 4, at_most=True)
    ]
    bench.conclude(report)


def bench_peers_recent(bench: Bench, filled: list[Filled]) -> None:
    """The 50 newest of an agent, of every agent once."""

    def ask(_: Filled, peer: Peer, entry: Entry) -> None:
        names = agent_names(_agents(bench.sizes))[: _ASKED_AGENTS.get(entry.name)]
        entry.records = len(names) * _RECENT
        asked_in_turn(entry, lambda agent: _expect(peer.recent(agent, _RECENT)), names)

    contest = _take_turns(bench, filled, ask, lambda _, peer: _expect(peer.recent(agent_names(1)[0], _RECENT)))
    bench.conclude(_report("recent", contest, bench))


def bench_peers_bytes(bench: Bench, filled: list[Filled]) -> None:
    """Blocks on disk for each record of 780 bytes: at rest, and for memstore also when it has become cold."""
    [ours] = [each for each in filled if each.entry.name == "memstore"]
    assert isinstance(ours.peer, MemstorePeer)
    cold_directory = os.path.join(bench.scratch, "cold")
    shutil.copytree(os.path.dirname(ours.peer.root), cold_directory)
    bench.run(lambda: _make_cold(cold_directory), rounds=1)
    cold = Entry(ours.entry.found, "memstore, cold", "does not matter", records=ours.entry.records)
    peer = MemstorePeer(cold_directory, read_only=True)
    cold.bytes_per_record = peer.bytes_on_disk() / ours.entry.records
    peer.close()
    contest = [ours.entry, cold, *(each.entry for each in filled if not each.entry.name.startswith("memstore"))]
    report = _report("bytes", contest, bench)
    report.better = "smaller"
    bench.conclude(report)


def _make_cold(directory: str) -> None:
    a_year_on = ManualClock(time.time_ns() // 1000 + 400 * US_PER_DAY)
    with MemStore(os.path.join(directory, "store"), clock=a_year_on) as store:
        store.maintain(parts={"tiers"})
        store.maintain(parts={"tiers"})
        assert {each["tier"] for each in store.tiers()["tiers"] if each["records"]} == {"cold"}


def _take_turns(
    bench: Bench,
    filled: list[Filled],
    ask: Callable[[Filled, Peer, Entry], None],
    try_out: Callable[[Filled, Peer], object],
) -> list[Entry]:
    """Rounds of everyone who has an answer; who has none says why."""
    contest = [each.begin() for each in filled]
    for each, entry in zip(filled, contest, strict=True):
        if each.peer is not None and not entry.out:
            try:
                try_out(each, each.peer)
                ask(each, each.peer, entry)  # warms up
            except UnsupportedError as why:
                entry.failed = str(why)
            entry.forget()

    def turns() -> None:
        for each, entry in zip(filled, contest, strict=True):
            if each.peer is not None and not entry.out:
                ask(each, each.peer, entry)

    bench.run(turns)
    return contest


def _report(question: str, contest: list[Entry], bench: Bench) -> PeersReport:
    records = scaled(_RECORDS_ELSE, bench.sizes)
    report = PeersReport(f"peers_{question}", bench.scratch, "does not matter", records, records * LINE_BYTES)
    report.question, report.results = question, results(contest)
    return report


def _expect(found: object) -> None:
    assert isinstance(found, list)
    assert len(found) == _RECENT
