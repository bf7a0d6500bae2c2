"""Words with filters, ten records each time, against every peer that finds words."""

from __future__ import annotations

import os
import random

from benchmarks.library import CACHES_OFF
from benchmarks.measure import Bench
from benchmarks.peers.contest import Entry, asked_in_turn, entries, results, scaled, write_all
from benchmarks.peers.ours import MemstorePeer
from benchmarks.peers.peer import Peer, Question
from benchmarks.peers.report import PeersReport
from benchmarks.workloads import LINE_BYTES, SEED, agent_names, batches, memories

_AGENTS = 100
_BATCH = 4000
_LIMIT = 10
_LIMIT_MAX = 1000
"""Of a page of memstore's."""
_RECORDS = {"chroma": 4000}
_RECORDS_ELSE = 40_000
_ASKED = {"chroma": 15, "duckdb": 30}
_ASKED_ELSE = 150


def _questions() -> list[Question]:
    choose = random.Random(SEED)
    agents = agent_names(_AGENTS)
    made: list[Question] = []
    while len(made) < _ASKED_ELSE:
        made += [
            Question(("timeout",), memory_type="ERROR"),
            Question(("latency", "region"), agent_id=choose.choice(agents)),
            Question(("customer", "invoice", "season"), memory_type="GOAL"),
        ]
    return made


def bench_peers_search(bench: Bench) -> None:
    """One, two and three words, all of them wanted, in records of a kind or an agent."""
    questions = _questions()
    contest = entries(["does not matter"])
    records = scaled(_RECORDS_ELSE, bench.sizes)
    peers: dict[str, Peer] = {}
    try:
        for number, entry in enumerate(contest):
            entry.records = scaled(_RECORDS.get(entry.name, _RECORDS_ELSE), bench.sizes)
            _fill(entry, os.path.join(bench.scratch, str(number)), peers)

        def turns() -> None:
            for entry in contest:
                if not entry.out:
                    _ask(entry, peers[entry.name], questions)

        _compare(contest, peers, questions)
        turns()
        for entry in contest:
            entry.forget()
        bench.run(turns)
    finally:
        for peer in peers.values():
            peer.close()
    report = PeersReport("peers_search", bench.scratch, "does not matter", records, records * LINE_BYTES)
    report.question, report.results = "search", results(contest)
    bench.conclude(report)


def _fill(entry: Entry, directory: str, peers: dict[str, Peer]) -> None:
    kind = entry.found.kind
    if kind.searches is None:
        entry.failed = entry.found.missing or "it does not search for words"
    if entry.out:
        return
    records = entry.records
    try:
        peer = peers[entry.name] = kind(directory, reach="os" if "os" in kind.reaches else "fsync", searchable=True)
        write_all(peer, batches(memories(records, agents=_AGENTS), size=_BATCH, total=records), [])
        peer.settle()
        if isinstance(peer, MemstorePeer):
            peer.close()
            peers[entry.name] = MemstorePeer(directory, settings={"storage": {"caching": CACHES_OFF}}, read_only=True)
    except Exception as error:  # noqa: BLE001 - whatever a peer raises is its result, and the others go on
        entry.failed = f"{type(error).__name__}: {error}"
        return
    entry.finding = f"{records:,} records; {kind.searches}"


def _compare(contest: list[Entry], peers: dict[str, Peer], questions: list[Question]) -> None:
    """Who has the same records must find as many of them."""
    for question in questions[:3]:
        found = {
            entry.name: len(peers[entry.name].search(question, _LIMIT_MAX))
            for entry in contest
            if not entry.out and entry.name not in _RECORDS
        }
        assert len(set(found.values())) == 1, (question, found)


def _ask(entry: Entry, peer: Peer, questions: list[Question]) -> None:
    asked = questions[: _ASKED.get(entry.name, _ASKED_ELSE)]
    entry.records = len(asked)  # one answer each
    asked_in_turn(entry, lambda question: peer.search(question, _LIMIT), asked)
