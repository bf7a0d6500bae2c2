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
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import tantivy

from memstore.engine.engine import Engine
from memstore.engine.feed import FedCommit, FedLane
from memstore.format.forgotten import text_hash
from memstore.search.chunks import chunks
from memstore.search.compile import Compiler
from memstore.search.doubts import Doubts
from memstore.search.filters import Filters
from memstore.search.foreign import IndexFailedError
from memstore.search.months import month_span_us
from memstore.search.omissions import Omissions, pieces, unlisted
from memstore.search.open_partitions import OpenPartitions
from memstore.search.partition import Partition
from memstore.search.pattern import WILDCARDS
from memstore.search.schema import Analyzer, IndexShape, key_of_hash
from memstore.search.source import Plan, Source, searching
from memstore.search.standing import Standing, Standings
from memstore.search.survey import agents_of, is_gone, stored_lines
from memstore.search.tail import TAIL_BYTES_MAX, Tail, TailView, behind_bytes

_log = logging.getLogger(__name__)
_ALL_MONTHS = "everything"
_ESTIMATE_MAX = 10_000_000
_RECORD_BYTES = 780


class StandingChangedError(Exception):
    """The index was changed while it was looked at: ask again."""


class Sources:
    """Makes plans. Thread-safe.

    Attributes:
        tail: what is durable and not indexed.
        partitions: what is open.
        standings: how the index stands.
    """

    def __init__(self, engine: Engine, *, shape: IndexShape, analyzer: Analyzer, compiler: Compiler) -> None:
        self._engine = engine
        self._shape = shape
        self._analyzer = analyzer
        self._compiler = compiler
        self.tail = Tail(engine.feed, shape=shape, analyzer=analyzer, compiler=compiler)
        self.partitions = OpenPartitions(engine, analyzer=analyzer)
        self.standings = Standings(engine, shape=shape, on_change=self.partitions.keep)

    def forget_after_fork(self) -> None:
        """In a forked child: new locks, and nothing of the parent's threads."""
        self.tail.forget_after_fork()
        self.partitions.forget_after_fork()
        self.standings.forget_after_fork()

    def clear(self) -> None:
        """Close everything."""
        self.tail.clear()
        self.partitions.clear()
        self.standings.clear()

    def plan(self, standing: Standing, wanted: Filters) -> Plan:
        """What has to be searched.

        Raises:
            StandingChangedError: what the standing names has gone.
            StorageError: the store cannot be read.
        """
        if standing.content is None:
            return self._without_index(wanted)
        since_us, until_us = wanted.record.since_us, wanted.record.until_us
        plan = Plan()
        opened, damaged = self._usable(standing, since_us, until_us)
        stale = _overlapping(standing.stale | damaged, since_us, until_us)
        ahead = {month: partition for month, partition in opened.items() if partition.ahead}
        if behind_bytes(standing.lanes, standing.content.lanes) > TAIL_BYTES_MAX:
            # Nobody has indexed, and this process may not: what waits is looked through in portions, and months that
            # may have some of it already are read from the store.
            lost = self._scan_what_waits(plan, standing, standing.content.lanes)
            stale |= _overlapping(lost.union(ahead), since_us, until_us)
            tail = TailView(None, None, 0)
            self.tail.clear()
        else:
            tail = self.tail.view(standing.lanes, standing.content.lanes, places_of=ahead)
            stale |= _overlapping(tail.damaged, since_us, until_us)
        for month in stale:
            opened.pop(month, None)
        plan.stale = tuple(sorted(stale))
        plan.notes += self._notes(standing, opened, stale, damaged)
        plan.lasting += self._lasting(standing, opened, tail, stale)
        if stale:
            agents = self._agents(wanted, plan.left_out)
            for month in sorted(stale, reverse=True):
                first, end = month_span_us(month)
                plan.scans.append((agents, max(first, since_us), min(end, until_us)))
        plan.scans += self._doubtful_scans(standing.doubts, wanted, stale)
        return plan

    def _without_index(self, wanted: Filters) -> Plan:
        plan = Plan(stale=(_ALL_MONTHS,), notes=["there is no search index yet: everything was scanned"])
        plan.scans.append((self._agents(wanted, plan.left_out), wanted.record.since_us, wanted.record.until_us))
        return plan

    def _usable(self, standing: Standing, since_us: int, until_us: int) -> tuple[dict[str, Partition], set[str]]:
        """Partitions that may hold something, newest first, and months whose partition cannot be used.

        Raises:
            StandingChangedError: one has gone with the state that named it.
        """
        found: dict[str, Partition] = {}
        damaged: set[str] = set()
        for month, entry in sorted(standing.state.partitions.items(), reverse=True):
            if month in standing.stale or not _overlaps(month, since_us, until_us):
                continue
            if self.partitions.is_damaged(month):
                damaged.add(month)
                continue
            try:
                found[month] = self.partitions.open(entry)
            except IndexFailedError as error:
                if self.standings.has_changed(standing):
                    raise StandingChangedError(str(error)) from error
                _log.error("%s", error)
                damaged.add(month)
        self.partitions.add_damaged(damaged)
        return found, damaged

    def _scan_what_waits(self, plan: Plan, standing: Standing, watermark: Mapping[str, int]) -> set[str]:
        """Months of which lanes have lost something that was to be scanned."""
        plan.lanes, plan.doubts = (standing.lanes, watermark), standing.doubts
        plan.notes.append("the search index is far behind: what waits to be indexed was scanned")
        return {day[:6] for commit in self._waiting(standing.lanes, watermark) for day in commit.damaged}

    def _notes(
        self, standing: Standing, opened: Mapping[str, Partition], stale: set[str], damaged: set[str]
    ) -> Iterator[str]:
        """What is wrong with the index."""
        for month in sorted(damaged):
            yield f"the search index of {month} is damaged: the month was scanned"
        for month in sorted(stale - damaged):
            yield f"the search index of {month} is being built: the month was scanned"
        entries = standing.state.partitions
        yield from (pieces(entries[month].lacks, month) for month in sorted(opened) if entries[month].lacks)
        if standing.state.unlisted:
            yield unlisted(standing.state.unlisted)

    def _lasting(
        self, standing: Standing, opened: Mapping[str, Partition], tail: TailView, stale: set[str]
    ) -> Iterator[Source]:
        """Partitions and the tail, each less what another source answers for."""
        lasting = [*opened.values()] if tail.partition is None else [*opened.values(), tail.partition]
        excluded = self._excluded(standing.doubts, lasting)
        for partition in opened.values():
            yield Source(partition, (), excluded, "indexed")
        if tail.partition is None:
            return
        twice: list[int] = []
        for each in opened.values() if tail.places else ():
            if each.ahead:
                with searching(each):
                    twice += each.held(tail.places, self._compiler)
        not_in_tail = [self._compiler.keys(twice)] if twice else []
        not_in_tail += (self._compiler.time_range(*month_span_us(month)) for month in stale)
        live = () if tail.live is None else (tail.live,)
        yield Source(tail.partition, live, (*excluded, *not_in_tail), "tail")

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
        months = _overlapping(standing.stale, since_us, until_us)
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


def _any_matches(patterns: Sequence[str]) -> Callable[[str], bool]:
    """Whether an agent id is one of these, or matches one; brackets mean nothing."""
    escaped = [pattern.replace("[", "[[]") for pattern in patterns]
    return lambda agent: any(fnmatch.fnmatchcase(agent, pattern) for pattern in escaped)


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


def _overlapping(months: Iterable[str], since_us: int, until_us: int) -> set[str]:
    return {month for month in months if _overlaps(month, since_us, until_us)}
