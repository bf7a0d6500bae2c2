"""The small parts of the search: percentiles, months, doubts, edits, highlights."""

from __future__ import annotations

import math
from collections import Counter

import hypothesis.strategies as st
import pytest
from hypothesis import example, given

from memstore.format.forgotten import Changing, ForgottenLine
from memstore.search.compile import Compiler, How
from memstore.search.doubts import Span, doubts_of
from memstore.search.highlight import Highlighter, within_edits
from memstore.search.months import following, month_of, month_span_us
from memstore.search.question import Boosted, Everything, FlagIs, Fuzzy, Group, Node, Words
from memstore.search.schema import Analyzer
from memstore.search.sketch import bucket_of, percentiles, value_of
from memstore.timestamps import YEAR_10000_US

numbers = st.floats(-1e18, 1e18).filter(lambda number: number == 0 or abs(number) >= 1e-9)
analyzer = Analyzer("english")


@given(st.lists(numbers, min_size=1, max_size=60), st.floats(0, 100))
def test_percentiles_are_within_one_percent(values: list[float], percent: float) -> None:
    (found,) = percentiles(Counter(map(bucket_of, values)), [percent])
    exact = sorted(values)[math.floor(percent / 100 * (len(values) - 1))]
    assert found == pytest.approx(exact, rel=0.010001, abs=1e-9)


@given(st.lists(numbers, max_size=30), st.lists(numbers, max_size=30))
def test_buckets_of_two_partitions_add_up(one: list[float], other: list[float]) -> None:
    added = Counter(map(bucket_of, one)) + Counter(map(bucket_of, other))
    assert percentiles(added, [0, 50, 99, 100]) == percentiles(Counter(map(bucket_of, one + other)), [0, 50, 99, 100])


def test_buckets_keep_the_order_of_numbers() -> None:
    sizes = [10.0**power for power in range(-9, 19)]
    values = [*(-size for size in reversed(sizes)), 0.0, *sizes]
    buckets = [bucket_of(value) for value in values]
    assert buckets == sorted(buckets)
    assert [value_of(bucket) for bucket in buckets] == sorted(value_of(bucket) for bucket in buckets)
    assert percentiles({}, [50]) == [None]


@given(st.integers(0, YEAR_10000_US - 1))
def test_a_time_lies_in_its_month_and_in_no_other(time_us: int) -> None:
    month = month_of(time_us)
    first, end = month_span_us(month)
    assert first <= time_us < end
    if month != "999912":
        assert month_span_us(following(month))[0] == end


spans = st.tuples(st.sampled_from("ab"), st.integers(0, 30), st.integers(1, 9))


@given(st.lists(spans, max_size=12))
def test_joined_doubts_cover_the_same_moments_once(given_spans: list[tuple[str, int, int]]) -> None:
    lines = [
        ForgottenLine(changing=Changing(at=0, agent=agent, since=since, until=since + length))
        for agent, since, length in given_spans
    ]
    doubts = doubts_of([*lines, ForgottenLine()])
    covered = Counter((span.agent, moment) for span in doubts.spans for moment in range(span.since_us, span.until_us))
    assert set(covered) == {(agent, moment) for agent, since, n in given_spans for moment in range(since, since + n)}
    assert set(covered.values()) <= {1}


def test_single_ids_are_in_doubt_without_their_neighbours() -> None:
    changing = Changing(at=0, agent="a", since=3, until=9, ids=["x", "y"])
    doubts = doubts_of([ForgottenLine(changing=changing)])
    assert doubts.spans == ()
    assert dict(doubts.ids) == {"x": Span("a", 3, 9), "y": Span("a", 3, 9)}


words = st.text("abcdef", min_size=1, max_size=6)


@given(words, words)
def test_edits_are_the_same_both_ways_and_none_for_the_same_word(one: str, other: str) -> None:
    for distance in (1, 2):
        assert within_edits(one, other, distance) == within_edits(other, one, distance)
    assert within_edits(one, one, 0)
    assert within_edits(one, one + "x", 1)
    assert within_edits(one, one[::-1], len(one))


texts = st.lists(st.one_of(st.sampled_from(["market", "Markets", "café", "naïve", "\n", "🙂"]), st.text(max_size=30)))


@given(st.lists(texts.map(" ".join), max_size=4))
@example(["NÀ NÆ"])  # words are folded
def test_highlights_stand_where_the_words_are(given_texts: list[str]) -> None:
    node = Group(should=(Words("market"), Words("CAFE"), Words("na", prefix=True)))
    highlighter = Highlighter(node, analyzer)
    passages = highlighter.passages(given_texts)
    terms = {"market", "cafe"}
    for passage in passages:
        assert passage.spans
        ends = [0, *(end for _, end in passage.spans)]
        for before, (start, end) in zip(ends, passage.spans, strict=False):
            assert before <= start < end <= len(passage.text)
            word = passage.text[start:end]
            begins = any(each.startswith("na") for each in analyzer.folded(word))
            assert terms & set(analyzer.terms(word)) or begins, word
        assert passage.marked("", "") == passage.text
    if any(terms & set(analyzer.terms(text)) for text in given_texts):
        assert passages


plain = st.lists(st.sampled_from(["market", "Markets", "supermarket", "marketing", "trade", "traded", "x", "\n"]))


@given(st.lists(plain.map(" ".join), max_size=5))
def test_plain_texts_are_looked_through_at_once_as_they_are_word_by_word(given_texts: list[str]) -> None:
    node = Group(should=(Words("market"), Words("trade"), Words("super", prefix=True)))
    at_once, by_words = Highlighter(node, analyzer), Highlighter(node, analyzer)
    by_words._likely = None
    assert at_once.passages(given_texts) == by_words.passages(given_texts)


def test_passages_are_those_with_most_different_words_and_the_first_of_equal_ones() -> None:
    highlighter = Highlighter(Group(should=(Words("market"), Words("trade"))), analyzer)
    found = highlighter.passages(["market", "trade", "market trade", "no", "trade market", "market trade"])
    assert [each.text for each in found] == ["market trade", "trade market"]
    assert [each.text for each in highlighter.passages(["market", "no", "market trade"])] == ["market", "market trade"]


compiler = Compiler(analyzer)
typed = st.sampled_from(["the", "The", "market", "the market", "of the", "", "...", "é"])
leaves = st.one_of(
    st.builds(Words, typed, prefix=st.booleans(), quoted=st.booleans()),
    st.builds(Fuzzy, typed, st.sampled_from([1, 2])),
    st.sampled_from([Everything(), FlagIs("success", value=True)]),
)


def groups_of(nodes: st.SearchStrategy[Node]) -> st.SearchStrategy[Node]:
    several = st.lists(nodes, max_size=2).map(tuple)
    return st.one_of(st.builds(Group, several, several, several), st.builds(Boosted, nodes, st.just(2.0)))


@given(st.recursive(leaves, groups_of, max_leaves=6), st.booleans())
@example(Group(), False)
def test_a_question_says_nothing_where_no_query_comes_of_it(node: Node, at_all: bool) -> None:
    assert compiler.says_nothing(node, at_all=at_all) == (compiler.question(node, How(keep_stop_words=at_all)) is None)
