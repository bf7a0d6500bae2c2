"""Lanes wait for those who consume them, within bounds, whatever happens to the lanes and to a consumer's file."""

from __future__ import annotations

import os
from typing import Any

import pytest
from search_support import SEARCHING, all_ids
from support import T0_US, flip, lane_files

from memstore import MemStore
from memstore.engine.consumers import Consumers
from memstore.search.state import CONSUMER
from memstore.timestamps import US_PER_DAY, iso_text


def opened(root: Any, **settings: Any) -> MemStore:
    return MemStore(root, settings={**SEARCHING, **settings}, durability="os")


@pytest.fixture
def store(tmp_path: Any) -> Any:
    with opened(tmp_path / "store") as made:
        yield made


def remember(store: MemStore, count: int = 3, *, days: int = 0) -> list[str]:
    return store.append_many(
        {"agent_id": "a", "content": "word", "timestamp_utc": iso_text(T0_US - days * US_PER_DAY)} for _ in range(count)
    )


def consumers_of(store: MemStore) -> Consumers:
    return store._engine.consumers


def test_merged_lane_waits_for_every_consumer_and_no_read_sees_it(store: MemStore) -> None:
    consumers = consumers_of(store)
    consumers.register("first", at_us=1)
    consumers.register("second", at_us=1)
    ids = remember(store)
    store.drain()
    (path,) = lane_files(store.root, ".merged")
    (lane,) = store._engine.feed.lanes()
    assert [record.memory_id for record in store.agent("a").range()] == sorted(ids)
    assert store.agent("a").count() == 3
    assert store.stats()["records"] == 3
    for name, left in (("first", 1), ("second", 0)):
        assert consumers.release() == 0
        consumers.update(
            name, lambda content: type(content)(name=content.name, at=content.at, lanes={lane.token: lane.end})
        )
        consumers.release()
        assert len(lane_files(store.root, ".merged")) == left
    assert not os.path.exists(path)


def test_lane_goes_with_the_last_consumer_that_is_unregistered(store: MemStore) -> None:
    consumers = consumers_of(store)
    consumers.register("first", at_us=1)
    assert consumers.register("first", at_us=2).at == 1
    remember(store)
    store.drain()
    assert lane_files(store.root, ".merged")
    consumers.unregister("first")
    consumers.unregister("first")
    assert not lane_files(store.root, ".merged")
    assert consumers.names() == []
    with pytest.raises(KeyError):
        consumers.update("first", lambda content: content)


def test_above_the_bound_the_oldest_lanes_go_and_their_months_are_built_again(tmp_path: Any) -> None:
    with opened(tmp_path / "store", **{"merging.consumer_lag_bytes": 0}) as store:
        ids = remember(store)
        store.index()
        ids += remember(store, days=40)
        ids += remember(store)
        store.drain()
        assert not lane_files(store.root, ".merged")
        state = consumers_of(store).read(CONSUMER)
        assert state is not None
        assert state.content.missed == ["202412", "202501"]
        found = store.search("word")
        assert found.total == len(ids)
        assert found.scanned.stale == ("202412", "202501")
        assert sorted(store.index()["built"]) == ["202412", "202501"]
        assert sorted(all_ids(store, "word")) == sorted(ids)
        assert store.search("word").scanned.indexed == len(ids)


def test_damaged_file_of_a_consumer_lets_lanes_go_and_the_index_begins_anew(store: MemStore) -> None:
    ids = remember(store)
    store.index()
    path = store._engine.paths.consumer(CONSUMER)
    flip(path, os.path.getsize(path) // 2)
    found = store.search("word")
    assert found.total == 3
    assert found.notes
    ids += remember(store)
    store.drain()
    assert not lane_files(store.root, ".merged")
    assert store.index()["finished"]
    assert sorted(all_ids(store, "word")) == sorted(ids)
    assert store.search("word").scanned.indexed == len(ids)


@pytest.mark.parametrize("place", ["a record", "a commit", "the seal", "the footer"])
def test_damage_to_a_lane_that_waits_for_the_index_loses_nothing(tmp_path: Any, place: str) -> None:
    """Its records stand in the files; the index takes them from there."""
    with opened(tmp_path / "store") as store:
        remember(store)
        store.index()
        first = remember(store, days=40)
        second = remember(store)
        store.drain()
        (path,) = lane_files(store.root, ".merged")
        with open(path, "rb") as file:
            data = file.read()
        offset = {
            "a record": data.index(first[0].encode()) + 5,
            "a commit": data.rindex(b'{"commit"') + 12,
            "the seal": len(data) - 5,
            "the footer": data.index(b'{"slice"') + 5,
        }[place]
        flip(path, offset)
        ids = [record.memory_id for record in store.agent("a").range()]
        assert set(first + second) <= set(ids)
        with opened(store.root, **{"search.background": False}) as other:
            assert sorted(all_ids(other, "word")) == ids
            other.index()
            assert sorted(all_ids(other, "word")) == ids
            assert other.search("word").scanned.stale == ()
        # Neither a merge nor an erasure stumbles over it.
        with opened(store.root, **{"merging.consumer_lag_bytes": 0}) as bounded:
            remember(bounded)
            bounded.drain()
            assert not lane_files(store.root, ".merged")
            bounded.erase(agent="a")
            assert bounded.search("word").total == 0


def test_lane_that_is_released_while_the_bound_is_kept_is_no_failure(
    store: MemStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    consumers = consumers_of(store)
    consumers.register("slow", at_us=1)
    remember(store)
    store.drain()
    names = consumers.merged_names()
    for path in lane_files(store.root, ".merged"):
        os.unlink(path)
    monkeypatch.setattr(consumers, "merged_names", lambda: names)
    consumers.give_up(names)
    state = consumers.read("slow")
    assert state is not None
    assert state.content.missed == []


def test_erasing_takes_lanes_that_wait_with_it(store: MemStore) -> None:
    remember(store)
    store.append(agent_id="b", content="quixotic")
    store.index()
    store.append(agent_id="b", content="quixotic too")
    store.append(agent_id="a", content="word")
    store.drain()
    assert lane_files(store.root, ".merged")
    store.erase(agent="b")
    for directory, _, names in os.walk(store.root):
        for name in names:
            with open(os.path.join(directory, name), "rb") as file:
                assert b"quixotic" not in file.read(), name
    assert store.search("").total == 4
    store.index()
    assert store.search("").total == 4
