"""A report of one question to all peers: a table of them all, missing ones with their reason."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from benchmarks.peers.result import Better, PeerResult, peer_results
from benchmarks.report import Report


@dataclass(slots=True)
class PeersReport(Report):
    """What a report has, and what each peer came to.

    Attributes:
        question: what all were asked.
        better: what a ratio over 1 says of memstore.
        results: memstore's first.
    """

    question: str = ""
    better: Better = "faster"
    results: Sequence[PeerResult] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """For the JSON; see `benchmarks.peers.result`."""
        return {**Report.as_dict(self), **peer_results(self.question, self.better, self.results)}

    def text(self) -> str:
        """For people."""
        head, *rest = Report.text(self).split("\n")
        return "\n".join([head, *table(self.results, self.better), *rest])


def table(results: Sequence[PeerResult], better: Better) -> list[str]:
    """One line each, and under it what durability means there, once a setting."""
    sized = any(each.bytes_per_record is not None for each in results)
    lines = [("peer", "version", "reaches", "records", *_measures(sized=sized), f"memstore is {better}", "")]
    lines += [_cells(each, sized=sized) for each in results]
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    text = [
        "  "
        + "  ".join(
            cell.ljust(w) if i < 3 else cell.rjust(w) for i, (cell, w) in enumerate(zip(line, widths, strict=True))
        )
        for line in lines
    ]
    notes = [f"    {each.peer}: {each.finding}" for each in results if each.finding]
    notes += [
        f"    {each.peer}, {each.durability}: {each.durability_words}" for each in results if each.durability_words
    ]
    return [line.rstrip() for line in text] + notes


def _measures(*, sized: bool) -> tuple[str, ...]:
    return ("bytes/record",) if sized else ("records/s", "us a call", "us p99")


def _cells(each: PeerResult, *, sized: bool) -> tuple[str, ...]:
    figures = (each.bytes_per_record,) if sized else (each.records_per_second, each.us_median, each.us_p99)
    ratio = "" if each.ratio is None else f"{each.ratio:.2f}x"
    missing = "" if each.missing is None else f"no figure: {each.missing}"
    records = "" if each.records is None else f"{each.records:,}"
    return (each.peer, each.version, each.durability, records, *map(_figure, figures), ratio, missing)


def _figure(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"
