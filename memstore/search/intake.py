"""What was appended since the watermark, into the partitions of its months.

A stale month takes nothing: its building reads it from the store. The watermark moves only after the partitions' names
are on disk; what is fed again after a crash is found to be there.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from collections.abc import Set as AbstractSet

import msgspec

from memstore.engine.feed import FedCommit, FedLane, Feed
from memstore.format.consumer_file import ConsumerFile
from memstore.format.lines import bare_lines
from memstore.search.course import Course
from memstore.search.document import Documents
from memstore.search.ledger import Ledger
from memstore.search.state import PartitionEntry, stale_months, state_of, with_state
from memstore.search.writer_pool import WriterPool

_log = logging.getLogger(__name__)
BATCH_RECORDS = 50_000
"""Records after which a run commits: what a crash makes it read again, some two seconds' work."""
BATCH_BYTES = 64 * 1024 * 1024


class Intake:
    """Used by one thread, under the index lock."""

    def __init__(
        self, feed: Feed, *, ledger: Ledger, writers: WriterPool, documents: Documents, course: Course
    ) -> None:
        self._feed = feed
        self._ledger = ledger
        self._writers = writers
        self._documents = documents
        self._course = course

    def consume(self) -> bool:
        """Take everything from the lanes that was there when they were listed; False where the run is to stop."""
        lanes = self._feed.lanes()
        content, state = self._ledger.look()
        watermark = {lane.token: content.lanes.get(lane.token, 0) for lane in lanes}
        tips = {token: months for token, months in state.tips.items() if token in watermark}
        batch = _Batch(watermark, tips)
        for lane in lanes:
            if watermark[lane.token] > lane.end:
                batch.moved(lane.token, self._cut_off(lane, tips.get(lane.token, [])), ())
        content = self._ledger.content()
        stale = stale_months(content, state_of(content))
        for lane in lanes:
            if watermark[lane.token] == lane.end:
                continue
            if not lane.synced:
                lane.file.sync_data()  # what the index knows must not be lost by a power cut that the lane feels
            for commit in self._feed.commits(lane, watermark[lane.token]):
                batch.take(lane.token, commit, stale)
                if batch.is_full:
                    self._flush(batch, content)
                    if self._course.is_to_stop:
                        return False
            if lane.sealed:
                batch.moved(lane.token, lane.end, ())
        self._flush(batch, content, is_all=True)
        return not self._course.is_to_stop

    def _cut_off(self, lane: FedLane, tip: list[str]) -> int:
        """A commit that was consumed has been cut off again, for its sync failed: nobody was told that it is stored.

        Returns:
            The watermark from here on.
        """
        end, months = lane.end, set(tip)
        if not lane.sealed:  # how much of it stays, its seal will say; what was forgotten of it must not be fed again
            end = 0
            months.update(item.day[:6] for commit in self._feed.commits(lane) for item, _ in commit.slices)
        _log.warning(
            "lane %s was cut back; the search index of %s is built again", lane.token, ", ".join(sorted(months))
        )

        def mark(content: ConsumerFile) -> ConsumerFile:
            state = state_of(content)
            stale = sorted(months.union(state.stale))
            tips = {known: of for known, of in state.tips.items() if known != lane.token}
            changed = msgspec.structs.replace(state, stale=stale, tips=tips)
            return with_state(content, changed, lanes={**content.lanes, lane.token: end})

        self._ledger.replace(mark)
        return end

    def _flush(self, batch: _Batch, before: ConsumerFile, *, is_all: bool = False) -> None:
        """Commit what was collected, then move the watermark; ``is_all``: to where everything is that was read."""
        entries: dict[str, PartitionEntry] = {}
        state = state_of(self._ledger.content())
        for month, lines in sorted(batch.lines.items()):
            added = self._writers.writer(month, state).add_missing(self._documents.of(lines))
            known = state.partitions.get(month)
            entries[month] = msgspec.structs.replace(
                self._writers.commit(month), ahead=known is not None and known.ahead
            )
            self._course.added(added)
        if is_all:
            everything = {**state.partitions, **entries}
            level = {month: entry for month, entry in everything.items() if entry.ahead}
            entries |= {month: msgspec.structs.replace(entry, ahead=False) for month, entry in level.items()}
        batch.lines.clear()
        batch.bytes = batch.records = 0
        if entries or batch.watermark != before.lanes or batch.tips != state.tips:
            damaged = frozenset(batch.damaged)  # of which the store may have what the lanes have lost
            self._ledger.publish(entries, lanes=dict(batch.watermark), damaged=damaged, tips=dict(batch.tips))
            batch.damaged.clear()
        self._writers.keep_few()


class _Batch:
    """What is consumed and not committed."""

    def __init__(self, watermark: dict[str, int], tips: dict[str, list[str]]) -> None:
        self.watermark = watermark
        self.tips = tips
        self.damaged: set[str] = set()
        self.lines: dict[str, list[bytes]] = {}
        self.records = 0
        self.bytes = 0

    def add(self, month: str, data: bytes) -> None:
        """Take the lines of a slice."""
        lines = bare_lines(data)
        self.lines.setdefault(month, []).extend(lines)
        self.records += len(lines)
        self.bytes += len(data)

    def take(self, token: str, commit: FedCommit, stale: AbstractSet[str]) -> None:
        """Take a commit, but for months that are built anew."""
        months = {item.day[:6] for item, _ in commit.slices}
        for item, data in commit.slices:
            if item.day[:6] not in stale:
                self.add(item.day[:6], data)
        self.damaged.update(day[:6] for day in commit.damaged)
        self.moved(token, commit.end, months if commit.is_tip else ())

    def moved(self, token: str, end: int, tip: Iterable[str]) -> None:
        """A commit was taken; ``tip``: its months, where it may be cut off again."""
        self.watermark[token] = end
        self.tips.pop(token, None)
        months = sorted(tip)
        if months:
            self.tips[token] = months

    @property
    def is_full(self) -> bool:
        """Whether it is time to commit."""
        return self.records >= BATCH_RECORDS or self.bytes >= BATCH_BYTES
