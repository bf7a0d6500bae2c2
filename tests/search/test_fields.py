"""What is asked of a field finds the records that have it, indexed or scanned, and no query harms the index."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from search_support import KEYS, SEARCHING, all_ids

from memstore import MemStore, UsageError

MOMENT = "2025-01-01T00:00:00Z"
RECORDS: list[dict[str, Any]] = [
    {
        "agent_id": "Plain",
        "content": f"alpha bet{number:03} transaction",
        "tags": ["T1", "line\nbreak"],
        "context": {
            **{key: "v" for key in KEYS if key not in ("latency", "when", "mixed")},
            "latency": 10.5 + number,
            "when": MOMENT,
            "mixed": [1, 2.5, "1", True, MOMENT][number % 5],
            "session_id": number % 3,
        },
        "response": {"content": "done", "success": number % 2 == 0, "processing_time_ms": number},
    }
    for number in range(60)
]


@pytest.fixture(params=["scanned", "in the tail", "indexed"], scope="module")
def full(request: Any, tmp_path_factory: Any) -> Iterator[MemStore]:
    settings = {**SEARCHING, "search.context_keys": KEYS}
    with MemStore(tmp_path_factory.mktemp("full") / "store", settings=settings, durability="os") as store:
        if request.param == "in the tail":
            store.index()
        store.append_many(RECORDS)
        store.append_many([{"agent_id": "b", "source_id": "S-1", "content": "Résumé façade", "timestamp_utc": MOMENT}])
        if request.param == "indexed":
            store.index()
            assert store.index_status()["records"] == len(RECORDS) + 1
        yield store


def test_every_key_of_context_can_be_searched_counted_and_grouped_by(full: MemStore) -> None:
    for key in KEYS:
        if key in ("latency", "when", "mixed"):
            continue
        assert full.search("", context={key: "v"}).total == 60, key
        (facet,) = full.search("", facets=[f"context.{key}"]).facets.values()
        assert [(each.value, each.count) for each in facet] == [("v", 60)], key
        rows = full.aggregate("", by=[f"context.{key}"]).rows
        assert [(row.key[f"context.{key}"], row.count) for row in rows] == [("v", 60), (None, 1)], key


def test_text_that_looks_like_a_time_is_found_as_text(full: MemStore) -> None:
    assert full.search("", context={"when": MOMENT}).total == 60
    assert full.search(f'context.when:"{MOMENT}"').total == 60
    assert full.search("", facets=["context.when"]).facets["context.when"][0].value == MOMENT
    assert full.aggregate("", by=["context.when"]).rows[0].key == {"context.when": MOMENT}


def test_numbers_flags_and_texts_of_one_key_are_told_apart(full: MemStore) -> None:
    for value in (1, 1.0, 2.5, "1", True, MOMENT):
        assert full.search("", context={"mixed": value}).total == 12, value
    assert full.search("", context={"mixed": False}).total == 0
    assert full.search("context.mixed:>=2").total == 12
    assert full.search("", context={"session_id": "2"}).total == full.search("", session="2").total == 20


def test_numbers_of_context_have_figures_and_ranges(full: MemStore) -> None:
    assert full.search("context.latency:[20 TO 30]").total == 10
    assert full.search("context.latency:{20.5 TO 30.5}").total == 9
    (row,) = full.aggregate("", metrics=["p50(context.latency)", "max(context.latency)", "count(context.latency)"]).rows
    assert row.metrics["max(context.latency)"] == 69.5
    assert row.metrics["count(context.latency)"] == 60
    assert row.metrics["p50(context.latency)"] == pytest.approx(39.5, rel=0.011)


def test_bounds_on_bytes_may_lie_between_two_numbers(full: MemStore) -> None:
    sizes = sorted(len(line) for agent in ("Plain", "b") for line in full.agent(agent).lines())
    middle = sizes[30]
    for text, wanted in (
        (f"bytes:>{middle}", sum(size > middle for size in sizes)),
        (f"bytes:>{middle - 0.5}", sum(size >= middle for size in sizes)),
        (f"bytes:<{middle + 0.5}", sum(size <= middle for size in sizes)),
        (f"bytes:>={middle}", sum(size >= middle for size in sizes)),
        (f"bytes:{middle}", sum(size == middle for size in sizes)),
        ("bytes:>-5", len(sizes)),
        ("bytes:<-5", 0),
        ("bytes:>1e300", 0),
        ("bytes:<1e300", len(sizes)),
    ):
        assert full.search(text).total == wanted, text


def test_a_prefix_is_found_with_and_without_accents(full: MemStore) -> None:
    for text in ("résu*", "RESU*", "façad*", "facad*", '"résumé faç"*', '"resume fac"*'):
        assert full.search(text).total == 1, text


def test_a_prefix_may_be_longer_than_the_stem_of_what_it_finds(full: MemStore) -> None:
    """The stem of transaction is transact."""
    for text in ("transactio*", "TRANSACTION*", '"bet001 transactio"*', "transaction* AND bet001"):
        assert full.search(text).total == (1 if "bet001" in text else 60), text
        assert full.search(text).hits[0].highlights[0].marked("<", ">").endswith("<transaction>"), text
    for text in ("transactions*", "transacted*", '"bet001 transactions"*', '"alpha transactio"*'):
        assert full.search(text).total == 0, text


STEMMED = ["happy", "happiness", "skies", "dying", "universities", "Naïvely", "agreed", "relational", "hopping", "ran"]


@pytest.mark.parametrize("language", ["english", "german", "none"])
@pytest.mark.parametrize("indexed", [False, True], ids=["in the tail", "indexed"])
def test_every_beginning_of_a_word_finds_just_the_words_that_begin_so(
    tmp_path: Any, language: str, indexed: bool
) -> None:
    settings = {**SEARCHING, "search.language": language}
    with MemStore(tmp_path / "store", settings=settings, durability="os") as store:
        store.append(agent_id="a", content="other")
        store.index()
        ids = store.append_many([{"agent_id": "a", "content": f"x {word}"} for word in STEMMED])
        word_of = dict(zip(ids, STEMMED, strict=True))
        if indexed:
            store.index()
        for begin in sorted({word[:length] for word in STEMMED for length in range(1, len(word) + 1)}):
            wanted = {word for word in STEMMED if word.lower().startswith(begin.lower())}
            for text in (f"{begin}*", f'"x {begin}"*'):
                found = {word_of[record.memory_id] for record in store.search(text, limit=50).records}
                assert found == wanted, text


def test_a_phrase_may_end_in_a_prefix_of_many_words(full: MemStore) -> None:
    assert len(all_ids(full, '"alpha bet"*')) == 60
    assert full.search('"alpha bet01"*').total == 10
    assert full.search('"bet001 transac"*').total == 1
    assert full.search('"bet001 alph"*').total == 0


def test_wildcards_match_line_breaks_and_either_case(full: MemStore) -> None:
    for text in ("tags:line*", "tags:LINE*", "tags:t?", "agent:pl*", "agent:PLAIN", "agent:?lain", "tags:*break"):
        assert full.search(text).total == 60, text
    assert full.search("source_id:*").total == full.search("source_id:s*").total == 1
    assert full.search("", agent="P*").total == 60
    assert full.search("", agent="p*").total == 0


@pytest.mark.parametrize(
    "text",
    [
        "agent:*a??????????????????????????????b",
        "agent:" + "*a" * 120,
        "tags:" + "?" * 250,
        "x" * 3000 + "*",
        '"alpha ' + "y" * 3000 + '"*',
        "source_id:*",
        "~1",
        "a~2 " * 200,
        '"a b"~99999999999999999999',
        "ms:[* TO *]",
        "-",
        "context.mixed:*",
    ],
)
def test_no_query_raises_or_takes_the_index_for_damaged(full: MemStore, text: str) -> None:
    before = full.index_status()
    full.search(text, facets=["agent"])
    full.aggregate(text, by=["agent"])
    assert full.index_status() == before
    assert full.search("alpha").total == 60


def test_an_agent_pattern_too_large_to_look_for_is_refused(full: MemStore) -> None:
    with pytest.raises(UsageError, match="wildcards"):
        full.search("", agent="*a" + "?" * 40)


def test_a_prefix_of_too_many_words_is_searched_as_words_and_says_so(tmp_path: Any) -> None:
    with MemStore(tmp_path / "store", settings=SEARCHING, durability="os") as store:
        store.append(agent_id="a", content="alpha " + " ".join(f"w{number}" for number in range(17_000)))
        store.append(agent_id="a", content="alpha alone")
        store.index()
        found = store.search('"alpha w"*')
        assert found.total == 2
        assert any("its words are searched" in hint for hint in found.hints)
        assert store.index_status()["stale"] == []
