"""Keep the index up to date: one indexer at a time, whoever holds ``locks/index``.

A run, in this order: what was appended since the watermark goes into the partitions of its months; then what
FORGOTTEN put in doubt before that is carried out; then stale months are built anew, the newest first. A stale month
takes nothing from the lanes, for its building will read it from the store. The watermark moves only after the
partitions' names are on disk; what is fed again after a crash is found to be there. What is read from the store is
ahead of the watermark, and is marked so until the lanes have been consumed up to where they were then.

Erasing does not wait for an indexer: it drops partitions and counts up ``erasures``, and whatever was under way then
is thrown away, for it may hold words of what was erased.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Iterator
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any

import msgspec

from memstore.engine.engine import Engine
from memstore.engine.feed import FedCommit, FedLane
from memstore.errors import CorruptionError, LockedError, MemstoreError
from memstore.format.consumer_file import ConsumerFile
from memstore.format.forgotten import text_hash
from memstore.fs.lock import locked, try_lock_file
from memstore.fs.storage import StorageFile
from memstore.search.compile import Compiler
from memstore.search.document import Documents
from memstore.search.doubts import Doubts, Span, doubts_of
from memstore.search.foreign import IndexFailedError
from memstore.search.months import month_span_us
from memstore.search.partition import verify_partition
from memstore.search.partition_writer import PartitionWriter
from memstore.search.schema import Analyzer, IndexShape, key_of_hash
from memstore.search.state import (
    CONSUMER,
    IndexState,
    PartitionEntry,
    partition_directory,
    stale_months,
    state_of,
    with_state,
)
from memstore.search.survey import agent_by_hash, agent_months, agents_of, is_gone, month_lines, months_of, stored_lines
from memstore.search.sweep import newest_version, remove_strangers, remove_tree

_log = logging.getLogger(__name__)
BATCH_RECORDS = 50_000
"""Records after which a run commits: what a crash makes it read again, some two seconds' work."""
BATCH_BYTES = 64 * 1024 * 1024
BUILD_COMMIT_RECORDS = 250_000
"""Records of a month that is built between two commits: bounds what tantivy merges at the end."""
LOCK = "index"
Progress = Callable[[int, int], None]
"""Told how many records have been indexed, and how many there are to index (an estimate)."""


class _DamagedError(Exception):
    """A partition cannot be written on."""

    def __init__(self, month: str, error: IndexFailedError) -> None:
        super().__init__(str(error))
        self.month = month


class _ErasedMeanwhileError(Exception):
    """Records were erased while something was being built: it does not count."""


@dataclass(slots=True)
class IndexReport:
    """What a run did.

    Attributes:
        added: records that were added to partitions.
        built: months that were built anew.
        finished: whether the index was up to date at the end.
    """

    added: int = 0
    built: list[str] | None = None
    finished: bool = True

    def as_dict(self) -> dict[str, Any]:
        """For machines."""
        return {"added": self.added, "built": self.built or [], "finished": self.finished}


class Indexer:
    """Thread-safe: the index lock excludes threads too.

    Attributes:
        verified: names of files (``directory/file``) that a run has verified or written.

    Args:
        engine: the store, open for writing.
        shape: of the index.
        analyzer: of the shape's language.
        compiler: makes queries.
    """

    def __init__(self, engine: Engine, *, shape: IndexShape, analyzer: Analyzer, compiler: Compiler) -> None:
        self._engine = engine
        self._storage = engine.storage
        self._root = engine.paths.search
        self._shape = shape
        self._analyzer = analyzer
        self._compiler = compiler
        self.verified: set[str] = set()

    def run(
        self,
        *,
        stop: Callable[[], bool] | None = None,
        progress: Progress | None = None,
        rebuild: Iterable[str] | None = None,
        build: bool = True,
    ) -> IndexReport | None:
        """Bring the index up to date; None where somebody else is at it.

        Args:
            stop: asked between batches; the next run goes on.
            progress: see `Progress`.
            rebuild: months to build anew whether or not they are stale; an empty one means all.
            build: whether to build stale months; False: only what is appended is looked at.

        Raises:
            IndexFailedError: tantivy refused; what counts stands.
            StorageError: the disk refused.
        """
        lock = self._lock()
        if lock is None:
            return None
        try:
            return _Run(self, stop or _never, progress).run(rebuild, build=build)
        finally:
            lock.close()

    def _lock(self) -> StorageFile | None:
        return try_lock_file(self._storage, self._engine.paths.lock(LOCK))


def _never() -> bool:
    return False


class _Run:
    """One run, under the index lock."""

    def __init__(self, indexer: Indexer, stop: Callable[[], bool], progress: Progress | None) -> None:
        self._of = indexer
        self._engine = indexer._engine  # noqa: SLF001 - its own module
        self._storage = self._engine.storage
        self._root = self._engine.paths.search
        self._compiler = indexer._compiler  # noqa: SLF001
        self._analyzer = indexer._analyzer  # noqa: SLF001
        self._shape = indexer._shape  # noqa: SLF001
        self._documents = Documents(self._shape.context_keys)
        self._stop = stop
        self._progress = progress
        self._writers: dict[str, PartitionWriter] = {}
        self._asked: set[str] = set()
        self._erasures = 0
        self._total = 0
        self._report = IndexReport(built=[])

    def run(self, rebuild: Iterable[str] | None, *, build: bool) -> IndexReport:
        content = self._begin()
        if rebuild is not None:
            # Not stale: searches go on with what there is until something else takes its place.
            self._asked = set(rebuild) or months_of(self._engine).union(state_of(content).partitions)
        try:
            self._sweep(content)
            while self._advance(build=build):
                pass
        except _ErasedMeanwhileError:
            self._report.finished = False
        finally:
            self._close()
        self._engine.consumers.release()
        content = self._content()
        left = self._asked | stale_months(content, state_of(content))
        self._report.finished = self._report.finished and not left
        return self._report

    def _advance(self, *, build: bool) -> bool:
        """One round; whether another is due."""
        try:
            doubtful = self._engine.forgotten.epoch()  # before the lanes: what is consumed then is older or newer
            if not self._consume():
                return False
            self._settle(doubtful)
            content = self._content()
            state = state_of(content)
            stale = sorted(self._asked | stale_months(content, state), reverse=True)
            if self._stop():
                return False
            if stale and build:
                self._build(stale[0], len(stale))
                return True
            return any(entry.ahead for entry in state.partitions.values())
        except _DamagedError as damaged:
            _log.error("%s; the search index of %s is built again", damaged, damaged.month)
            self._discard()
            self._mark_stale({damaged.month})
            return True

    # -- state

    def _begin(self) -> ConsumerFile:
        """The state, registered and of this shape, with every month that has to be built."""
        consumers = self._engine.consumers
        try:
            content = consumers.register(CONSUMER, at_us=self._engine.clock.now_us())
            state = state_of(content)
        except (CorruptionError, msgspec.ValidationError) as error:
            _log.error("%s; the search index is built anew", error)
            consumers.unregister(CONSUMER)
            content = consumers.register(CONSUMER, at_us=self._engine.clock.now_us())
            state = IndexState()
        if state.shape != self._shape.fingerprint or not state.listed:
            content = self._list_months(state)
        return content

    def _list_months(self, state: IndexState) -> ConsumerFile:
        """Begin anew: from now on the lanes are kept, and all that is in the store by then is stale."""
        fresh = IndexState(
            shape=self._shape.fingerprint,
            forgotten=self._engine.forgotten.epoch(),
            next_version=max(state.next_version, 1 + newest_version(self._storage, self._root)),
            erasures=state.erasures,
        )
        self._update(lambda _: fresh)
        # What is whole in a sealed lane now will be read with its month; of the others the watermark is the start.
        passed = {lane.token: lane.end for lane in self._engine.feed.lanes() if lane.sealed}
        months = sorted(months_of(self._engine))
        return self._update(
            lambda state: msgspec.structs.replace(state, listed=True, stale=months), lanes=passed, missed=[]
        )

    def _content(self) -> ConsumerFile:
        state = self._engine.consumers.read(CONSUMER)
        if state is None:
            raise self._gone()
        state.file.close()
        return state.content

    def _update(self, change: Callable[[IndexState], IndexState], **changes: Any) -> ConsumerFile:
        def changed(content: ConsumerFile) -> ConsumerFile:
            return with_state(content, change(state_of(content)), **changes)

        return self._replace(changed)

    def _replace(self, change: Callable[[ConsumerFile], ConsumerFile]) -> ConsumerFile:
        try:
            return self._engine.consumers.update(CONSUMER, change)
        except KeyError as error:
            raise self._gone() from error
        except msgspec.ValidationError as error:
            raise IndexFailedError(f"{self._engine.paths.consumer(CONSUMER)}: {error}") from error

    def _gone(self) -> IndexFailedError:
        return IndexFailedError(f"{self._engine.paths.consumer(CONSUMER)} has gone while the store was being indexed")

    def _mark_stale(self, months: set[str]) -> ConsumerFile:
        """Note that months have to be built anew."""
        return self._update(lambda state: msgspec.structs.replace(state, stale=sorted(months.union(state.stale))))

    def _sweep(self, content: ConsumerFile) -> None:
        """Remove directories that the state does not name, and partitions of months that are built anew."""
        named = {entry.directory for entry in state_of(content).partitions.values()}
        remove_strangers(self._storage, self._root, named)

    # -- what was appended

    def _consume(self) -> bool:
        """Take everything from the lanes that was there when they were listed; False where the run is to stop."""
        feed = self._engine.feed
        lanes = feed.lanes()
        content = self._content()
        state = state_of(content)
        self._erasures = state.erasures  # before anything is read
        watermark = {lane.token: content.lanes.get(lane.token, 0) for lane in lanes}
        tips = {token: months for token, months in state.tips.items() if token in watermark}
        batch = _Batch(watermark, tips)
        for lane in lanes:
            if watermark[lane.token] > lane.end:
                batch.moved(lane.token, self._cut_off(lane, tips.get(lane.token, [])), ())
        content = self._content()
        stale = stale_months(content, state_of(content))
        for lane in lanes:
            if watermark[lane.token] == lane.end:
                continue
            if not lane.synced:
                lane.file.sync_data()  # what the index knows must not be lost by a power cut that the lane feels
            for commit in feed.commits(lane, watermark[lane.token]):
                batch.take(lane.token, commit, stale)
                if batch.is_full:
                    self._flush(batch, content)
                    if self._stop():
                        return False
            if lane.sealed:
                batch.moved(lane.token, lane.end, ())
        self._flush(batch, content, is_all=True)
        return not self._stop()

    def _cut_off(self, lane: FedLane, tip: list[str]) -> int:
        """A commit that was consumed has been cut off again, for its sync failed: nobody was told that it is stored.

        Returns:
            The watermark from here on.
        """
        end, months = lane.end, set(tip)
        if not lane.sealed:  # how much of it stays, its seal will say; what was forgotten of it must not be fed again
            end = 0
            months.update(item.day[:6] for commit in self._engine.feed.commits(lane) for item, _ in commit.slices)
        _log.warning(
            "lane %s was cut back; the search index of %s is built again", lane.token, ", ".join(sorted(months))
        )

        def mark(content: ConsumerFile) -> ConsumerFile:
            state = state_of(content)
            stale = sorted(months.union(state.stale))
            tips = {known: of for known, of in state.tips.items() if known != lane.token}
            changed = msgspec.structs.replace(state, stale=stale, tips=tips)
            return with_state(content, changed, lanes={**content.lanes, lane.token: end})

        self._replace(mark)
        return end

    def _flush(self, batch: _Batch, before: ConsumerFile, *, is_all: bool = False) -> None:
        """Commit what was collected, then move the watermark; ``is_all``: to where everything is that was read."""
        entries: dict[str, PartitionEntry] = {}
        state = state_of(self._content())
        for month, lines in sorted(batch.lines.items()):
            writer = self._writer(month, state)
            self._report.added += writer.add_missing(self._made(lines))
            known = state.partitions.get(month)
            entries[month] = msgspec.structs.replace(
                self._committed(month, writer), ahead=known is not None and known.ahead
            )
            self._tell()
        if is_all:
            everything = {**state.partitions, **entries}
            level = {month: entry for month, entry in everything.items() if entry.ahead}
            entries |= {month: msgspec.structs.replace(entry, ahead=False) for month, entry in level.items()}
        batch.lines.clear()
        batch.bytes = batch.records = 0
        if entries or batch.watermark != before.lanes or batch.tips != state.tips:
            damaged = frozenset(batch.damaged)  # of which the store may have what the lanes have lost
            self._publish(entries, lanes=dict(batch.watermark), damaged=damaged, tips=dict(batch.tips))
            batch.damaged.clear()
        self._keep_few_writers()

    def _made(self, lines: Iterable[bytes]) -> Iterator[dict[str, Any]]:
        document = self._documents.document
        for line in lines:
            try:
                yield document(line)
            except (ValueError, KeyError, TypeError) as error:
                _log.warning("a stored line is no record and is not indexed: %s: %r", error, line[:120])

    def _publish(
        self,
        entries: dict[str, PartitionEntry],
        *,
        lanes: dict[str, int] | None = None,
        built: str | None = None,
        damaged: frozenset[str] = frozenset(),
        **changes: Any,
    ) -> None:
        """Let partitions count; ``built``: a month that is not stale any more, ``damaged``: months that are.

        Raises:
            _ErasedMeanwhileError: records were erased since what is in them was read; none counts, and the files go.
        """

        def change(content: ConsumerFile) -> ConsumerFile:
            state = state_of(content)
            if state.erasures != self._erasures:
                raise _ErasedMeanwhileError
            stale = sorted(damaged.union(month for month in state.stale if month != built))
            changed = msgspec.structs.replace(state, partitions={**state.partitions, **entries}, stale=stale, **changes)
            return with_state(content, changed, **({} if lanes is None else {"lanes": lanes}))

        try:
            self._replace(change)
        except _ErasedMeanwhileError:
            self._throw_away(entries)
            raise

    def _throw_away(self, entries: dict[str, PartitionEntry]) -> None:
        """What was written while records were erased may hold words of theirs."""
        self._discard()
        months = sorted(entries)

        def change(state: IndexState) -> IndexState:
            left = {month: entry for month, entry in state.partitions.items() if month not in entries}
            return msgspec.structs.replace(state, partitions=left, stale=sorted({*state.stale, *months}))

        self._update(change)
        for entry in entries.values():
            remove_tree(self._storage, os.path.join(self._root, entry.directory))

    # -- writers

    def _writer(self, month: str, state: IndexState) -> PartitionWriter:
        writer = self._writers.get(month)
        if writer is None:
            entry = state.partitions.get(month)
            directory = self._new_directory(month) if entry is None else entry.directory
            try:
                writer = self._writers[month] = self._opened(directory, entry)
            except IndexFailedError as error:
                if entry is None or error.is_disks:
                    raise
                raise _DamagedError(month, error) from error
        return writer

    def _opened(self, directory: str, entry: PartitionEntry | None = None) -> PartitionWriter:
        """A partition for writing; one that is there already is verified first, or damage would be merged and kept."""
        if entry is not None:
            verify_partition(self._storage, self._root, entry, self._of.verified)
        writer = PartitionWriter(self._storage, self._root, directory, analyzer=self._analyzer, compiler=self._compiler)
        if entry is not None:
            writer.resume(entry)
        return writer

    def _committed(self, month: str, writer: PartitionWriter) -> PartitionEntry:
        try:
            return writer.commit()
        except IndexFailedError as error:
            if error.is_disks or month not in state_of(self._content()).partitions:
                raise
            raise _DamagedError(month, error) from error

    def _new_directory(self, month: str) -> str:
        content = self._update(lambda state: msgspec.structs.replace(state, next_version=state.next_version + 1))
        return partition_directory(month, state_of(content).next_version - 1)

    def _keep_few_writers(self) -> None:
        """Close all writers but the newest month's: each holds memory and threads."""
        for month in sorted(self._writers)[:-1]:
            self._close_writer(month)

    def _close_writer(self, month: str) -> None:
        writer = self._writers.pop(month)
        entry = writer.close()
        if entry is None:
            return

        def change(state: IndexState) -> IndexState:
            known = state.partitions.get(month)
            if known is None or known.directory != entry.directory:
                return state
            # Another commit than the one that counts: what was added with it has not been published.
            ahead = known.ahead or known.opstamp != entry.opstamp
            changed = msgspec.structs.replace(entry, ahead=ahead)
            return msgspec.structs.replace(state, partitions={**state.partitions, month: changed})

        self._update(change)

    def _close(self) -> None:
        for month in sorted(self._writers):
            try:
                self._close_writer(month)
            except (MemstoreError, FileNotFoundError) as error:
                # An erasure may have taken the files away; what counts is what the state says.
                _log.info("a partition of the search index was left: %s", error)

    def _discard(self) -> None:
        for writer in self._writers.values():
            try:
                writer.discard()
            except IndexFailedError as error:
                _log.debug("%s", error)
        self._writers.clear()

    # -- what disappeared or came back

    def _settle(self, epoch: int) -> None:
        """Carry out what FORGOTTEN said before the lanes were consumed."""
        state = state_of(self._content())
        if epoch == state.forgotten or not self._is_done():
            return
        self._erasures = state.erasures
        doubts = doubts_of(self._engine.forgotten.entries(state.forgotten, epoch))
        names = {span.agent: agent_by_hash(self._engine, span.agent) for span in doubts.spans}
        spans = [(span, names[span.agent]) for span in doubts.spans]
        months = set(state.partitions)
        for _, agent in spans:
            if agent is not None:
                months |= agent_months(self._engine, agent)
        for month in sorted(months - stale_months(self._content(), state)):
            changed = [self._reindex(month, span, agent, state) for span, agent in spans]
            if self._delete_gone(month, doubts, state) or any(changed):
                ahead = any(changed) or (month in state.partitions and state.partitions[month].ahead)
                entry = self._committed(month, self._writers[month])
                self._publish({month: msgspec.structs.replace(entry, ahead=ahead)})  # in doubt still
            self._keep_few_writers()
        self._publish({}, forgotten=epoch)

    def _is_done(self) -> bool:
        """Whether what FORGOTTEN says has been done, or never will be, for its lines are written under the merge lock.

        Where the lock is not to be had soon, everything stays in doubt until the next run.
        """
        try:
            with locked(self._storage, self._engine.paths.lock("merge"), timeout_s=_MERGE_WAIT_S):
                return True
        except LockedError:
            self._report.finished = False
            return False

    def _reindex(self, month: str, span: Span, agent: str | None, state: IndexState) -> bool:
        """Put in the place of an agent's documents in a month those that its records give now."""
        first, end = month_span_us(month)
        since_us, until_us = max(first, span.since_us), min(end, span.until_us)
        if since_us >= until_us:
            return False
        lines = iter(()) if agent is None else stored_lines(self._engine, [agent], since_us, until_us)
        documents = self._made(lines)
        head = list(islice(documents, 1))
        if month not in state.partitions and not head:
            return False
        writer = self._writer(month, state)
        indexed = writer.partition.agents()
        whose = [each for each in ([agent] if agent is not None else indexed) if text_hash(each) == span.agent]
        for each in whose:
            writer.delete(self._compiler.agent_within(each, since_us, until_us))
        self._report.added += writer.add(chain(head, documents))
        return bool(whose or head)

    def _delete_gone(self, month: str, doubts: Doubts, state: IndexState) -> bool:
        """Delete documents of single records that are not there any more."""
        first, end = month_span_us(month)
        hashes = [each for each, span in doubts.ids if span.since_us < end and span.until_us > first]
        if not hashes or month not in state.partitions:
            return False
        writer = self._writer(month, state)
        changed = False
        for each in hashes:
            for memory_id in writer.partition.ids_of_hash(each, self._compiler):
                if is_gone(self._engine, memory_id):
                    writer.delete(self._compiler.keys([key_of_hash(each)]))
                    changed = True
        return changed

    # -- months

    def _build(self, month: str, left: int) -> None:
        """Build a month anew from the store, and let it take the place of what there was."""

        def claim(content: ConsumerFile) -> ConsumerFile:
            # From here on lanes that are let go unread count as missed anew, while this reads.
            state = state_of(content)
            if month in state.partitions and month not in stale_months(content, state):
                return content
            missed = [each for each in content.missed if each != month]
            changed = msgspec.structs.replace(state, stale=sorted({*state.stale, month}))
            return with_state(content, changed, missed=missed)

        before = state_of(self._replace(claim))
        self._erasures = before.erasures
        self._close()
        directory = self._new_directory(month)
        writer = self._writers[month] = self._opened(directory)
        agents = agents_of(self._engine)
        documents = self._made(month_lines(self._engine, agents, month))
        while True:
            added = writer.add(islice(documents, _BUILD_STEP_RECORDS))
            self._report.added += added
            self._tell()
            if added < _BUILD_STEP_RECORDS:
                break
            if self._stop():
                self._discard()
                remove_tree(self._storage, os.path.join(self._root, directory))
                return
        writer.commit()
        entry = writer.close()
        assert entry is not None
        self._writers.pop(month, None)
        old = before.partitions.get(month)
        self._publish({month: msgspec.structs.replace(entry, ahead=True)}, built=month)
        if old is not None:
            remove_tree(self._storage, os.path.join(self._root, old.directory))
        self._asked.discard(month)
        if self._report.built is not None:
            self._report.built.append(month)
        _log.info(
            "Built the search index of %s.",
            month,
            extra={"event": "indexed", "fields": {"month": month, "records": entry.records, "months_left": left - 1}},
        )

    def _tell(self) -> None:
        if self._progress is not None:
            self._total = self._total or self._engine.inventory.records(agents_of(self._engine))
            self._progress(self._report.added, max(self._total, self._report.added))


_BUILD_STEP_RECORDS = 10_000
_MERGE_WAIT_S = 5.0
"""How long a run waits for a merge before it leaves in doubt what may just be disappearing."""


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
        lines = data.split(b"\n")
        lines.pop()
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
