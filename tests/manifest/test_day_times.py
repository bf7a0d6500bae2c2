"""The pieces of a busy day that may hold a time are those that a look at each of them finds."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from support import QUIET

from memstore import MemStore
from memstore.manifest.day_times import DayTimes
from memstore.manifest.index import BlockRef

US_MAX = 60
SPANS = st.tuples(st.integers(0, US_MAX), st.integers(0, US_MAX)).map(sorted)


@given(st.lists(SPANS), SPANS)
def test_no_piece_outside_of_the_range_holds_a_time_of_it(spans: list[list[int]], wanted: list[int]) -> None:
    pieces = [(low, high, number) for number, (low, high) in enumerate(spans)]
    first, last = wanted
    found = [p for p in pieces[DayTimes.of(pieces).range(first, last)] if p[0] <= last and p[1] >= first]
    assert found == [p for p in pieces if p[0] <= last and p[1] >= first]


def test_range_of_pieces_in_order_is_just_those_that_are_wanted() -> None:
    pieces = [(10 * number, 10 * number + 5) for number in range(100)]
    assert pieces[DayTimes.of(pieces).range(203, 221)] == [(200, 205), (210, 215), (220, 225)]


def test_records_of_a_day_of_many_blocks_are_found_while_it_grows(tmp_path) -> None:
    with MemStore(tmp_path / "store", settings=QUIET) as store:
        bot = store.agent("bot")
        ids = []
        for number in range(100):
            # Every tenth one is of an older time than what was merged before.
            second = number if number % 10 else number // 10
            at = f"2025-01-15T{second // 60:02}:{second % 60:02}:00Z"
            ids.append(bot.append(content=number, timestamp=at))
            store.drain()
            if number % 9 == 0:
                assert [store.get(each).content for each in ids] == list(range(number + 1))
        manifest = store._engine.builder.manifest("bot")
        refs = manifest.days["20250115"]
        assert len(refs) == 100
        assert all(isinstance(ref, BlockRef) for ref in refs)
        assert list(manifest.day_times) == ["20250115"], "it was found by bisecting"
        found = [record.content for record in bot.range(since="2025-01-15T00:20:00Z", until="2025-01-15T00:30:00Z")]
        assert found == [number for number in range(20, 30) if number % 10]
