"""A question and typed filters to one tantivy query.

Queries are built from values, never pasted together as text. Scores: each word's weight is corrected for how rare it
is in the whole store, for tantivy knows only the partition that it searches; otherwise the newest records, which lie
in the smallest partition, would come last.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import tantivy

from memstore.errors import UsageError
from memstore.record import Importance
from memstore.search.document import folded_term
from memstore.search.filters import Filters
from memstore.search.pattern import WILDCARDS, escaped, glob_pattern, is_searchable, starts_with
from memstore.search.question import (
    Boosted,
    Everything,
    Exists,
    FieldIs,
    FlagIs,
    Fuzzy,
    Group,
    IdIs,
    Node,
    NumberIn,
    TimeIn,
    Words,
)
from memstore.search.schema import (
    AGENT,
    BYTES,
    CONTEXT,
    FOLDED,
    IMPORTANCE,
    KEY,
    LANE,
    PLACE,
    SOURCE_ID,
    SUCCESS,
    SUFFIX,
    TAG,
    TERM_BYTES_MAX,
    TEXT,
    TIME,
    TYPE,
    WORD,
    Analyzer,
    build_schema,
    marked,
    record_key,
)
from memstore.timestamps import YEAR_10000_US

_Occur = tantivy.Occur
RankOf = Callable[[str], float]
"""What the weight of a term has to be multiplied with in this partition."""


WordsOf = Callable[[str], Sequence[str]]
"""Words of a partition that begin like a text."""


def no_words(_prefix: str) -> Sequence[str]:
    """The `WordsOf` of no partition."""
    return ()


def no_correction(_term: str) -> float:
    """The `RankOf` where there is one partition, or nothing is ranked."""
    return 1.0


@dataclass(frozen=True, slots=True)
class How:
    """How a question is asked of one partition.

    Attributes:
        rank_of: see `RankOf`.
        keep_stop_words: whether words that say nothing are looked for all the same: nothing else was asked.
        words_of: see `WordsOf`.
    """

    rank_of: RankOf = no_correction
    keep_stop_words: bool = False
    words_of: WordsOf = no_words


class Compiler:
    """Thread-safe: holds nothing that changes.

    Args:
        analyzer: the index's.
    """

    def __init__(self, analyzer: Analyzer) -> None:
        self._analyzer = analyzer
        self._schema = build_schema()

    @property
    def schema(self) -> tantivy.Schema:
        """What queries are made for."""
        return self._schema

    def question(  # noqa: C901, PLR0911 - one a kind
        self, node: Node | None, how: How | None = None
    ) -> tantivy.Query | None:
        """The query of a node; None where it asks nothing (stop words alone, say)."""
        how = how or How()
        match node:
            case None:
                return None
            case Words():
                return self._words(node, how)
            case Fuzzy(text, distance):
                return self._fuzzy(text, distance)
            case FieldIs(field, values, exact):
                return _unscored(self._any([self._field_is(field, value, exact=exact) for value in values]))
            case FlagIs(field, value):
                return _unscored(tantivy.Query.term_query(self._schema, field, value))
            case NumberIn():
                return self._number_in(node)
            case TimeIn(since_us, until_us):
                return _unscored(self.time_range(since_us, until_us))
            case IdIs(memory_id):
                return _unscored(tantivy.Query.term_query(self._schema, KEY, record_key(memory_id)))
            case Exists(field):
                return _unscored(self._exists(field))
            case Everything():
                return tantivy.Query.all_query()
            case Boosted(below, factor):
                inner = self.question(below, how)
                return None if inner is None else tantivy.Query.boost_query(inner, factor)
            case Group():
                return self._group(node, how)

    def _exists(self, field: str) -> tantivy.Query:
        if field == SOURCE_ID:  # which has no column
            return tantivy.Query.regex_query(self._schema, field, glob_pattern("*"))
        return tantivy.Query.exists_query(field)

    def filters(self, wanted: Filters) -> list[tantivy.Query]:
        """A query for each filter; all of them must match."""
        record = wanted.record
        found: list[tantivy.Query] = []
        if wanted.own is not None:
            found.append(self._terms(AGENT, [wanted.own]))
        if wanted.agents is not None:
            found.append(self._any([self._agent(agent) for agent in wanted.agents]))
        if record.memory_types is not None:
            found.append(self._terms(TYPE, record.memory_types))
        if record.importances is not None and len(record.importances) < len(Importance):
            found.append(self._terms(IMPORTANCE, record.importances))
        if record.tags_any is not None:
            found.append(self._terms(TAG, record.tags_any))
        found += [self._terms(TAG, [tag]) for tag in record.tags_all or ()]
        if wanted.success is not None:
            found.append(tantivy.Query.term_query(self._schema, SUCCESS, wanted.success))
        if record.since_us > 0 or record.until_us < YEAR_10000_US:
            found.append(self.time_range(record.since_us, record.until_us))
        return found

    def context_is(self, field: str, value: object) -> tantivy.Query:
        """A key of context has this very value."""
        if field.startswith(f"{CONTEXT}."):
            return self._context_is(field, value)
        return tantivy.Query.term_query(self._schema, field, str(value))

    def _context_is(self, field: str, value: object) -> tantivy.Query:
        if isinstance(value, str):
            return tantivy.Query.term_query(self._schema, field, marked(value))
        if isinstance(value, bool):
            return tantivy.Query.term_query(self._schema, field, value)
        if not isinstance(value, int | float) or not math.isfinite(value):
            raise UsageError(f"context is searched by text, numbers and flags, not {value!r}")
        numbers = [kind(value) for kind in (int, float) if kind(value) == value]  # 5 and 5.0 are the same number
        return self._any([tantivy.Query.term_query(self._schema, field, each) for each in numbers if _is_term(each)])

    def time_range(self, since_us: int, until_us: int) -> tantivy.Query:
        """Records of ``[since_us, until_us)``."""
        if until_us <= since_us:
            return tantivy.Query.empty_query()
        return tantivy.Query.range_query(self._schema, TIME, tantivy.FieldType.Integer, since_us, until_us - 1)

    def keys(self, keys: Sequence[int]) -> tantivy.Query:
        """Records by their `record_key`."""
        return tantivy.Query.term_set_query(self._schema, KEY, keys)

    def one_of(self, field: str, values: Iterable[str]) -> tantivy.Query:
        """Records that have one of these values in a field, letter by letter."""
        return self._terms(field, values)

    def suffix_range(self, low: int, high: int) -> tantivy.Query:
        """Records by the suffix of their ids, both bounds inclusive."""
        if high < low:
            return tantivy.Query.empty_query()
        return tantivy.Query.range_query(self._schema, SUFFIX, tantivy.FieldType.Unsigned, low, high)

    def lane_from(self, number: int, low: int, high: int) -> tantivy.Query:
        """What the tail has of one lane from a place on."""
        unsigned = tantivy.FieldType.Unsigned
        return self._all(
            [
                tantivy.Query.range_query(self._schema, LANE, unsigned, number, number),
                tantivy.Query.range_query(self._schema, PLACE, unsigned, low, high),
            ]
        )

    def any_of(self, queries: Sequence[tantivy.Query]) -> tantivy.Query:
        """What one of these matches."""
        return self._any(queries)

    def agent_within(self, agent: str, since_us: int, until_us: int) -> tantivy.Query:
        """An agent's records of ``[since_us, until_us)``."""
        return self.all_of([self._terms(AGENT, [agent]), self.time_range(since_us, until_us)])

    def all_of(
        self,
        must: Sequence[tantivy.Query],
        *,
        scored: tantivy.Query | None = None,
        not_any: Iterable[tantivy.Query] = (),
    ) -> tantivy.Query:
        """One query of what must match, what of it makes the score, and what must not match."""
        parts = [(_Occur.Must, query) for query in ([] if scored is None else [scored])]
        parts += [(_Occur.Must, _unscored(query)) for query in must]
        if not parts:
            parts = [(_Occur.Must, tantivy.Query.all_query())]
        parts += [(_Occur.MustNot, query) for query in not_any]
        return parts[0][1] if len(parts) == 1 else tantivy.Query.boolean_query(parts)

    def says_nothing(self, node: Node | None, *, at_all: bool = False) -> bool:
        """Whether a question consists of stop words, so that no query comes of it; ``at_all``: not even of these."""
        match node:
            case Words():
                return self._is_silent(node, keep_stop_words=at_all)
            case Fuzzy(text, _):
                return not self._analyzer.terms(text)
            case Boosted(below, _):
                return self.says_nothing(below, at_all=at_all)
            case Group():
                return all(self.says_nothing(n, at_all=at_all) for n in (*node.must, *node.should, *node.must_not))
            case _:
                return False

    def ranked_terms(self, node: Node | None) -> set[str]:
        """Terms whose rarity decides about scores."""
        match node:
            case Words(text, _, prefix, _):
                return set() if prefix else set(self._analyzer.word_terms(text))
            case Boosted(below, _):
                return self.ranked_terms(below)
            case Group(must, should, _):
                return {term for below in (*must, *should) for term in self.ranked_terms(below)}
            case _:
                return set()

    # -- text

    def _is_silent(self, node: Words, *, keep_stop_words: bool) -> bool:
        if node.prefix:
            return not self._analyzer.folded(node.text)
        if not (keep_stop_words or node.quoted) and self._analyzer.is_stop_word(node.text):
            return True
        return not self._analyzer.word_terms(node.text)

    def _words(self, node: Words, how: How) -> tantivy.Query | None:
        if self._is_silent(node, keep_stop_words=how.keep_stop_words):
            return None
        terms = self._analyzer.word_terms(node.text)
        if node.prefix:
            return self._prefix(node, terms, how)
        query = (
            tantivy.Query.term_query(self._schema, TEXT, terms[0])
            if len(terms) == 1
            else tantivy.Query.phrase_query(self._schema, TEXT, list(terms), node.slop)
        )
        factor = math.fsum(how.rank_of(term) for term in terms) / len(terms)
        return query if factor == 1.0 else tantivy.Query.boost_query(query, factor)

    def _prefix(self, node: Words, terms: Sequence[str], how: How) -> tantivy.Query:
        """What has a word that begins so; of a phrase, what has such a word behind the others.

        Positions are those of stems. So the last word of a phrase is found by a stem that begins so, or by the stem of
        a word that does, where the record has this word: which words the partition has else makes no difference.
        (Outside English a stem may depend on accents, which words here have lost: then only the former finds it.)
        """
        typed = self._analyzer.folded(node.text)
        last = typed[-1]
        if len(last.encode()) > TERM_BYTES_MAX:
            return tantivy.Query.empty_query()  # no term is that long
        begins = tantivy.Query.regex_query(self._schema, WORD, starts_with(last))
        if len(typed) == 1:
            return begins
        before = terms[:-1]
        pattern: list[str | tuple[int, str]] = [*map(escaped, before), starts_with(last)]
        options = [tantivy.Query.regex_phrase_query(self._schema, TEXT, pattern, node.slop)]
        by_stem: dict[str, list[str]] = {}
        for word in how.words_of(last):
            stem = "".join(self._analyzer.word_terms(word))
            if not stem.startswith(last):
                by_stem.setdefault(stem, []).append(word)
        for stem, words in by_stem.items():
            phrase = tantivy.Query.phrase_query(self._schema, TEXT, [*before, stem], node.slop)
            options.append(self.all_of([self._terms(WORD, words)], scored=phrase))
        return self.all_of([begins], scored=self._any(options))

    def _fuzzy(self, text: str, distance: int) -> tantivy.Query | None:
        terms = self._analyzer.terms(text)
        if not terms:
            return None
        return self.all_of(
            [], scored=self._all([tantivy.Query.fuzzy_term_query(self._schema, TEXT, term, distance) for term in terms])
        )

    def _group(self, group: Group, how: How) -> tantivy.Query | None:
        must = [q for node in group.must if (q := self.question(node, how)) is not None]
        should = [q for node in group.should if (q := self.question(node, how)) is not None]
        must_not = [
            q for node in group.must_not if (q := self.question(node, replace(how, rank_of=no_correction))) is not None
        ]
        if not must and not should and not must_not:
            return None
        must_be_text = any(
            not isinstance(node, FieldIs | FlagIs | NumberIn | TimeIn | IdIs | Exists) for node in group.must
        )
        parts = [(_Occur.Must, query) for query in must]
        if should and not must_be_text:
            parts.append((_Occur.Must, self._any(should)))
        else:
            parts += [(_Occur.Should, query) for query in should]
        if not parts:
            parts = [(_Occur.Must, _unscored(tantivy.Query.all_query()))]
        parts += [(_Occur.MustNot, query) for query in must_not]
        return tantivy.Query.boolean_query(parts)

    # -- fields

    def _field_is(self, field: str, value: str, *, exact: bool) -> tantivy.Query:
        if exact:
            return self._terms(field, [value])
        if field.startswith(f"{CONTEXT}."):
            options: list[object] = [marked(value)]
            if value.lower() in ("true", "false"):
                options.append(value.lower() == "true")
            for kind in (int, float):
                try:
                    options.append(kind(value))
                except (ValueError, OverflowError):
                    continue
            return self._any(
                [tantivy.Query.term_query(self._schema, field, each) for each in options if _is_term(each)]
            )
        if WILDCARDS.search(value):
            pattern = glob_pattern(value.lower())
            return self._any(
                [
                    tantivy.Query.regex_query(self._schema, field, glob_pattern(value)),
                    tantivy.Query.regex_query(self._schema, field, pattern),
                    tantivy.Query.regex_query(self._schema, FOLDED, escaped(f"{field}:") + pattern),
                ]
            )
        folded = tantivy.Query.term_query(self._schema, FOLDED, folded_term(field, value))
        return self._any([self._terms(field, {value, value.lower()}), folded])

    def _agent(self, agent: str) -> tantivy.Query:
        if WILDCARDS.search(agent):
            if not is_searchable(glob_pattern(agent)):
                raise UsageError(f"{agent!r:.60} has too many wildcards, or is too long for one")
            return tantivy.Query.regex_query(self._schema, AGENT, glob_pattern(agent))
        return self._terms(AGENT, [agent])

    def _number_in(self, node: NumberIn) -> tantivy.Query:
        if node.field.startswith(f"{CONTEXT}."):
            return self._context_number_in(node)
        kind = tantivy.FieldType.Float
        low, high = node.low, node.high
        if node.field == BYTES:
            kind = tantivy.FieldType.Unsigned
            # In whole bytes: what lies strictly above 10.5 begins at 11.
            low = None if low is None else float(math.floor(low) + 1 if not node.include_low else math.ceil(low))
            high = None if high is None else float(math.ceil(high) - 1 if not node.include_high else math.floor(high))
            if (high is not None and high < 0) or (low is not None and low > _BYTES_MAX):
                return tantivy.Query.empty_query()
            low = None if low is None else max(int(low), 0)
            high = None if high is None else min(int(high), _BYTES_MAX)
            return _unscored(tantivy.Query.range_query(self._schema, node.field, kind, low, high))
        query = tantivy.Query.range_query(
            self._schema,
            node.field,
            kind,
            low,
            high,
            include_lower=node.include_low or low is None,
            include_upper=node.include_high or high is None,
        )
        return _unscored(query)

    def _context_number_in(self, node: NumberIn) -> tantivy.Query:
        # Ranges below a JSON field can only be had through the parser; what goes into its text are hexadecimal digits
        # and numbers.
        low = "*" if node.low is None else repr(node.low)
        high = "*" if node.high is None else repr(node.high)
        opening, closing = "[" if node.include_low else "{", "]" if node.include_high else "}"
        index = tantivy.Index(self._schema)
        query = index.parse_query(f"{node.field}:{opening}{low} TO {high}{closing}", [TEXT])
        return _unscored(query)

    def _terms(self, field: str, values: Iterable[str]) -> tantivy.Query:
        listed = list(values)
        if not listed:
            return tantivy.Query.empty_query()
        if len(listed) == 1:
            query = tantivy.Query.term_query(self._schema, field, str(listed[0]), "basic")
        else:
            query = tantivy.Query.term_set_query(self._schema, field, [str(value) for value in listed])
        return query

    def _any(self, queries: Sequence[tantivy.Query]) -> tantivy.Query:
        if not queries:
            return tantivy.Query.empty_query()
        return queries[0] if len(queries) == 1 else tantivy.Query.boolean_query([(_Occur.Should, q) for q in queries])

    def _all(self, queries: Sequence[tantivy.Query]) -> tantivy.Query:
        return queries[0] if len(queries) == 1 else tantivy.Query.boolean_query([(_Occur.Must, q) for q in queries])


_BYTES_MAX = 2**63
_FILTERS = (FieldIs, FlagIs, NumberIn, TimeIn, IdIs, Exists)


def _unscored(query: tantivy.Query) -> tantivy.Query:
    """A query that decides whether a record matches, and not how well."""
    return tantivy.Query.const_score_query(query, 0.0)


def _is_term(value: object) -> bool:
    return not isinstance(value, int) or -(2**63) <= value < 2**63
