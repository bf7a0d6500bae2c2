"""Is the index what the store is? Its files against their checksums, its records against the store's, month by month.

Searches and indexers go on meanwhile, so both sides are taken as a search takes them (`memstore.search.sources`), and
what differs is told only if it still does at a second look.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from memstore.engine.engine import Engine
from memstore.filters import RecordFilter
from memstore.format.lines import agent_prefix
from memstore.fs.storage import Storage
from memstore.ids import ID_TAIL_CHARS, SUFFIX_CHARS
from memstore.search.collect import matching
from memstore.search.compile import Compiler
from memstore.search.filters import Filters
from memstore.search.foreign import IndexFailedError
from memstore.search.months import month_span_us
from memstore.search.omissions import Omissions
from memstore.search.partition import META
from memstore.search.schema import Analyzer, IndexShape, agent_hash
from memstore.search.source import Plan, Source, SourceFailedError, searching
from memstore.search.sources import Sources, StandingChangedError
from memstore.search.standing import Standing
from memstore.search.state import PartitionEntry
from memstore.search.survey import agents_of, stored_lines
from memstore.timestamps import US_PER_DAY, id_stamp_to_us

_AT_ONCE = 50_000
"""Documents of the index that are held at a time."""
_LOOKS_MAX = 20
Key = tuple[int, int, int]
"""What a memory id is made of: see `memstore.search.partition.Place`, which is one."""
OnMonth = Callable[[str], None]
"""Told of each month that is done."""


@dataclass(frozen=True, slots=True)
class Discrepancy:
    """One thing in which the index is not what it should be.

    Attributes:
        month: ``YYYYMM``.
        path: of the file or the directory.
        reason: what is wrong.
        records: how many records are concerned; None where nobody can tell.
    """

    month: str
    path: str
    reason: str
    records: int | None = None


class Audit:
    """Used by one thread, once.

    Args:
        engine: the store, read-only or not. An index that was made with other settings of ``search`` is none.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        shape = IndexShape.of(engine.settings.search)
        analyzer = Analyzer(shape.language)
        self._compiler = Compiler(analyzer)
        # Its own: what a search has verified once is verified again.
        self._sources = Sources(engine, shape=shape, analyzer=analyzer, compiler=self._compiler)

    @property
    def is_ready(self) -> bool:
        """Whether there is an index of this shape."""
        return self._sources.standings.now().ready

    def sizes(self) -> dict[str, tuple[int, int]]:
        """Files and bytes of the index by month."""
        entries = self._sources.standings.now().state.partitions
        return {
            month: (len(entry.files), sum(size for size, _ in entry.files.values())) for month, entry in entries.items()
        }

    def run(self, *, full: bool, on_month: OnMonth, stop: Callable[[], bool] | None = None) -> Iterator[Discrepancy]:
        """Look at every month that the index answers for.

        Args:
            full: read every byte, and compare the records; otherwise files are there and of their sizes.
            on_month: see `OnMonth`.
            stop: asked between months.

        Raises:
            StorageError: the store or the disk cannot be read.
        """
        try:
            standing = self._sources.standings.now()
            for month in sorted(standing.state.partitions, reverse=True):
                if stop is not None and stop():
                    return
                yield from self._month(month, full=full)
                on_month(month)
        finally:
            self._sources.clear()

    def _month(self, month: str, *, full: bool) -> list[Discrepancy]:
        """What is wrong with a month, as of one state of the index."""
        found: list[Discrepancy] = []
        for _ in range(_LOOKS_MAX):
            standing = self._sources.standings.now()
            entry = standing.state.partitions.get(month)
            if entry is None or month in standing.stale:
                return []  # it is scanned, and built anew
            try:
                found = self._of_files(month, entry)
                if full and not found:
                    self._sources.partitions.open(entry)
                    return self._of_records(month, entry)
            except (IndexFailedError, SourceFailedError) as error:
                found = [Discrepancy(month, self._path(entry), str(error))]
            except StandingChangedError:
                continue
            if not found or not self._sources.standings.has_changed(standing):
                break
            self._sources.clear()
        return found

    def _path(self, entry: PartitionEntry) -> str:
        return os.path.join(self._engine.paths.search, entry.directory)

    def _of_files(self, month: str, entry: PartitionEntry) -> list[Discrepancy]:
        """Files that are gone or have another size; the list of the newest commit is replaced by the next."""
        found = []
        for name, (size, _) in sorted(entry.files.items()):
            path = os.path.join(self._path(entry), name)
            there = _size_of(self._engine.storage, path)
            if there is None:
                found.append(Discrepancy(month, path, "it is missing"))
            elif there != size and name != META:
                found.append(Discrepancy(month, path, f"it has {there} bytes and not {size}"))
        return found

    # -- records

    def _of_records(self, month: str, entry: PartitionEntry) -> list[Discrepancy]:
        left_out = Omissions()
        agents = agents_of(self._engine, left_out)
        first, end = month_span_us(month)
        if _sum_of(self._indexed(first, end)) == _sum_of(self._stored(agents, first, end, left_out)):
            return []
        lacking, surplus = set[Key](), set[Key]()
        for day_us in range(first, end, US_PER_DAY):
            looks = [self._differences(agents, day_us, day_us + US_PER_DAY) for _ in range(2)]
            lacking |= looks[0][0] & looks[1][0]
            surplus |= looks[0][1] & looks[1][1]
        if left_out:  # what is damaged in the store is told of elsewhere, and nothing can be compared with it
            return []
        found = []
        if lacking and not entry.lacks:  # some was damaged when the month was built
            found.append(self._of(month, entry, lacking, "not in it, and no search finds"))
        if surplus:
            found.append(self._of(month, entry, surplus, "in it and not in the store, and every search counts"))
        return found

    def _of(self, month: str, entry: PartitionEntry, places: set[Key], what: str) -> Discrepancy:
        count = len(places)
        them = "it" if count == 1 else "them"
        return Discrepancy(month, self._path(entry), f"{count:,} record(s) are {what} {them}", records=count)

    def _differences(self, agents: list[str], since_us: int, until_us: int) -> tuple[set[Key], set[Key]]:
        """What of a day the index lacks, and what it has more."""
        indexed = set(self._indexed(since_us, until_us))
        stored = set(self._stored(agents, since_us, until_us, Omissions()))
        return stored - indexed, indexed - stored

    def _stored(self, agents: list[str], since_us: int, until_us: int, left_out: Omissions) -> Iterator[Key]:
        """All that there is to be found."""
        for agent in agents:
            number, start = agent_hash(agent), len(agent_prefix(agent))
            end = start + ID_TAIL_CHARS - 1
            middle = end - SUFFIX_CHARS
            for line in stored_lines(self._engine, [agent], since_us, until_us, left_out):
                yield id_stamp_to_us(line[start:middle].decode()), int(line[middle:end], 16), number

    def _indexed(self, since_us: int, until_us: int) -> Iterator[Key]:
        """All that a search would find."""
        plan = self._plan(since_us, until_us)
        for source in (*plan.lasting, *self._sources.scanned(plan)):
            yield from self._found(source, since_us, until_us)

    def _plan(self, since_us: int, until_us: int) -> Plan:
        wanted = Filters(RecordFilter(since_us=since_us, until_us=until_us))
        standing: Standing = self._sources.standings.now()
        return self._sources.plan(standing, wanted)

    def _found(self, source: Source, since_us: int, until_us: int) -> Iterator[Key]:
        """The documents of a source, a portion at a time."""
        partition = source.partition
        waiting = [(since_us, until_us)]
        while waiting:
            since_us, until_us = waiting.pop()
            must = [self._compiler.time_range(since_us, until_us), *source.must]
            query = self._compiler.all_of(must, not_any=source.must_not)
            with searching(partition):
                count = matching(partition.searcher.search(query, 1))
                if count > _AT_ONCE and until_us - since_us > 1:
                    middle = (since_us + until_us) // 2
                    waiting += [(middle, until_us), (since_us, middle)]
                    continue
                hits = partition.searcher.search(query, max(count, 1)).hits
                places = partition.places([address for _, address in hits])
            yield from places


def _sum_of(keys: Iterator[Key]) -> tuple[int, int]:
    """How many there are, and the sum of their hashes: the same for the same keys in any order."""
    count = total = 0
    for key in keys:
        count += 1
        total += hash(key)
    return count, total


def _size_of(storage: Storage, path: str) -> int | None:
    identity = storage.identify(path)
    return None if identity is None else identity.size_bytes
