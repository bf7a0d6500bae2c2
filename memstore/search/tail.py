"""What is durable and not yet indexed, as an index in memory: so that search is never behind.

It is fed from the lanes like the partitions, from the watermark on, and searched like one more partition: the same
words, the same filters, the same counts. When the watermark moves on, what it has passed is left out by a filter, and
the whole is dropped once most of it is such. It holds no more than a bound; above that the caller indexes, or scans.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import orjson
import tantivy

from memstore.engine.feed import FedLane, Feed, is_cut_back
from memstore.format.lines import bare_lines
from memstore.search.compile import Compiler
from memstore.search.document import Documents
from memstore.search.foreign import translated
from memstore.search.partition import Partition, Place
from memstore.search.schema import AGENT_HASH, KEY, LANE, PLACE, SUFFIX, TIME, Analyzer, IndexShape

TAIL_BYTES_MAX = 32 * 1024 * 1024
"""Bytes of lanes behind the watermark that are indexed in memory: some 40,000 records, a second's work, 40 MB."""
WRITER_BYTES = 15_000_000
_WASTE_RECORDS_MIN = 2000
_PLACE_MAX = 2**62
_leaked: list[object] = []
"""Writers of a parent process: dropping one in a forked child would wait for threads that are not there."""


@dataclass(frozen=True, slots=True)
class TailView:
    """The tail for one search.

    Attributes:
        partition: to be searched; None where nothing waits.
        live: what of it counts; None: all.
        records: how many records that is.
        damaged: months of which it lacks something that lanes have lost.
        places: of the records of the months that were asked for, their keys.
    """

    partition: Partition | None
    live: tantivy.Query | None
    records: int
    damaged: frozenset[str] = frozenset()
    places: Mapping[Place, int] = field(default_factory=dict)


def behind_bytes(lanes: Sequence[FedLane], watermark: Mapping[str, int]) -> int:
    """How much of the lanes lies behind a watermark."""
    return sum(max(lane.end - watermark.get(lane.token, 0), 0) for lane in lanes)


class Tail:
    """Thread-safe."""

    def __init__(self, feed: Feed, *, shape: IndexShape, analyzer: Analyzer, compiler: Compiler) -> None:
        self._feed = feed
        self._analyzer = analyzer
        self._compiler = compiler
        self._documents = Documents(shape.context_keys)
        self._lock = threading.Lock()
        self._is_half_read = False
        self._reset()

    def _reset(self) -> None:
        self._partition: Partition | None = None
        self._writer: tantivy.IndexWriter | None = None
        self._numbers: dict[str, int] = {}
        self._begins: dict[str, int] = {}
        self._ends: dict[str, int] = {}
        self._damaged: set[str] = set()
        self._places: dict[str, dict[Place, int]] = {}
        self._commits: dict[str, list[tuple[int, int]]] = {}
        self._records = 0

    def forget_after_fork(self) -> None:
        """In a forked child: the writer and its threads are the parent's."""
        _leaked.append((self._writer, self._partition))
        self._lock = threading.Lock()
        self._is_half_read = False
        self._reset()

    def clear(self) -> None:
        """Forget everything; the next search reads it again."""
        with self._lock:
            self._is_half_read = True
            self._drop()
            self._is_half_read = False

    def _start(self, lane: FedLane, watermark: Mapping[str, int]) -> int:
        return max(watermark.get(lane.token, 0), self._ends.get(lane.token, 0))

    def view(
        self, lanes: Sequence[FedLane], watermark: Mapping[str, int], *, places_of: Iterable[str] = ()
    ) -> TailView:
        """Everything in the lanes that lies behind the watermark.

        Args:
            lanes: listed before the watermark was read.
            watermark: how far the partitions are, by token.
            places_of: months whose records' places are wanted.
        """
        with self._lock:
            if self._is_half_read:
                self._drop()  # whoever read was interrupted, by Ctrl-C perhaps, between any two steps
            self._is_half_read = True
            if any(is_cut_back(lane, self._ends.get(lane.token, 0)) for lane in lanes):
                self._drop()  # a commit that was read has been cut off again
            if any(watermark.get(token, 0) < begin for token, begin in self._begins.items()):
                self._drop()  # made for a watermark that was read later, by another thread
            self._read(lanes, watermark)
            view = self._view(lanes, watermark)
            self._is_half_read = False
            if view.partition is None and not self._damaged:
                return view
            wanted = {place: key for month in places_of for place, key in self._places.get(month, {}).items()}
            return replace(view, places=wanted, damaged=frozenset(self._damaged))

    def _read(self, lanes: Sequence[FedLane], watermark: Mapping[str, int]) -> None:
        added = False
        for lane in lanes:
            start = self._start(lane, watermark)
            if start >= lane.end:
                continue
            self._begins.setdefault(lane.token, start)
            for commit in self._feed.commits(lane, start):
                self._damaged.update(day[:6] for day in commit.damaged)
                writer = self._open_writer()
                number = self._numbers.setdefault(lane.token, len(self._numbers))
                records = 0
                for item, data in commit.slices:
                    lines = bare_lines(data)
                    places = self._places.setdefault(item.day[:6], {})
                    for document in self._documents.of(lines):
                        places[Place(document[TIME], document[SUFFIX], document[AGENT_HASH])] = document[KEY]
                        document[LANE], document[PLACE] = number, commit.end
                        writer.add_json(orjson.dumps(document).decode())
                    records += len(lines)
                added = True
                self._records += records
                self._ends[lane.token] = commit.end
                self._commits.setdefault(lane.token, []).append((commit.end, records))
        if added:
            with translated("the unindexed tail"):
                self._open_writer().commit()
            assert self._partition is not None
            self._partition = self._partition.newest()

    def _view(self, lanes: Sequence[FedLane], watermark: Mapping[str, int]) -> TailView:
        if self._partition is None:
            return TailView(None, None, 0)
        standing = {lane.token for lane in lanes}
        live = 0
        clauses = []
        for token, number in self._numbers.items():
            if token not in standing:
                continue
            passed = watermark.get(token, 0)
            records = sum(count for end, count in self._commits.get(token, ()) if end > passed)
            if records:
                live += records
                clauses.append(self._compiler.lane_from(number, passed + 1, _PLACE_MAX))
        partition, total = self._partition, self._records
        if total - live > max(live, _WASTE_RECORDS_MIN) or not live:
            if not live:
                self._drop()
                return TailView(None, None, 0)
            self._drop()
            self._read(lanes, watermark)
            return TailView(self._partition, None, live)
        return TailView(partition, None if live == total else self._compiler.any_of(clauses), live)

    def _open_writer(self) -> tantivy.IndexWriter:
        if self._writer is None:
            with translated("the unindexed tail"):
                index = tantivy.Index(self._compiler.schema)
                index.config_reader("manual", 0)
                self._analyzer.register(index)
                self._writer = index.writer(WRITER_BYTES, 1)
                self._partition = Partition(index)
        return self._writer

    def _drop(self) -> None:
        self._reset()
