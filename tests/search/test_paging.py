"""Page by page every hit comes once, in order, whatever happens meanwhile; no cursor opens another question."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import pytest
from search_support import SEARCHING, all_ids
from support import T0_US, files_named, flip

from memstore import MemStore, UsageError
from memstore.clock import ManualClock
from memstore.search.cursor import SHOWN_MAX, Cursor, decode_cursor, encode_cursor
from memstore.timestamps import iso_text

AGENTS = ["a", "b"]


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(T0_US)


@pytest.fixture
def paged(tmp_path: Any, clock: ManualClock) -> Any:
    with MemStore(tmp_path / "store", settings=SEARCHING, durability="os", clock=clock) as store:
        yield store


def of_few_moments(store: MemStore, count: int) -> list[str]:
    """Records of two agents, many of one microsecond."""
    records = [
        {"agent_id": AGENTS[n % 2], "content": f"word number {n}", "timestamp_utc": iso_text(T0_US - n // 40)}
        for n in range(count)
    ]
    return store.append_many(records)


def by_time(ids: list[str]) -> list[str]:
    return sorted(ids, key=lambda memory_id: memory_id[-38:])


@pytest.mark.parametrize("limit", [1, 7, 39, 40, 41])
def test_records_of_one_microsecond_come_once_and_in_order(paged: MemStore, limit: int) -> None:
    ids = of_few_moments(paged, 60)
    paged.index()
    ids += of_few_moments(paged, 60)  # in the tail, of the same moments
    assert all_ids(paged, "word", sort="oldest", limit=limit) == by_time(ids)
    assert all_ids(paged, "", sort="newest", limit=limit) == by_time(ids)[::-1]
    assert all_ids(paged.agent("a"), "", sort="newest", limit=limit) == [i for i in by_time(ids)[::-1] if i[0] == "a"]


def test_pages_by_relevance_never_repeat_while_records_come_and_are_indexed(paged: MemStore) -> None:
    ids = set(of_few_moments(paged, 50))
    shown: list[str] = []
    cursor = None
    for number in range(40):
        page = paged.search("word number", limit=5, cursor=cursor)
        shown += [record.memory_id for record in page.records]
        cursor = page.cursor
        if cursor is None:
            break
        if number < 5:
            paged.append(agent_id="a", content="word word word number")
        if number == 3:
            paged.index()
    assert len(shown) == len(set(shown))
    assert ids <= set(shown)


def test_by_relevance_the_last_page_that_can_be_had_says_so(paged: MemStore) -> None:
    of_few_moments(paged, SHOWN_MAX + 30)
    first = paged.search("word", limit=700)
    second = paged.search("word", limit=700, cursor=first.cursor)
    assert (len(first), len(second), second.cursor) == (700, SHOWN_MAX - 700, None)
    assert any("sort by newest" in note for note in second.notes)
    assert len(all_ids(paged, "word", limit=700)) == SHOWN_MAX + 30


def test_ages_count_back_from_the_moment_of_the_first_page(paged: MemStore, clock: ManualClock) -> None:
    of_few_moments(paged, 20)
    for asked in ({"since": "7d"}, {"query": "after:7d"}, {"query": "word after:7d", "min_importance": "LOW"}):
        first = paged.search(limit=15, sort="newest", **asked)
        clock.advance(3600)
        assert len(paged.search(limit=15, sort="newest", cursor=first.cursor, **asked)) == 5


def test_cursor_of_another_question_order_or_agent_is_refused(paged: MemStore) -> None:
    of_few_moments(paged, 30)
    cursor = paged.search("word", sort="newest", limit=5).cursor
    assert cursor is not None
    bot = paged.agent("a")
    for asked in (
        {"query": "number"},
        {"sort": "oldest"},
        {"sort": "relevance"},
        {"agent": "a"},
        {"since": "1d"},
        {"tags": "x"},
        {"success": True},
    ):
        with pytest.raises(UsageError, match="another question"):
            paged.search(**{"query": "word", "sort": "newest", "limit": 5, "cursor": cursor, **asked})
    for agent in (bot, paged.agent("b")):
        with pytest.raises(UsageError, match="another question"):
            agent.search("word", sort="newest", limit=5, cursor=cursor)
    own = bot.search("word", sort="newest", limit=5).cursor
    assert own is not None
    with pytest.raises(UsageError, match="another question"):
        paged.agent("b").search("word", sort="newest", limit=5, cursor=own)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "ü",
        "=" * 50,
        "a" * 5000,
        encode_cursor(Cursor(1, -5)),
        encode_cursor(Cursor(1, 5, (2**62, 0))),
        encode_cursor(Cursor(1, 5, (-1, 0))),
        encode_cursor(Cursor(1, 2**63, (0, 0))),
    ],
)
def test_what_is_no_cursor_is_refused(paged: MemStore, text: str) -> None:
    with pytest.raises(UsageError):
        paged.search("", cursor=text)


def test_cursor_comes_back_as_it_was() -> None:
    for cursor in (Cursor(2**64 - 1, 0, (T0_US, 2**64 - 1)), Cursor(0, T0_US, None, b"abcdefgh"), Cursor(5, 6)):
        assert decode_cursor(encode_cursor(cursor)) == cursor


def test_another_process_goes_on_where_this_one_stopped(paged: MemStore) -> None:
    """Sets are in another order there, for hashes of text differ from process to process."""
    of_few_moments(paged, 12)
    tags = [f"tag{n}" for n in range(20)]
    paged.append_many([{"agent_id": "a", "content": "x", "tags": tags}] * 12)
    cursor = paged.search("", tags=tags, memory_type=["GOAL", "INTERACTION"], sort="newest", limit=10).cursor
    script = (
        "import sys; from memstore import MemStore\n"
        "store = MemStore(sys.argv[1], read_only=True)\n"
        f"page = store.search('', tags={tags!r}, memory_type=['INTERACTION', 'GOAL'], sort='newest', limit=10,"
        " cursor=sys.argv[2])\n"
        "print(len(page))"
    )
    for seed in ("1", "2"):
        told = subprocess.run(
            [sys.executable, "-c", script, paged.root, str(cursor)],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        )
        assert told.stdout.split() == ["2"]


def test_hits_behind_many_that_cannot_be_read_are_reached(paged: MemStore) -> None:
    """A damaged block takes its records out of the pages, which go on behind it."""
    newer = paged.append_many(
        {"agent_id": "a", "content": f"w {n}", "timestamp_utc": iso_text(T0_US - 1 - n)} for n in range(60)
    )
    older = paged.append_many(
        {"agent_id": "b", "content": f"w {n}", "timestamp_utc": iso_text(T0_US - 1000 - n)} for n in range(25)
    )
    paged.drain()
    paged.index()
    (path,) = [p for p in files_named(paged.root, "20250114.1.jsonl") if "/a/" in p]
    flip(path, 100)
    for sort in ("newest", "oldest", "relevance"):
        found: list[str] = []
        cursor = None
        for _ in range(100):
            page = paged.search("w", sort=sort, limit=5, cursor=cursor)  # type: ignore[arg-type]
            found += [record.memory_id for record in page.records]
            cursor = page.cursor
            if cursor is None:
                break
        assert sorted(found) == sorted(older), sort
        assert not set(found) & set(newer)


@pytest.mark.parametrize("limit", [0, -1, 1001, True, "5", None])
def test_a_limit_is_a_number_of_hits(paged: MemStore, limit: Any) -> None:
    memory_id = paged.append(agent_id="a", content="word")
    with pytest.raises(UsageError, match="limit"):
        paged.search("", limit=limit)
    with pytest.raises(UsageError, match="limit"):
        paged.similar(memory_id, limit=limit)
