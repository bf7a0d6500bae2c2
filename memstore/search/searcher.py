"""Answer questions: hits, counts and groups, from the index, the tail and scans alike.

What is asked is turned into one query for each source; what is found is put together (`memstore.search.collect`), and
the records of the hits are read from the store like any others: verified, and not found where they have been
forgotten.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import tantivy
import xxhash

from memstore.engine.record_reader import RecordReader
from memstore.errors import CorruptionError
from memstore.record import decode_record
from memstore.search.aggregate import Aggregator
from memstore.search.collect import Candidate, FacetCollector, HitCollector
from memstore.search.compile import Compiler, How, RankOf, no_correction
from memstore.search.cursor import SHOWN_MAX, Cursor, check_asked, encode_cursor
from memstore.search.filters import Filters
from memstore.search.foreign import IndexFailedError
from memstore.search.highlight import PassageFinder
from memstore.search.partition import Partition
from memstore.search.question import Question, is_scored, text_nodes
from memstore.search.result import FacetCount, Scanned, SearchHit, Sort
from memstore.search.schema import TEXT, Analyzer, record_key
from memstore.search.source import Plan, Source, SourceFailedError, searching
from memstore.search.sources import Sources

_log = logging.getLogger(__name__)
FACET_VALUES = 100
"""Values of a facet that are given back: the most frequent."""
_SPARE_HITS = 8
"""Hits beyond the limit that are collected, for records that go between the index and the store."""


@dataclass(frozen=True, slots=True)
class Asked:
    """One question, whole.

    Attributes:
        question: the text, parsed.
        filters: what must hold beside it.
        fields: values that fields must have beside these: ``(field, value)``.
    """

    question: Question
    filters: Filters
    fields: tuple[tuple[str, object], ...] = ()

    def fingerprint(self, order: Sort) -> int:
        """Equal ones ask the same in the same order, for cursors."""
        # Sets are told in order: in which they come hangs on the process.
        record = self.filters.record
        told = (
            self.question.node,
            self.filters.agents,
            self.filters.own,
            self.filters.success,
            (record.since_us, record.until_us, record.context),
            [None if each is None else sorted(each) for each in (record.memory_types, record.importances)],
            [None if each is None else sorted(each) for each in (record.tags_any, record.tags_all)],
            self.fields,
            order,
        )
        return xxhash.xxh3_64_intdigest(repr(told).encode("utf-8", "replace"))


@dataclass(frozen=True, slots=True)
class Page:
    """What one search found."""

    hits: tuple[SearchHit, ...]
    total: int
    facets: dict[str, list[FacetCount]]
    cursor: str | None
    scanned: Scanned
    notes: tuple[str, ...]


class Searcher:
    """Thread-safe: holds nothing that changes."""

    def __init__(self, *, sources: Sources, compiler: Compiler, analyzer: Analyzer, reader: RecordReader) -> None:
        self._sources = sources
        self._compiler = compiler
        self._analyzer = analyzer
        self._reader = reader

    def page(
        self,
        plan: Plan,
        asked: Asked,
        *,
        sort: Sort,
        limit: int,
        before: Cursor | None,
        highlight: bool,
        facets: dict[str, str],
        now_us: int,
    ) -> Page:
        """One page of hits.

        Args:
            plan: what is searched.
            asked: what for.
            sort: in which order; by relevance means newest first where the question tells no record from another.
            limit: hits on the page, at least 1.
            before: the cursor of the page before.
            highlight: whether hits have passages.
            facets: fields to count values of, by the caller's names.
            now_us: what ages in the question count back from.

        Raises:
            SourceFailedError: a partition refused.
            UsageError: the cursor is none of this question's.
        """
        node = asked.question.node
        noise = self._compiler.says_nothing(node)
        silent = noise and self._compiler.says_nothing(node, at_all=True)
        scored = sort == "relevance" and is_scored(node) and not silent
        order: Sort = "newest" if sort == "relevance" and not scored else sort
        fingerprint = asked.fingerprint(order if not scored else "relevance")
        if before is not None:
            check_asked(before, fingerprint)
        shown = set() if before is None else before.shown_keys()
        limit = min(limit, SHOWN_MAX - len(shown)) if scored else limit
        hits = HitCollector(
            self._compiler,
            sort=order,
            limit=limit + len(shown) + _SPARE_HITS,
            after=None if before is None or scored else before.place,
        )
        counted = FacetCollector(facets)
        scanned = self._through(plan, asked, (hits.collect, counted.collect), scored=scored, noise=noise)
        candidates = [each for each in hits.candidates() if not shown or shown.isdisjoint(map(_short_key, _ids(each)))]
        notes = plan.told()
        found, looked_at, ids = self._read(candidates, limit, notes)
        scores = [each.score if scored else None for each, _ in found]
        listed = self._hits(asked, [line for _, line in found], scores, highlight=highlight)
        following = None
        # Where more could not be read than are collected to spare, there is another page, be this one empty.
        if looked_at < len(candidates) or len(candidates) == limit + _SPARE_HITS:
            last = candidates[looked_at - 1].place
            seen = shown.union(map(_short_key, ids)) if scored else shown
            if not scored:
                following = encode_cursor(Cursor(fingerprint, now_us, (last.time_us, last.suffix)))
            elif len(seen) < SHOWN_MAX:
                keys = b"".join(key.to_bytes(4, "big") for key in sorted(seen))
                following = encode_cursor(Cursor(fingerprint, now_us, None, keys))
            else:
                notes.append(f"by relevance {SHOWN_MAX} hits can be paged through; sort by newest to see all")
        named = {
            name: [FacetCount(value, count) for value, count in values]
            for name, values in counted.largest(FACET_VALUES).items()
        }
        return Page(listed, hits.total, named, following, scanned, tuple(notes))

    def _hits(
        self, asked: Asked, lines: Sequence[bytes], scores: Sequence[float | None], *, highlight: bool
    ) -> tuple[SearchHit, ...]:
        """Stored lines, decoded."""
        records = map(decode_record, lines)
        if not highlight or not text_nodes(asked.question.node):
            return tuple(map(SearchHit, records, scores))
        find = PassageFinder(asked.question.node, self._analyzer).of
        finders = (partial(find, line) for line in lines)
        return tuple(map(SearchHit.of, records, scores, finders))

    def aggregate(self, plan: Plan, asked: Asked, aggregator: Aggregator) -> Scanned:
        """Add up groups. Raises as `page`."""
        return self._through(plan, asked, (aggregator.collect,), noise=self._compiler.says_nothing(asked.question.node))

    def count(self, plan: Plan, asked: Asked) -> int:
        """How many records match. Raises as `page`."""
        hits = HitCollector(self._compiler, sort="relevance", limit=1)
        self._through(plan, asked, (hits.collect,), noise=self._compiler.says_nothing(asked.question.node))
        return hits.total

    def frequencies(self, plan: Plan, terms: Sequence[str]) -> tuple[dict[str, int], int]:
        """In how many records each term occurs, and how many records there are; scans aside."""
        found = [_frequencies(source.partition, terms) for source in plan.lasting]
        return _added_up(found, terms), sum(source.partition.records for source in plan.lasting)

    def _through(
        self,
        plan: Plan,
        asked: Asked,
        collectors: Sequence[Callable[[Partition, tantivy.Query], None]],
        *,
        noise: bool,
        scored: bool = False,
    ) -> Scanned:
        """Show every source to the collectors; ``noise``: the question consists of stop words."""
        must = self._compiler.filters(asked.filters)
        must += [self._compiler.context_is(field, value) for field, value in asked.fields]
        node = asked.question.node
        terms = sorted(self._compiler.ranked_terms(node)) if scored and len(plan.lasting) > 1 else []
        lasting = {source.partition: _frequencies(source.partition, terms) for source in plan.lasting}
        frequencies = _added_up(lasting.values(), terms)
        records = sum(partition.records for partition in lasting)
        seen = {"indexed": 0, "tail": 0, "scanned": 0}
        for source in self._all(plan):
            partition = source.partition
            own = lasting[partition] if partition in lasting else _frequencies(partition, terms)
            how = How(_correction(partition.records, own, frequencies, records), noise, partition.words)
            with searching(partition):
                query = self._compiler.question(node, how)
            everything = self._compiler.all_of([*must, *source.must], scored=query, not_any=source.must_not)
            for collect in collectors:
                with searching(partition):
                    collect(partition, everything)
            seen[source.kind] += partition.records
        return Scanned(
            sum(source.kind == "indexed" for source in plan.lasting),
            seen["indexed"],
            seen["tail"],
            seen["scanned"],
            plan.stale,
        )

    def _all(self, plan: Plan) -> Iterator[Source]:
        yield from plan.lasting
        yield from self._sources.scanned(plan)

    def _read(
        self, candidates: Sequence[Candidate], limit: int, notes: list[str]
    ) -> tuple[list[tuple[Candidate, bytes]], int, list[str]]:
        """The lines of the first so many candidates that are there, how many were looked at for them, and their ids."""
        found: list[tuple[Candidate, bytes]] = []
        looked_for: list[str] = []
        position = 0
        while len(found) < limit and position < len(candidates):
            portion = candidates[position : position + limit - len(found)]
            position += len(portion)
            owners = [(each, memory_id) for each in portion for memory_id in _ids(each)]
            ids = [memory_id for _, memory_id in owners]
            looked_for += ids
            for (each, _), line in zip(owners, self._lines(ids, notes), strict=True):
                if line is not None:
                    found.append((each, line))
        return found, position, looked_for

    def _lines(self, memory_ids: list[str], notes: list[str]) -> list[bytes | None]:
        try:
            return self._reader.get_lines(memory_ids)
        except CorruptionError:
            lines: list[bytes | None] = []
            for memory_id in memory_ids:
                try:
                    lines += self._reader.get_lines([memory_id])
                except CorruptionError as error:
                    notes.append(f"{memory_id} matches and cannot be read: {error}")
                    lines.append(None)
            return lines


def _frequencies(partition: Partition, terms: Sequence[str]) -> dict[str, int]:
    """In how many records of a partition each term occurs."""
    if not terms:
        return {}
    with searching(partition):
        return {term: partition.searcher.doc_freq(TEXT, term) for term in terms}


def _added_up(found: Collection[dict[str, int]], terms: Sequence[str]) -> dict[str, int]:
    return {term: sum(each[term] for each in found) for term in terms}


def _correction(here: int, own: dict[str, int], frequencies: dict[str, int], records: int) -> RankOf:
    """What brings each term's weight in a partition to what it would be in one index of everything.

    tantivy weighs a term by ``ln(1 + (n - df + 0.5) / (df + 0.5))`` of the index that it searches.

    Args:
        here: records of the partition.
        own: in how many of them each term occurs.
        frequencies: in how many records of everything it does.
        records: of everything.
    """
    if not own:
        return no_correction
    factors = {
        term: _rarity(frequencies[term], records) / _rarity(count, max(here, count)) if count else 1.0
        for term, count in own.items()
    }
    return lambda term: factors.get(term, 1.0)


def _rarity(frequency: int, records: int) -> float:
    records = max(records, frequency)
    return math.log(1 + (records - frequency + 0.5) / (frequency + 0.5))


def _short_key(memory_id: str) -> int:
    return record_key(memory_id) & 0xFFFFFFFF


def _ids(each: Candidate) -> list[str]:
    try:  # no context: there are dozens of candidates, and only the first asks the index
        return each.memory_ids
    except IndexFailedError as error:
        raise SourceFailedError(each.partition, error) from error
