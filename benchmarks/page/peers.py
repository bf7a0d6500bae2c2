"""What people would use instead: the same questions to all of them (`benchmarks.peers.result` says what is there)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from benchmarks.figures import written, written_us
from benchmarks.page.chart import Bar, Bars
from benchmarks.page.document import Block, Heading, Items, Table, Text
from benchmarks.results import Run

_TIMES = ("peer", "durability", "records/s", "median", "p99", "memstore is so many times {}", "")
_SIZES = ("peer", "durability", "bytes per record", "memstore is so many times {}", "")


def peer_blocks(run: Run) -> Iterator[Block]:
    """A table and a chart for each question."""
    questions = run.peers()
    if not questions:
        return
    yield Heading("Peers")
    yield Text(
        "The same records, on the same machine, in the same run, memstore and peers in turn; each peer is used as its "
        "own documentation says is fast, with a setting that keeps the promise named under durability. A peer that "
        "could not be installed or started stands there as missing."
    )
    for result in questions:
        yield Heading(f"`{result['question']}`", 3)
        yield _table(result)
        bars = tuple(
            Bar(f"{peer['peer']}, {peer['durability']}", peer["ratio"], bad=peer["ratio"] < 1)
            for peer in result["peers"]
            if peer["ratio"] and not _is_ours(peer)
        )
        if bars:
            yield Bars(f"memstore is so many times {result['better']}; orange: the peer is better", bars, from_one=True)
        findings = [f"{peer['peer']}: {peer['finding']}" for peer in result["peers"] if peer["finding"]]
        if findings:
            yield Items(tuple(dict.fromkeys(findings)))
    yield Text("What durability means there, and which version it was:")
    words = {
        (peer["peer"], peer["version"], peer["durability"], peer["durability_words"]): None
        for result in questions
        for peer in result["peers"]
        if peer["durability_words"]
    }
    yield Table(("peer", "version", "durability", "its own setting"), tuple(words), words=4)


def _table(result: Mapping[str, Any]) -> Table:
    sized = any(peer["bytes_per_record"] is not None for peer in result["peers"])
    header = tuple(cell.format(result["better"]) for cell in (_SIZES if sized else _TIMES))
    rows = []
    for peer in result["peers"]:
        if sized:
            figures: tuple[str, ...] = (_figure(peer["bytes_per_record"]),)
        else:
            figures = (_figure(peer["records_per_second"]), _us(peer["us_median"]), _us(peer["us_p99"]))
        rows.append((peer["peer"], peer["durability"], *figures, _figure(peer["ratio"]), _remark(peer)))
    return Table(header, tuple(rows), words=2, last_words=True)


def _remark(peer: Mapping[str, Any]) -> str:
    if peer["missing"]:
        return f"missing: {peer['missing']}"
    return "memstore loses" if peer["ratio"] and peer["ratio"] < 1 and not _is_ours(peer) else ""


def _is_ours(peer: Mapping[str, Any]) -> bool:
    """Also with a remark: ``memstore, cached``."""
    return bool(peer["peer"].split(",", 1)[0] == "memstore")


def _figure(value: float | None) -> str:
    return "-" if value is None else written(value)


def _us(value: float | None) -> str:
    return "-" if value is None else written_us(value)
