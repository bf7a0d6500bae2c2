"""Is the index what the store is? Its files against their checksums, its records against the store's.

Searches and indexers go on meanwhile, so both sides are taken as a search takes them (`memstore.search.sources`): first
what it would find, then what is there. They are compared by counts and sums over what is different in each id, a month
at first and then half of what differs, again and again; what is left is told if it still differs at a second look.
"""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, repeat
from operator import mul
from typing import Literal

import msgspec
import tantivy

from memstore.engine.engine import Engine
from memstore.errors import CorruptionError, MemstoreError, StorageError
from memstore.filters import RecordFilter
from memstore.format.lines import agent_prefix
from memstore.ids import ID_TAIL_CHARS, SUFFIX_CHARS, number_suffix
from memstore.search.collect import matching
from memstore.search.compile import Compiler
from memstore.search.filters import Filters
from memstore.search.foreign import IndexFailedError
from memstore.search.months import month_span_us
from memstore.search.omissions import Omissions
from memstore.search.partition import Partition, verify_partition
from memstore.search.schema import Analyzer, IndexShape, agent_hash
from memstore.search.source import Source, SourceFailedError, searching
from memstore.search.sources import Sources, StandingChangedError
from memstore.search.standing import Standing
from memstore.search.state import CONSUMER, PartitionEntry, state_of
from memstore.search.survey import agents_of, months_of, stored_portions
from memstore.search.tail import TAIL_BYTES_MAX, behind_bytes
from memstore.timestamps import id_stamp_to_us, iso_and_id_stamp

_log = logging.getLogger(__name__)
_AT_ONCE = 50_000
"""Records of either side that are held at a time to tell which ones differ."""
_PORTION = 10_000
"""Records of one side that are read at a time."""
_LOOKS_MAX = 20
BarePlace = tuple[int, int, int]
"""What a memory id is made of: a `memstore.search.partition.Place` without its names."""
OnMonth = Callable[[str], None]
"""Told of each month that is done."""


@dataclass(frozen=True, slots=True)
class Discrepancy:
    """One thing in which the index is not what it should be, or why nobody can tell.

    Attributes:
        severity: as `memstore.ops.finding.Severity` has it.
        path: of the file or the directory.
        reason: what is wrong.
        month: ``YYYYMM``; empty where it concerns all of them.
    """

    severity: Literal["damage", "unread", "note"]
    path: str
    reason: str
    month: str = ""


@dataclass(slots=True)
class _Differences:
    """What of a month the index lacks, has though it is gone, and has more than once: how many, and one of each."""

    lacking: Counter[BarePlace]
    surplus: Counter[BarePlace]
    doubled: Counter[BarePlace]

    def also_in(self, other: _Differences) -> _Differences:
        """Those that both looks have found."""
        return _Differences(self.lacking & other.lacking, self.surplus & other.surplus, self.doubled & other.doubled)


class Audit:
    """Used by one thread, once.

    Args:
        engine: the store, read-only or not.

    Raises:
        ConfigError: ``search.language`` is unknown.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._shape = IndexShape.of(engine.settings.search)
        analyzer = Analyzer(self._shape.language)
        self._compiler = Compiler(analyzer)
        # Its own: what a search has verified once is verified again.
        self._sources = Sources(engine, shape=self._shape, analyzer=analyzer, compiler=self._compiler)
        self._agents: dict[int, str] = {}

    def sizes(self) -> dict[str, tuple[int, int]]:
        """Files and bytes of the index by month."""
        entries = self._sources.standings.now().state.partitions
        return {
            month: (len(entry.files), sum(size for size, _ in entry.files.values())) for month, entry in entries.items()
        }

    def run(self, *, full: bool, on_month: OnMonth) -> Iterator[Discrepancy]:
        """Look at every month that the index answers for.

        Args:
            full: read every byte, and compare the records; otherwise files are there and of their sizes.
            on_month: see `OnMonth`.
        """
        try:
            standing = self._sources.standings.now()
            if standing.content is None:
                yield from self._not_compared()
                return
            if standing.state.unlisted:
                reason = "damaged parts of the store could not say which months they belong to when it was begun"
                yield Discrepancy("note", self._engine.paths.search, reason)
            compare = full
            if full and behind_bytes(standing.lanes, standing.content.lanes) > TAIL_BYTES_MAX:
                compare = False
                reason = "it is far behind, so its records were not compared: `memstore index update` first"
                yield Discrepancy("note", self._engine.paths.search, reason)
            months = set(standing.state.partitions)
            if compare:
                months |= months_of(self._engine, Omissions())
            for month in sorted(months, reverse=True):
                found = self._looked_at(month, full=full, compare=compare)
                if any(each.severity != "note" for each in found):
                    _log.info("%s: looked at again, for %s", month, "; ".join(each.reason for each in found))
                    found = self._looked_at(month, full=full, compare=compare)
                yield from found
                on_month(month)
        finally:
            self._sources.clear()

    def _not_compared(self) -> Iterator[Discrepancy]:
        """Why there is an index, and yet none to look at."""
        path = self._engine.paths.search
        try:
            found = self._engine.consumers.read(CONSUMER)
            state = None if found is None else state_of(found.content)
        except CorruptionError:
            return  # its file is damaged, which the check of the small files says
        except msgspec.ValidationError as error:
            yield Discrepancy("note", path, f"another version wrote its state ({error}): it was not looked at")
            return
        if state is not None and state.shape not in ("", self._shape.fingerprint):
            reason = "it was made with other settings of `search`, or by another version: it was not looked at"
            yield Discrepancy("note", path, reason)

    def _looked_at(self, month: str, *, full: bool, compare: bool) -> list[Discrepancy]:
        """`_month` from the start, or why it could not be looked at."""
        try:
            return self._month(month, full=full, compare=compare)
        except (MemstoreError, FileNotFoundError) as error:
            return [Discrepancy("unread", self._engine.paths.search, str(error), month)]
        finally:
            self._sources.clear()

    def _month(self, month: str, *, full: bool, compare: bool) -> list[Discrepancy]:
        """What is wrong with a month, as of one state of the index."""
        for _ in range(_LOOKS_MAX):
            standing = self._sources.standings.now()
            entry = standing.state.partitions.get(month)
            if standing.content is None or month in standing.stale:
                return []  # it is scanned, and built anew
            try:
                found = [] if entry is None else self._of_files(month, entry, full=full, open_it=compare)
                return found + self._of_records(month, entry) if compare else found
            except StandingChangedError as changed:
                _log.debug("%s", changed)
            except (IndexFailedError, SourceFailedError) as failed:
                if not self._sources.standings.has_changed(standing):
                    error = failed.error if isinstance(failed, SourceFailedError) else failed
                    return [self._failed(month, entry, error)]
            self._sources.clear()
        reason = "it was changed again and again while it was looked at"
        return [Discrepancy("unread", self._engine.paths.search, reason, month)]

    def _path(self, entry: PartitionEntry | None) -> str:
        return os.path.join(self._engine.paths.search, "" if entry is None else entry.directory)

    def _failed(self, month: str, entry: PartitionEntry | None, error: IndexFailedError) -> Discrepancy:
        """The disk refused, or what it gave is not what was written."""
        refused = error.is_disks or isinstance(error.__cause__, StorageError)
        path = self._path(entry)
        reason = str(error).removeprefix(path).lstrip(f"{os.sep}: ")
        return Discrepancy("unread" if refused else "damage", path, reason, month)

    def _of_files(self, month: str, entry: PartitionEntry, *, full: bool, open_it: bool) -> list[Discrepancy]:
        """Raises: IndexFailedError: a file is not what it should be, or it cannot be opened."""
        if open_it:  # which verifies it; and a plan would leave out one that cannot be opened
            self._sources.partitions.open(entry)
        else:
            verify_partition(self._engine.storage, self._engine.paths.search, entry, set(), checksums=full)
        if not entry.lacks:
            return []
        reason = f"{entry.lacks} damaged piece(s) of the store were left out when it was built"
        return [Discrepancy("note", self._path(entry), reason, month)]

    # -- records

    def _of_records(self, month: str, entry: PartitionEntry | None) -> list[Discrepancy]:
        """Raises: IndexFailedError, SourceFailedError, StandingChangedError: it cannot be searched."""
        first, end = month_span_us(month)
        unknown: set[int] = set()
        found = self._differences(first, end, unknown)
        told = []
        for places, what in (
            (found.lacking, "not in it, and no search finds them"),
            (found.surplus, "in it and not in the store, and every search counts them"),
            (found.doubled, "in it more than once, and every search counts them so"),
        ):
            if places:
                reason = f"{places.total():,} record(s) are {what}, such as {self._memory_id(min(places))}"
                told.append(Discrepancy("damage", self._path(entry), reason, month))
        if unknown:
            reason = f"records of {len(unknown)} agent(s) were not compared, for the store is damaged there"
            told.append(Discrepancy("note", self._path(entry), reason, month))
        return told

    def _differences(self, since_us: int, until_us: int, unknown: set[int]) -> _Differences:
        """What differs within a span; agents of which something is damaged go to ``unknown`` and are left out."""
        found = _Differences(Counter(), Counter(), Counter())
        waiting = [(since_us, until_us)]
        while waiting:
            since_us, until_us = waiting.pop()
            indexed = _sum_of(self._indexed_suffixes(since_us, until_us, unknown))
            stored = _sum_of(self._stored_suffixes(since_us, until_us, unknown))
            if indexed == stored:
                continue
            if max(indexed[0], stored[0]) > _AT_ONCE and until_us - since_us > 1:
                middle = (since_us + until_us) // 2
                waiting += [(middle, until_us), (since_us, middle)]
                continue
            once, twice = (self._difference(since_us, until_us, unknown) for _ in range(2))
            real = once.also_in(twice)
            found.lacking += real.lacking
            found.surplus += real.surplus
            found.doubled += real.doubled
        return found

    def _difference(self, since_us: int, until_us: int, unknown: set[int]) -> _Differences:
        indexed = Counter(chain.from_iterable(self._indexed_places(since_us, until_us)))
        stored = Counter(self._stored_places(since_us, until_us, unknown))
        for each in [place for place in (*indexed, *stored) if place[2] in unknown]:
            indexed.pop(each, None)
            stored.pop(each, None)
        doubled = Counter({place: count - 1 for place, count in indexed.items() if count > 1 and place in stored})
        return _Differences(stored - indexed, indexed - stored - doubled, doubled)

    # What there is to be found. The agents are listed behind what the index was asked for.

    def _stored(self, since_us: int, until_us: int, unknown: set[int]) -> Iterator[tuple[int, list[bytes]]]:
        """Hashes of agents, and what their records' ids end with."""
        for agent in agents_of(self._engine):
            number, start = agent_hash(agent), len(agent_prefix(agent))
            self._agents[number] = agent
            if number in unknown:
                continue
            left_out = Omissions()
            end = start + ID_TAIL_CHARS - 1
            tails: list[bytes] = []
            for lines in stored_portions(self._engine, agent, since_us, until_us, left_out):
                tails += [line[start:end] for line in lines]
                if len(tails) >= _PORTION:
                    yield number, tails
                    tails = []
            if tails:
                yield number, tails
            if left_out:
                unknown.add(number)

    def _stored_suffixes(self, since_us: int, until_us: int, unknown: set[int]) -> Iterator[list[int]]:
        for _, tails in self._stored(since_us, until_us, unknown):
            yield list(map(int, [tail[-SUFFIX_CHARS:] for tail in tails], repeat(16)))

    def _stored_places(self, since_us: int, until_us: int, unknown: set[int]) -> Iterator[BarePlace]:
        for number, tails in self._stored(since_us, until_us, unknown):
            for tail in tails:
                stamp, suffix = tail[:-SUFFIX_CHARS], tail[-SUFFIX_CHARS:]
                yield id_stamp_to_us(stamp.decode()), int(suffix, 16), number

    # What a search would find.

    def _indexed(self, since_us: int, until_us: int) -> Iterator[tuple[Partition, list[tantivy.DocAddress]]]:
        """Documents, a portion at a time."""
        standing: Standing = self._sources.standings.now()
        plan = self._sources.plan(standing, Filters(RecordFilter(since_us=since_us, until_us=until_us)))
        for source in (*plan.lasting, *self._sources.scanned(plan)):
            for addresses in self._found(source, since_us, until_us):
                yield source.partition, addresses

    def _found(self, source: Source, since_us: int, until_us: int) -> Iterator[list[tantivy.DocAddress]]:
        waiting = [(since_us, until_us)]
        while waiting:
            since_us, until_us = waiting.pop()
            must = [self._compiler.time_range(since_us, until_us), *source.must]
            query = self._compiler.all_of(must, not_any=source.must_not)
            with searching(source.partition):
                result = source.partition.searcher.search(query, _PORTION)
                count = matching(result)
                if count > _PORTION and until_us - since_us > 1:
                    middle = (since_us + until_us) // 2
                    waiting += [(middle, until_us), (since_us, middle)]
                    continue
                hits = result.hits if count <= _PORTION else source.partition.searcher.search(query, count).hits
            yield [address for _, address in hits]

    def _indexed_suffixes(self, since_us: int, until_us: int, unknown: set[int]) -> Iterator[list[int]]:
        for partition, addresses in self._indexed(since_us, until_us):
            with searching(partition):
                if unknown:
                    yield [suffix for _, suffix, number in partition.bare_places(addresses) if number not in unknown]
                else:
                    yield partition.suffixes(addresses)

    def _indexed_places(self, since_us: int, until_us: int) -> Iterator[Iterable[BarePlace]]:
        for partition, addresses in self._indexed(since_us, until_us):
            with searching(partition):
                yield partition.bare_places(addresses)

    def _memory_id(self, place: BarePlace) -> str:
        agent = self._agents.get(place[2], "?")  # which has nothing any more
        return f"{agent}_{iso_and_id_stamp(place[0])[1]}{number_suffix(place[1])}"


def _sum_of(portions: Iterable[list[int]]) -> tuple[int, int, int]:
    """How many suffixes there are, their sum, and that of their squares: the same for the same ones in any order.

    A suffix is a writer's number and a count, or a hash of what was imported: nearly no two records have the same.
    """
    count = total = squares = 0
    for portion in portions:
        count += len(portion)
        total += sum(portion)
        squares += sum(map(mul, portion, portion))
    return count, total, squares
