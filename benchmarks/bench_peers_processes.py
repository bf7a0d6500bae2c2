"""Two processes write into one store at once: what is lost, what is refused, and how fast it goes."""

from __future__ import annotations

import os

from benchmarks.aside import put_aside
from benchmarks.measure import Bench
from benchmarks.peers.contest import Entry, entries, results, scaled
from benchmarks.peers.peer import Peer
from benchmarks.peers.report import PeersReport
from benchmarks.peers.writer import Written, write_together
from benchmarks.workloads import LINE_BYTES

_PROCESSES = 2
_BATCH = 50
_RECORDS = {"memstore": 10_000, "agents SQLiteSession": 500, "chroma": 1000, "one file per record": 1000}
_RECORDS_ELSE = 4000
"""Of each process."""


def bench_peers_two_processes(bench: Bench) -> None:
    """Durable batches of 50 by each of two processes, one round: it is what happens that is asked for."""
    contest = entries(["fsync"])
    directory = os.path.join(bench.scratch, "store")

    def contend(entry: Entry) -> None:
        _contend(entry, directory, each=scaled(_RECORDS.get(entry.name, _RECORDS_ELSE), bench.sizes))

    def others() -> None:
        for entry in contest[1:]:
            contend(entry)

    bench.run(contend, args=(contest[0],), teardown=lambda _: others(), rounds=1)
    assert contest[0].counts["lost"] == contest[0].counts["errors"] == 0
    records = contest[0].records
    report = PeersReport("peers_two_processes", bench.scratch, "fsync", records, records * LINE_BYTES)
    report.question, report.results = "two_processes", results(contest)
    bench.conclude(report)


def _contend(entry: Entry, directory: str, *, each: int) -> None:
    if entry.out:
        return
    kind = entry.found.kind
    keeper: Peer | None = None
    try:
        keeper = kind(directory)  # makes what there is to make
        if not keeper.served:
            keeper.close()
            keeper = None
        written = write_together(entry.name, directory, processes=_PROCESSES, records=each, batch=_BATCH)
        if keeper is None:
            keeper = kind(directory)
        _judge(entry, written, there=keeper.count())
    except Exception as error:  # noqa: BLE001 - whatever a peer raises is its result, and the others go on
        entry.failed = f"{type(error).__name__}: {error}"
    finally:
        if keeper is not None:
            keeper.close()
        put_aside(directory)
        os.sync()


def _judge(entry: Entry, written: list[Written], *, there: int) -> None:
    acknowledged = sum(each.acknowledged for each in written)
    errors = [(error, times) for each in written for error, times in (each.errors or {}).items()]
    refused = [each.refused for each in written if each.refused is not None]
    writing = [each for each in written if each.refused is None]
    entry.records = acknowledged
    entry.counts = {
        "processes": len(written),
        "opened": len(writing),
        "acknowledged": acknowledged,
        "there": there,
        "lost": max(acknowledged - there, 0),
        "errors": sum(times for _, times in errors),
    }
    if writing:
        entry.seconds.append(max(each.ended for each in writing) - min(each.started for each in writing))
    said = [f"one process cannot open it ({why})" for why in refused]
    said += [f"{times} batches refused ({error})" for error, times in errors]
    if there != acknowledged:
        said.append(f"{acknowledged} records were acknowledged, and {there} are there")
    entry.finding = "; ".join(said) or "both write; nothing is lost, nothing refused"
