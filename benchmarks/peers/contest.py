"""memstore and its peers take turns, round by round; what each took becomes results in the common shape."""

from __future__ import annotations

import os
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from time import perf_counter
from typing import TypeVar

from benchmarks.aside import put_aside
from benchmarks.figures import percentile
from benchmarks.peers.ours import MemstorePeer
from benchmarks.peers.peer import Peer, Reach
from benchmarks.peers.registry import Found, found_peers
from benchmarks.peers.result import Durability, PeerResult, rate
from benchmarks.sizes import Sizes
from benchmarks.workloads import Memory

Argument = TypeVar("Argument")


@dataclass(slots=True)
class Entry:
    """One peer with one setting, through all rounds.

    Attributes:
        found: the peer.
        name: under which it is reported.
        durability: what its acknowledged writes reach, or that it does not matter.
        records: handled in each round.
        operations: calls in each round.
        seconds: of each round.
        us: microseconds of each call.
        acknowledged: seconds of each round without what is done after the last write; only where that is counted.
        medians: of each round's questions; empty for writes, which are compared by what all of a round took.
        failed: why there are no figures, though it is installed.
        finding: words where words are the result.
    """

    found: Found
    name: str
    durability: Durability
    records: int = 0
    operations: int = 0
    seconds: list[float] = field(default_factory=list)
    us: list[float] = field(default_factory=list)
    acknowledged: list[float] = field(default_factory=list)
    medians: list[float] = field(default_factory=list)
    bytes_per_record: float | None = None
    failed: str | None = None
    finding: str = ""
    counts: Mapping[str, int] = field(default_factory=dict)

    def forget(self) -> None:
        """Begin again, after warming up."""
        for each in (self.seconds, self.us, self.medians):
            each.clear()

    @property
    def out(self) -> bool:
        """Whether there is nothing to measure."""
        return self.found.missing is not None or self.failed is not None

    @property
    def reach(self) -> Reach:
        """For opening it."""
        return "os" if self.durability == "os" else "fsync"


def ours() -> Found:
    """memstore, as if it were a peer."""
    return Found(MemstorePeer, None, MemstorePeer.version())


_SHARE = {"smoke": 0.02, "full": 5.0}


def scaled(records: int, sizes: Sizes) -> int:
    """So many records in the ten-minute set; fewer to see that it runs, more where everything is measured."""
    return max(round(records * _SHARE.get(sizes.name, 1.0)), 10)


def entries(durabilities: Sequence[Durability]) -> list[Entry]:
    """memstore, then every peer, with each of the durabilities that it has; missing ones too."""
    return [
        Entry(found, found.kind.name, durability)
        for found in (ours(), *found_peers())
        for durability in durabilities
        if durability == "does not matter" or durability in found.kind.reaches
    ]


def write_all(peer: Peer, batches: Iterable[list[Memory]], us: list[float]) -> list[str]:
    """Write batches; the microseconds of each call are put into ``us``, making the records is not counted."""
    ids: list[str] = []
    for batch in batches:
        records = peer.form(batch)
        began = perf_counter()
        written = peer.write(records)
        us.append((perf_counter() - began) * 1e6)
        ids += written
    return ids


def filled_in_turn(entry: Entry, directory: str, batches: Iterable[list[Memory]]) -> None:
    """One round of writing into a new store, gone afterwards; memstore's merges are counted, and nobody else's."""
    if entry.out:
        return
    taken: list[float] = []
    try:
        peer = entry.found.kind(directory, reach=entry.reach)
        try:
            write_all(peer, batches, taken)
            began = perf_counter()
            if isinstance(peer, MemstorePeer):
                peer.settle()
            settled = perf_counter() - began
        finally:
            peer.close()
    except Exception as error:  # noqa: BLE001 - whatever a peer raises is its result, and the others go on
        entry.failed = f"{type(error).__name__}: {error}"
        return
    finally:
        put_aside(directory)
        os.sync()  # what one left dirty is not charged to the next
    entry.operations = len(taken)
    entry.us += taken
    entry.seconds.append(sum(taken) / 1e6 + settled)
    if entry.found.kind is MemstorePeer:
        entry.acknowledged.append(sum(taken) / 1e6)


def asked_in_turn(entry: Entry, ask: Callable[[Argument], object], arguments: Sequence[Argument]) -> None:
    """One round of questions."""
    taken = []
    for argument in arguments:
        began = perf_counter()
        ask(argument)
        taken.append((perf_counter() - began) * 1e6)
    entry.operations = len(taken)
    entry.us += taken
    entry.medians.append(percentile(taken, 0.5))
    entry.seconds.append(sum(taken) / 1e6)


def ratios(entry: Entry, base: Entry) -> list[float]:
    """How many times faster ``base`` is, record for record or answer for answer, round by round."""
    if base.medians:
        return [theirs / our for theirs, our in zip(entry.medians, base.medians, strict=False)]
    return [
        (theirs / entry.records) / (our / base.records)
        for theirs, our in zip(entry.seconds, base.seconds, strict=False)
    ]


def result(entry: Entry, base: Entry | None) -> PeerResult:
    """In the common shape.

    Args:
        entry: one peer.
        base: memstore, with the same durability.
    """
    words = "" if entry.durability == "does not matter" else entry.found.kind.reaches[entry.reach]
    if entry.out:
        why = entry.found.missing or entry.failed
        return PeerResult(entry.name, entry.durability, entry.found.version, words, missing=why)
    smaller = base is not None and base.bytes_per_record and entry.bytes_per_record
    times = ratios(entry, base) if base is not None else []
    return PeerResult(
        peer=entry.name,
        durability=entry.durability,
        version=entry.found.version,
        durability_words=words,
        records=entry.records,
        operations=entry.operations or None,
        seconds=entry.seconds,
        records_per_second=rate(entry.records, entry.seconds),
        us_median=percentile(entry.us, 0.5) if entry.us else None,
        us_p99=percentile(entry.us, 0.99) if entry.us else None,
        bytes_per_record=entry.bytes_per_record,
        ratio=_smaller(entry, base) if smaller else statistics.median(times) if times else None,
        finding=entry.finding,
        counts=entry.counts,
    )


def _smaller(entry: Entry, base: Entry | None) -> float | None:
    if base is None or base.bytes_per_record is None or entry.bytes_per_record is None:
        return None
    return entry.bytes_per_record / base.bytes_per_record


def results(all_entries: Sequence[Entry]) -> list[PeerResult]:
    """Of all, each held against memstore with the same durability; what to know of a peer is said once."""
    bases = {entry.durability: entry for entry in reversed(all_entries) if entry.name == MemstorePeer.name}
    told: list[PeerResult] = []
    for entry in all_entries:
        for each in (entry, *_acknowledged(entry)):
            if not any(other.peer == each.name for other in told):
                each.finding = each.finding or each.found.kind.caveat
            told.append(result(each, bases.get(each.durability)))
    return told


def _acknowledged(entry: Entry) -> list[Entry]:
    """The same writes as peers are counted, whose checkpoints and compactions nobody waits for."""
    if not entry.acknowledged:
        return []
    name = f"{entry.name}, merges not waited for"
    return [replace(entry, name=name, seconds=entry.acknowledged, acknowledged=[])]
