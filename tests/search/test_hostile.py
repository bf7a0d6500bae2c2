"""Whatever is typed: no exception, bounded work, a hint where it was not understood, and no way to another agent."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, given, settings
from search_support import SEARCHING

from memstore import MemStore
from memstore.search.query import CLAUSES_MAX, TEXT_CHARS_MAX, parse_question
from memstore.search.question import (
    Boosted,
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
from memstore.timestamps import US_PER_DAY, YEAR_10000_US

NOW_US = 1_736_899_200_000_000
PIECES = [
    "word", "agent:", "other", "id:", '"', "(", ")", "[", "]", "{", "}", " AND ", " OR ", " NOT ", "-", "+", "*", "?",
    "~", "^", ":", "\\", "/", " TO ", "ms:>", "1e999", "after:", "7d", "\x00", "\ud800", "漢", "🙂", "IN [", "<=", " ",
    "tags:", "text:", "own:", "importance:", "success:", "source_id:", "context.x:", "ctx.k78:", "key:", "t:", "_",
    ",", ".", "2", "'", "bytes:",
]  # fmt: skip
hostile = st.one_of(st.text(max_size=60), st.lists(st.sampled_from(PIECES), max_size=14).map("".join))
quick = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@pytest.fixture(scope="module")
def two(tmp_path_factory: Any) -> Iterator[MemStore]:
    made = {**SEARCHING, "search.context_keys": ["x"]}
    with MemStore(tmp_path_factory.mktemp("two") / "store", settings=made, durability="os") as store:
        for agent in ("own", "other"):
            store.append_many(
                {"agent_id": agent, "content": f"word {agent} {n}", "tags": ["t"], "context": {"x": n}}
                for n in range(5)
            )
        store.index()
        yield store


def leaves(node: Node | None) -> list[Node]:
    match node:
        case None:
            return []
        case Group(must, should, must_not):
            return [leaf for below in (*must, *should, *must_not) for leaf in leaves(below)]
        case Boosted(below, _):
            return leaves(below)
        case _:
            return [node]


@quick
@given(text=hostile)
def test_parsing_raises_nothing_and_is_bounded(text: str) -> None:
    question = parse_question(text, now_us=NOW_US, context_keys=["x"])
    assert len(leaves(question.node)) <= 2 * CLAUSES_MAX


@quick
@given(text=hostile, sort=st.sampled_from(["relevance", "newest", "oldest"]))
def test_one_agents_search_finds_no_other_agents_record(two: MemStore, text: str, sort: Any) -> None:
    own = two.agent("own")
    found = own.search(text, sort=sort, facets=["agent"], limit=50)
    assert {record.agent_id for record in found.records} <= {"own"}
    assert found.total == len(found.records) <= 5
    assert {each.value for each in found.facets["agent"]} <= {"own"}
    assert own.aggregate(text, by=["agent"]).total == found.total
    assert two.search(text, limit=50).total >= found.total
    assert two.index_status()["stale"] == []


def test_other_agents_cannot_be_asked_for(two: MemStore) -> None:
    own, other = two.agent("own"), two.agent("other")
    memory_id = other.search("word").records[0].memory_id
    for text in (
        "agent:other",
        "word OR agent:other",
        "own OR agent:o*",
        f"id:{memory_id}",
        "other",
        "NOT agent:own",
        "*",
    ):
        assert {record.agent_id for record in own.search(text).records} <= {"own"}, text
    assert two.search(f"id:{memory_id}").total == 1
    assert two.search("agent:other").total == 5


@pytest.mark.parametrize(
    "text",
    [
        "word " * 250_000,
        "(" * 100_000,
        '"' * 99_999,
        " OR ".join(f"word{n}" for n in range(10_000)),
        "agent:a* " * 5_000,
        "w*" * 3_000,
        "-" * 50_000,
        "word~2 " * 1_000,
        "((((word) AND word) OR word) NOT x) " * 500,
        "tags: IN [" + "t " * 10_000 + "]",
    ],
    ids=lambda text: text[:12],
)
def test_long_texts_are_cut_and_say_so(two: MemStore, text: str) -> None:
    question = parse_question(text, now_us=NOW_US)
    assert len(leaves(question.node)) <= CLAUSES_MAX + 1
    assert any(str(TEXT_CHARS_MAX) in hint for hint in question.hints)
    assert two.search(text).total <= 10


MEANINGS: list[tuple[str, Node | None]] = [
    ("", None),
    ("word", Words("word")),
    ("pre*", Words("pre", prefix=True)),
    ("word~1", Fuzzy("word", 1)),
    ("word~", Fuzzy("word", 1)),
    ('"two words"', Words("two words", quoted=True)),
    ('"two words"~3', Words("two words", slop=3, quoted=True)),
    ("a b", Group(should=(Words("a"), Words("b")))),
    ("a AND b", Group(must=(Words("a"), Words("b")))),
    ("a NOT b", Group(should=(Words("a"),), must_not=(Words("b"),))),
    ("+a -b", Group(must=(Words("a"),), must_not=(Words("b"),))),
    ("agent:bot", FieldIs("agent", ("bot",))),
    ("type:error", FieldIs("type", ("ERROR",), exact=True)),
    ("importance:>=HIGH", FieldIs("importance", ("CRITICAL", "HIGH"), exact=True)),
    ("importance:<HIGH", FieldIs("importance", ("MEDIUM", "LOW"), exact=True)),
    ("success:yes", FlagIs("success", value=True)),
    ("ms:>1000", NumberIn("ms", 1000.0, None, include_low=False, include_high=False)),
    ("ms:[1 TO 2}", NumberIn("ms", 1.0, 2.0, include_high=False)),
    ("ms:5", NumberIn("ms", 5.0, 5.0)),
    ("context.user_id:456", FieldIs("user", ("456",))),
    ("context.x:5", FieldIs("ctx.k78", ("5",))),
    ("after:2025-01-15", TimeIn(NOW_US, YEAR_10000_US)),
    ("before:7d", TimeIn(0, NOW_US - 7 * US_PER_DAY)),
    ("id:a_20250115_000000_0000000000000000000001", IdIs("a_20250115_000000_0000000000000000000001")),
    ("word ms:>=5", Group(must=(NumberIn("ms", 5.0, None, include_high=False),), should=(Words("word"),))),
    ("nope:word", Words("nope word")),
]


@pytest.mark.parametrize(("text", "node"), MEANINGS, ids=[text for text, _ in MEANINGS])
def test_what_a_text_means(text: str, node: Node | None) -> None:
    question = parse_question(text, now_us=NOW_US, context_keys=["x"])
    assert question.node == node
    assert bool(question.hints) == text.startswith("nope")
