"""The shape in which results of peers stand in pytest-benchmark's JSON.

Every benchmark against all peers is named ``bench_peers_<question>`` and writes, beside what every report has, into its
``extra_info``::

    "question": "fill_batch",            also fill_one, get, recent, search, two_processes, bytes
    "better":   "faster" | "smaller",    what a ratio over 1 says of memstore
    "peers": [                           memstore first, also with a remark ("memstore, cached"), then each peer
                                         of the registry, in its order, missing ones too
        {
            "peer": "sqlite",            its name in the registry; a pair (peer, durability) comes once
            "version": "3.46.1",         "" where it is missing
            "durability": "fsync",       "fsync", "os", or "does not matter" (reads, bytes)
            "durability_words": "WAL, synchronous=FULL: each transaction is synced before it is acknowledged",
            "records": 40000,            handled in each round; slow peers get fewer
            "operations": 10,            calls in each round
            "seconds": [0.91, 0.88],     of each round
            "records_per_second": 44700, median of the rounds
            "us_median": 20100.0,        of one call, over all rounds
            "us_p99": 31000.0,
            "bytes_per_record": 1130.5,  on disk, in blocks, as du counts; only where the question asks it
            "ratio": 17.2,               how many times faster (or smaller) memstore is, record for record:
                                         median over the rounds, for reads of their median calls. Below 1:
                                         memstore loses
            "missing": "lmdb is not installed",   instead of figures; null where there are figures
            "finding": "one process cannot open it (IOException)",   what happened, or what to know of these figures
            "counts": {"acknowledged": 8000, "lost": 0, "errors": 0}   whole numbers behind the finding, else {}
        },
    ]

Every key is always there; a figure that was not measured is null, and a list of seconds that was not measured is empty.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Durability = Literal["fsync", "os", "does not matter"]
Better = Literal["faster", "smaller"]


@dataclass(frozen=True, slots=True)
class PeerResult:
    """One peer's answer to one question; the attributes are the keys above.

    Attributes:
        peer: its name in the registry, or ``memstore``.
        durability: what an acknowledged write has reached.
        version: of the peer.
        durability_words: the setting of the peer that gives this durability.
        records: handled in each round.
        operations: calls in each round.
        seconds: of each round.
        records_per_second: median of the rounds.
        us_median: microseconds of one call.
        us_p99: the call that 99 of 100 do not exceed.
        bytes_per_record: on disk.
        ratio: how many times faster or smaller memstore is.
        missing: why there are no figures.
        finding: what happened, or what a reader of these figures should know.
        counts: whole numbers behind the finding.
    """

    peer: str
    durability: Durability
    version: str = ""
    durability_words: str = ""
    records: int | None = None
    operations: int | None = None
    seconds: Sequence[float] = ()
    records_per_second: float | None = None
    us_median: float | None = None
    us_p99: float | None = None
    bytes_per_record: float | None = None
    ratio: float | None = None
    missing: str | None = None
    finding: str = ""
    counts: Mapping[str, int] = field(default_factory=dict)


def peer_results(question: str, better: Better, results: Sequence[PeerResult]) -> dict[str, Any]:
    """What goes into ``extra_info``.

    Args:
        question: what all were asked.
        better: what a ratio over 1 says of memstore.
        results: memstore's first, then the peers'.
    """
    return {
        "question": question,
        "better": better,
        "peers": [{**asdict(each), "seconds": list(each.seconds), "counts": dict(each.counts)} for each in results],
    }


def rate(records: int, seconds: Sequence[float]) -> float | None:
    """Median of the rounds' records per second; None without a round."""
    return statistics.median(records / each for each in seconds) if seconds else None
