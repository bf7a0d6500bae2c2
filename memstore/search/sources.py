"""Everything that has to be searched for one answer, so that each record is in it once.

In this order, which is that of every read (lanes first): the lanes are listed, then the watermark is read, then
FORGOTTEN. A record is answered for by just one of

- the partition of its month, where the month is sound and nothing puts the record in doubt;
- the tail, where it is durable and not in its partition yet;
- a scan of the store, where its month is stale or its agent's time span in doubt.

Records that may have been forgotten are looked up one by one; those that are gone are left out by their keys.
"""

from __future__ import annotations

import fnmatch
import logging
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import msgspec
import tantivy

from memstore.engine.consumers import ConsumerState
from memstore.engine.engine import Engine
from memstore.engine.feed import FedCommit, FedLane, is_cut_back
from memstore.errors import CorruptionError
from memstore.format.consumer_file import ConsumerFile
from memstore.format.forgotten import text_hash
from memstore.fs.lock import is_locked
from memstore.search.chunks import chunks
from memstore.search.compile import Compiler
from memstore.search.doubts import Doubts, doubts_of
from memstore.search.filters import Filters
from memstore.search.foreign import IndexFailedError, QueryRefusedError, translated
from memstore.search.indexer import LOCK
from memstore.search.months import month_span_us
from memstore.search.omissions import Omissions, pieces, unlisted
from memstore.search.partition import Partition
from memstore.search.pattern import WILDCARDS
from memstore.search.schema import Analyzer, IndexShape, key_of_hash
from memstore.search.state import CONSUMER, IndexState, PartitionEntry, stale_months, state_of
from memstore.search.survey import agents_of, is_gone, stored_lines
from memstore.search.tail import TAIL_BYTES_MAX, Tail, TailView, behind_bytes

_log = logging.getLogger(__name__)
_ALL_MONTHS = "everything"


class StandingChangedError(Exception):
    """The index was changed while it was looked at: ask again."""


class SourceFailedError(Exception):
    """A partition refused to be searched: it is left out, its month scanned, and the question asked again."""

    def __init__(self, partition: Partition, error: IndexFailedError) -> None:
        super().__init__(str(error))
        self.partition = partition
        self.error = error


class searching(translated):  # noqa: N801 - it reads as a verb where it is used
    """Turn what tantivy refuses into a `SourceFailedError`, unless the question is at fault; a context."""

    __slots__ = ("_partition",)

    def __init__(self, partition: Partition) -> None:
        super().__init__("the search index")
        self._partition = partition

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        try:
            super().__exit__(kind, error, trace)
        except QueryRefusedError:
            raise
        except IndexFailedError as failed:
            raise SourceFailedError(self._partition, failed) from failed
        if isinstance(error, IndexFailedError) and not isinstance(error, QueryRefusedError):
            raise SourceFailedError(self._partition, error) from error


@dataclass(frozen=True, slots=True)
class Source:
    """One index to search.

    Attributes:
        partition: the index.
        must: what of it counts; empty: all.
        must_not: what of it does not.
        kind: ``indexed``, ``tail`` or ``scanned``.
    """

    partition: Partition
    must: tuple[tantivy.Query, ...] = ()
    must_not: tuple[tantivy.Query, ...] = ()
    kind: str = "indexed"


@dataclass(slots=True)
class Plan:
    """What one answer is made from.

    Attributes:
        lasting: partitions and the tail.
        scans: what has to be scanned, one after the other: agents, since, until.
        lanes: what waits in lanes and is too much for the tail, to be scanned too: lanes, and the watermark.
        doubts: what is in doubt of it.
        stale: months that are scanned.
        notes: what was found wrong with the index.
        left_out: what was damaged where it was scanned; complete once everything was.
    """

    lasting: list[Source] = field(default_factory=list)
    scans: list[tuple[list[str], int, int]] = field(default_factory=list)
    lanes: tuple[list[FedLane], Mapping[str, int]] | None = None
    doubts: Doubts = field(default_factory=Doubts)
    stale: tuple[str, ...] = ()
    notes: list[str] = field(default_factory=list)
    left_out: Omissions = field(default_factory=Omissions)

    def told(self) -> list[str]:
        """All there is to be said of the answer."""
        return [*self.notes, *self.left_out.notes()]


@dataclass(frozen=True, slots=True)
class Standing:
    """The index as it stands at one moment; None where there is none of this shape."""

    lanes: list[FedLane]
    content: ConsumerFile | None
    state: IndexState
    stale: frozenset[str]
    doubts: Doubts

    @property
    def ready(self) -> bool:
        """Whether there is an index at all."""
        return self.content is not None


class Sources:
    """Makes plans, and keeps what is open between them. Thread-safe."""

    def __init__(self, engine: Engine, *, shape: IndexShape, analyzer: Analyzer, compiler: Compiler) -> None:
        self._engine = engine
        self._shape = shape
        self._analyzer = analyzer
        self._compiler = compiler
        self.tail = Tail(engine.feed, shape=shape, analyzer=analyzer, compiler=compiler)
        self._reset()

    def _reset(self) -> None:
        self._lock = threading.Lock()
        self._read: ConsumerState | None = None
        self._content: ConsumerFile | None = None
        self._state = IndexState()
        self._open: dict[str, tuple[PartitionEntry, Partition]] = {}
        self._verified: set[str] = set()
        self._doubts: tuple[tuple[int, int], Doubts] = ((0, 0), Doubts())
        self._damaged: set[str] = set()
        self._reported: set[str] = set()

    def forget_after_fork(self) -> None:
        """In a forked child: new locks, and nothing of the parent's threads."""
        self.tail.forget_after_fork()
        self._reset()

    def clear(self) -> None:
        """Close everything."""
        self.tail.clear()
        with self._lock:
            self._open.clear()
            self._read = None

    def standing(self) -> Standing:
        """The index as it stands now."""
        while True:
            standing = self._stand()
            passed = {} if standing.content is None else standing.content.lanes
            # A lane that the watermark does not name is new, or was passed, unlinked and struck off since the lanes
            # were listed; then it must not be read again.
            unnamed = [lane for lane in standing.lanes if lane.token not in passed]
            if standing.content is None or all(map(self._engine.feed.stands, unnamed)):
                return standing

    def _stand(self) -> Standing:
        lanes = self._engine.feed.lanes()
        with self._lock:
            self._look()
            content, state = self._content, self._state
            epoch = self._engine.forgotten.epoch()
            if self._doubts[0] != (state.forgotten, epoch):
                found = doubts_of(self._engine.forgotten.entries(state.forgotten, epoch))
                self._doubts = ((state.forgotten, epoch), found)
            stale = frozenset() if content is None else stale_months(content, state) | _cut_back(lanes, content, state)
            return Standing(lanes, content, state, stale, self._doubts[1])

    def _look(self) -> None:
        """Read the state again if it has been replaced."""
        consumers = self._engine.consumers
        identity = consumers.identify(CONSUMER)
        if identity is not None and self._read is not None and identity == self._read.identity:
            return
        self._read, self._content, self._state = None, None, IndexState()
        try:
            found = consumers.read(CONSUMER)
            if found is None:
                return
            state = state_of(found.content)
        except (CorruptionError, msgspec.ValidationError) as error:
            _log.error("%s; everything is scanned until the search index is built anew", error)
            return
        if state.shape == self._shape.fingerprint and state.listed:
            self._read, self._content, self._state = found, found.content, state
            self._damaged, self._reported = set(), set()  # what is built anew has another name, and is looked at anew
            kept = {entry.directory for entry in state.partitions.values()}
            self._open = {name: opened for name, opened in self._open.items() if name in kept}

    def give_up(self, partition: Partition) -> None:
        """A partition has failed while it was searched: its month is damaged."""
        with self._lock:
            for directory, (_, opened) in list(self._open.items()):
                if opened is partition:
                    del self._open[directory]
                    self._damaged.add(directory.partition(".")[0])

    def take_damaged(self) -> set[str]:
        """Months whose partition cannot be used, as found since the last call."""
        with self._lock:
            damaged, self._reported = self._damaged - self._reported, set(self._damaged)
            return damaged

    def plan(self, standing: Standing, wanted: Filters) -> Plan:
        """What has to be searched.

        Raises:
            StorageError: the store cannot be read.
        """
        since_us, until_us = wanted.record.since_us, wanted.record.until_us
        plan = Plan()
        if standing.content is None:
            plan.stale = (_ALL_MONTHS,)
            plan.notes.append("there is no search index yet: everything was scanned")
            plan.scans.append((self._agents(wanted, plan.left_out), since_us, until_us))
            return plan
        opened, damaged = self._partitions(standing, since_us, until_us)
        stale = {month for month in standing.stale | damaged if _overlaps(month, since_us, until_us)}
        ahead = {month: partition for month, partition in opened.items() if partition.ahead}
        watermark = standing.content.lanes
        if behind_bytes(standing.lanes, watermark) > TAIL_BYTES_MAX:
            # Nobody has indexed, and this process may not: what waits is looked through in portions, and months that
            # may have some of it already are read from the store.
            plan.lanes, plan.doubts = (standing.lanes, watermark), standing.doubts
            plan.notes.append("the search index is far behind: what waits to be indexed was scanned")
            lost = {day[:6] for commit in self._waiting(standing.lanes, watermark) for day in commit.damaged}
            stale |= {month for month in lost.union(ahead) if _overlaps(month, since_us, until_us)}
            opened = {month: partition for month, partition in opened.items() if month not in stale}
            ahead, tail = {}, TailView(None, None, 0)
            self.tail.clear()
        else:
            tail = self.tail.view(standing.lanes, watermark, places_of=ahead)
        for month in tail.damaged:
            opened.pop(month, None)
            stale |= {month} if _overlaps(month, since_us, until_us) else set()
        plan.notes += [f"the search index of {month} is damaged: the month was scanned" for month in sorted(damaged)]
        plan.notes += [
            f"the search index of {month} is being built: the month was scanned" for month in sorted(stale - damaged)
        ]
        entries = standing.state.partitions
        plan.notes += [pieces(entries[month].lacks, month) for month in sorted(opened) if entries[month].lacks]
        if standing.state.unlisted:
            plan.notes.append(unlisted(standing.state.unlisted))
        plan.stale = tuple(sorted(stale))
        twice: list[int] = []
        for each in ahead.values() if tail.places else ():
            with searching(each):
                twice += each.held(tail.places, self._compiler)
        lasting: list[tuple[Partition, str, tuple[tantivy.Query, ...]]] = []
        lasting += [(partition, "indexed", ()) for partition in opened.values()]
        if tail.partition is not None:
            lasting.append((tail.partition, "tail", () if tail.live is None else (tail.live,)))
        excluded = self._excluded(standing.doubts, [partition for partition, _, _ in lasting])
        not_in_tail = [self._compiler.keys(twice)] if twice else []
        not_in_tail += (self._compiler.time_range(*month_span_us(month)) for month in stale)
        for partition, kind, must in lasting:
            must_not = (*excluded, *not_in_tail) if kind == "tail" else excluded
            plan.lasting.append(Source(partition, must, must_not, kind))
        if stale:
            agents = self._agents(wanted, plan.left_out)
            for month in sorted(stale, reverse=True):
                first, end = month_span_us(month)
                plan.scans.append((agents, max(first, since_us), min(end, until_us)))
        plan.scans += self._doubtful_scans(standing.doubts, wanted, stale)
        return plan

    def scanned(self, plan: Plan) -> Iterator[Source]:
        """What has to be scanned, in portions; each is gone with the next."""
        for agents, since_us, until_us in plan.scans:
            lines = stored_lines(self._engine, agents, since_us, until_us, plan.left_out)
            for partition in chunks(lines, shape=self._shape, analyzer=self._analyzer, compiler=self._compiler):
                yield Source(partition, kind="scanned")
        if plan.lanes is not None:
            waiting = (
                line for commit in self._waiting(*plan.lanes) for _, data in commit.slices for line in data.splitlines()
            )
            not_stale = [self._compiler.time_range(*month_span_us(month)) for month in plan.stale]
            for partition in chunks(waiting, shape=self._shape, analyzer=self._analyzer, compiler=self._compiler):
                yield Source(partition, (), (*self._excluded(plan.doubts, [partition]), *not_stale), "scanned")

    def _waiting(self, lanes: list[FedLane], watermark: Mapping[str, int]) -> Iterator[FedCommit]:
        """What lies behind the watermark."""
        for lane in lanes:
            if watermark.get(lane.token, 0) < lane.end:
                yield from self._engine.feed.commits(lane, watermark.get(lane.token, 0))

    def estimate(self, standing: Standing, wanted: Filters) -> int:
        """How many records a plan would have to scan, about, and how many wait for the tail."""
        since_us, until_us = wanted.record.since_us, wanted.record.until_us
        months = {month for month in standing.stale if _overlaps(month, since_us, until_us)}
        if standing.ready and not months:
            return 0
        total = 0
        for agent in self._agents(wanted):
            manifest = self._engine.builder.manifest(agent)
            if manifest is None:
                continue
            for day, refs in manifest.days.items():
                if standing.ready and day[:6] not in months:
                    continue
                total += sum(ref.records for ref in refs if ref.t_min < until_us and ref.t_max >= since_us)
                if total > _ESTIMATE_MAX:
                    return total
        return total + sum(lane.end for lane in standing.lanes) // _RECORD_BYTES * (not standing.ready)

    # -- partitions

    def _partitions(self, standing: Standing, since_us: int, until_us: int) -> tuple[dict[str, Partition], set[str]]:
        """Those that may hold something, newest first, and months whose partition cannot be used.

        Raises:
            StandingChangedError: one has gone with the state that named it.
        """
        found: dict[str, Partition] = {}
        damaged: set[str] = set()
        for month, entry in sorted(standing.state.partitions.items(), reverse=True):
            if month in standing.stale or not _overlaps(month, since_us, until_us):
                continue
            if month in self._damaged:
                damaged.add(month)
                continue
            try:
                found[month] = self._opened(entry)
            except IndexFailedError as error:
                if self._has_changed(standing):
                    raise StandingChangedError(str(error)) from error
                _log.error("%s", error)
                damaged.add(month)
        with self._lock:
            self._damaged |= damaged
        return found, damaged

    def _has_changed(self, standing: Standing) -> bool:
        """Whether the state says something else by now."""
        try:
            state = self._engine.consumers.read(CONSUMER)
        except CorruptionError:
            return False  # the next look at it says so
        return state is None or state.content != standing.content

    def _opened(self, entry: PartitionEntry) -> Partition:
        with self._lock:
            known = self._open.get(entry.directory)
            if known is not None and known[0] == entry:
                return known[1]
            partition = Partition.open(
                self._engine.storage,
                self._engine.paths.search,
                entry,
                analyzer=self._analyzer,
                verified=self._verified,
                is_written=self._is_written,
            )
            self._open[entry.directory] = (entry, partition)
            return partition

    def _is_written(self) -> bool:
        """Whether somebody holds the index lock."""
        return is_locked(self._engine.storage, self._engine.paths.lock(LOCK))

    # -- doubts

    def _excluded(self, doubts: Doubts, partitions: Sequence[Partition]) -> tuple[tantivy.Query, ...]:
        """What no partition and no tail answers for."""
        if not doubts:
            return ()
        queries: list[tantivy.Query] = []
        gone: list[int] = []
        for each, _ in doubts.ids:
            ids: set[str] = set()
            for partition in partitions:
                with searching(partition):
                    ids.update(partition.ids_of_hash(each, self._compiler))
            if any(is_gone(self._engine, memory_id) for memory_id in ids):
                gone.append(key_of_hash(each))
        if gone:
            queries.append(self._compiler.keys(gone))
        names: dict[str, str] = {}
        for partition in partitions:
            with searching(partition):
                names.update((text_hash(agent), agent) for agent in partition.agents())
        queries += [
            self._compiler.agent_within(names[span.agent], span.since_us, span.until_us)
            for span in doubts.spans
            if span.agent in names
        ]
        return tuple(queries)

    def _doubtful_scans(self, doubts: Doubts, wanted: Filters, stale: set[str]) -> Iterator[tuple[list[str], int, int]]:
        """Spans in doubt that the filters ask for, less the months that are scanned as a whole."""
        if not doubts.spans:
            return
        names = {text_hash(agent): agent for agent in self._agents(wanted)}
        for span in doubts.spans:
            agent = names.get(span.agent)
            if agent is None:
                continue
            since_us = max(span.since_us, wanted.record.since_us)
            until_us = min(span.until_us, wanted.record.until_us)
            for first, end in _without(stale, since_us, until_us):
                yield [agent], first, end

    def _agents(self, wanted: Filters, left_out: Omissions | None = None) -> list[str]:
        """Agents that the filters let through; damage that may hide one goes to ``left_out``."""
        if wanted.own is not None:
            if wanted.agents is not None and not _any_matches(wanted.agents)(wanted.own):
                return []
            return [wanted.own]
        if wanted.agents is None:
            return agents_of(self._engine, left_out)
        if not any(WILDCARDS.search(agent) for agent in wanted.agents):
            return list(wanted.agents)
        return list(filter(_any_matches(wanted.agents), agents_of(self._engine, left_out)))


_ESTIMATE_MAX = 10_000_000
_RECORD_BYTES = 780


def _any_matches(patterns: Sequence[str]) -> Callable[[str], bool]:
    """Whether an agent id is one of these, or matches one; brackets mean nothing."""
    escaped = [pattern.replace("[", "[[]") for pattern in patterns]
    return lambda agent: any(fnmatch.fnmatchcase(agent, pattern) for pattern in escaped)


def _cut_back(lanes: Sequence[FedLane], content: ConsumerFile, state: IndexState) -> frozenset[str]:
    """Months of commits that were indexed and have been cut off their lanes again."""
    return frozenset(
        month
        for lane in lanes
        if is_cut_back(lane, content.lanes.get(lane.token, 0))
        for month in state.tips.get(lane.token, ())
    )


def _overlaps(month: str, since_us: int, until_us: int) -> bool:
    first, end = month_span_us(month)
    return first < until_us and end > since_us


def _without(months: set[str], since_us: int, until_us: int) -> Iterator[tuple[int, int]]:
    """``[since_us, until_us)`` less some months."""
    position = since_us
    for month in sorted(months):
        first, end = month_span_us(month)
        if end <= position or first >= until_us:
            continue
        if first > position:
            yield position, first
        position = end
    if position < until_us:
        yield position, until_us
