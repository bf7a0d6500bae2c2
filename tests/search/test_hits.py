"""The passages of a hit are found when they are asked for, and nobody can tell: whenever, wherever, by whom."""

from __future__ import annotations

import asyncio
import copy
import dataclasses
import pickle
import threading
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import msgspec
import orjson
import pytest
from search_support import SEARCHING

from memstore import AsyncMemStore, MemStore
from memstore.search.highlight import Highlighter
from memstore.search.result import Highlight, SearchHit

TEXT = "a timeout, and behind it another timeout"
PASSAGE = Highlight(TEXT, ((2, 9), (33, 40)))


@pytest.fixture
def store(tmp_path: Any) -> Iterator[MemStore]:
    with MemStore(tmp_path / "store", settings=SEARCHING, durability="os") as opened:
        opened.append(agent_id="bot", content=TEXT, context={"note": "quiet"})
        yield opened


@pytest.fixture
def hit(store: MemStore) -> SearchHit:
    (found,) = store.search("timeout")
    return found


def ready(hit: SearchHit) -> SearchHit:
    """The same hit, as if its passages had been there from the start."""
    return SearchHit(hit.record, hit.score, (PASSAGE,))


def test_passages_are_looked_for_once_and_not_before_they_are_asked_for(
    store: MemStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked = []
    passages = Highlighter.passages

    def noted(self: Highlighter, texts: Sequence[str]) -> tuple[Highlight, ...]:
        looked.append(texts)
        return passages(self, texts)

    monkeypatch.setattr(Highlighter, "passages", noted)
    (hit,) = store.search("timeout")
    assert hit.record.content == TEXT
    assert not looked
    assert hit.highlights == (PASSAGE,)
    assert hit.highlights is hit.highlights
    assert len(looked) == 1


def test_a_hit_whose_passages_are_still_to_be_found_is_one_that_has_them(store: MemStore) -> None:
    def fresh() -> SearchHit:
        return store.search("timeout").hits[0]

    whole = ready(fresh())
    assert fresh() == whole
    assert repr(fresh()) == repr(whole)
    assert fresh().as_dict() == whole.as_dict()
    assert pickle.loads(pickle.dumps(fresh())) == whole
    assert copy.copy(fresh()).highlights == copy.deepcopy(fresh()).highlights == (PASSAGE,)
    assert dataclasses.replace(fresh(), score=None) == dataclasses.replace(whole, score=None)
    assert dataclasses.asdict(fresh()) == dataclasses.asdict(whole)
    assert [each.name for each in dataclasses.fields(fresh())] == ["record", "score", "highlights"]
    assert msgspec.to_builtins(fresh()) == msgspec.to_builtins(whole)
    assert msgspec.json.encode(fresh()) == msgspec.json.encode(whole)
    match fresh():
        case SearchHit(_, _, (passage,)):
            assert passage == PASSAGE
        case _:
            pytest.fail("it is none of a hit's form")


def test_orjson_writes_a_hit_with_its_passages(hit: SearchHit) -> None:
    written = orjson.loads(orjson.dumps(hit, default=msgspec.to_builtins))
    assert written["highlights"] == [{"text": TEXT, "spans": [[2, 9], [33, 40]]}]


def test_passages_are_of_the_record_as_it_was_found(store: MemStore, hit: SearchHit) -> None:
    (other,) = store.search("quiet")
    other.record.context["note"] = "changed by the caller"
    store.forget([hit.record.memory_id])
    assert not store.search("timeout").hits
    store.close()
    assert hit.highlights == (PASSAGE,)
    assert other.highlights[0].marked() == "**quiet**"


def test_a_hit_lets_go_of_the_line_once_its_passages_are_found(hit: SearchHit) -> None:
    assert isinstance(hit._find, partial)
    assert TEXT.encode() in hit._find.args[0]
    assert hit.highlights
    assert hit._find is None


def test_threads_that_ask_at_once_are_told_the_same(store: MemStore) -> None:
    store.append_many({"agent_id": "bot", "content": f"timeout {n} {'é' * (n % 2)}"} for n in range(200))
    hits = store.search("timeout", limit=201).hits
    seen: list[list[tuple[Highlight, ...]]] = []
    start = threading.Barrier(4)

    def look() -> None:
        start.wait()
        seen.append([each.highlights for each in hits])

    threads = [threading.Thread(target=look) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(seen) == 4
    assert all(each == seen[0] and all(each) for each in seen)


def test_nothing_is_looked_for_where_nobody_wants_passages_or_no_words_were_asked_for(store: MemStore) -> None:
    for asked in (store.search("timeout", highlight=False), store.search("", memory_type="INTERACTION")):
        (hit,) = asked
        assert hit.highlights == ()
        assert not hasattr(hit, "_find")


def test_a_hit_has_no_other_names(hit: SearchHit) -> None:
    for each in (hit, ready(hit)):
        with pytest.raises(AttributeError, match="'SearchHit' object has no attribute 'higlights'"):
            getattr(each, "higlights")  # noqa: B009 - a type checker knows that it has none
        with pytest.raises(dataclasses.FrozenInstanceError):
            each.score = 1.0  # type: ignore[misc]  # frozen, which is what is tried


def test_an_event_loop_is_given_hits_that_have_their_passages(store: MemStore) -> None:
    async def ask() -> list[SearchHit]:
        async with AsyncMemStore(store.root, read_only=True, settings=SEARCHING) as reading:
            return [*await reading.search("timeout"), *await reading.agent("bot").search("timeout")]

    hits = asyncio.run(ask())
    assert [hit._find for hit in hits] == [None, None]
    assert [hit.highlights for hit in hits] == [(PASSAGE,)] * 2
