"""What is appended is shown once, in order, by whichever process, and nothing waits for those who have gone."""

import os
import subprocess
import sys

import pytest
from support import files_named, lane_files

from memstore import LockedError, MemStore, StoreClosedError
from memstore.search import follow

SETTINGS = {"storage.ballast_bytes": 0, "merging.background": False}


@pytest.fixture
def root(tmp_path):
    return str(tmp_path / "store")


@pytest.fixture
def store(root):
    with MemStore(root, durability="os", settings=SETTINGS) as opened:
        yield opened


def contents(hits):
    return [hit.record.content for hit in hits]


def consumers(root):
    return sorted(name for name in os.listdir(os.path.join(root, "consumers")) if name.startswith("follow"))


def other_process(root, *texts):
    """Appends in a process that closes its store, so that its log is merged at once."""
    code = (
        "import sys; from memstore import MemStore\n"
        "with MemStore(sys.argv[1], durability='os') as store:\n"
        "    for text in sys.argv[2:]: store.append(agent_id='other', content=text)\n"
    )
    subprocess.run([sys.executable, "-c", code, root, *texts], check=True, timeout=60)


def test_what_was_there_before_is_not_shown_and_what_comes_is_shown_once(store):
    store.append(agent_id="bot", content="timeout before")
    with store.follow("timeout") as follower:
        assert follower.poll() == []
        store.append(agent_id="bot", content="a timeout, later")
        store.append(agent_id="bot", content="all is well")
        assert contents(follower.poll()) == ["a timeout, later"]
        assert follower.poll() == []


def test_words_are_highlighted_unless_nobody_looks(store):
    with store.follow("timeout") as marked, store.follow("timeout", highlight=False) as plain:
        store.append(agent_id="bot", content="one timeout")
        assert marked.poll()[0].highlights[0].marked() == "one **timeout**"
        assert plain.poll()[0].highlights == ()


def test_order_is_that_of_arrival_whatever_the_times_say(store):
    with store.follow() as follower:
        for text, day in (("first", "2025-03-01"), ("second", "2024-01-01"), ("third", "2025-02-01")):
            store.append(agent_id="bot", content=text, timestamp=day)
        assert contents(follower.poll()) == ["first", "second", "third"]


def test_filters_and_agents_hold_as_they_do_in_a_search(store):
    with (
        store.follow("x", memory_type="ERROR", since="2025-01-01") as errors,
        store.agent("bot").follow("x") as own,
    ):
        store.append(agent_id="bot", content="x plain", timestamp="2025-02-01")
        store.append(agent_id="other", content="x wrong", memory_type="ERROR", timestamp="2025-02-01")
        store.append(agent_id="other", content="x too old", memory_type="ERROR", timestamp="2024-12-31")
        assert contents(errors.poll()) == ["x wrong"]
        assert contents(own.poll()) == ["x plain"]


def test_a_log_that_is_written_and_merged_between_two_looks_is_not_missed(store, root):
    with store.follow() as follower:
        other_process(root, "one", "two")
        store.append(agent_id="bot", content="three")
        store.drain()
        assert lane_files(root) == []
        assert contents(follower.poll()) == ["one", "two", "three"]
        assert lane_files(root, ".merged") == [], "it is let go once it is read"
        assert follower.poll() == []
    assert consumers(root) == []


def test_a_reader_without_rights_follows_what_it_sees(root, store):
    with MemStore(root, read_only=True) as reader, reader.follow() as follower:
        assert not follower.is_sure
        store.append(agent_id="bot", content="seen while open")
        assert contents(follower.poll()) == ["seen while open"]
        store.append(agent_id="bot", content="seen through the file that is gone")
        store.drain()
        assert lane_files(root) == []
        assert contents(follower.poll()) == ["seen through the file that is gone"]
    assert not os.path.exists(os.path.join(root, "consumers"))


def test_what_is_forgotten_before_it_is_shown_is_not_shown(store):
    with store.follow() as follower:
        gone = store.append(agent_id="bot", content="a mistake")
        store.append(agent_id="bot", content="kept")
        store.forget(gone)
        assert contents(follower.poll()) == ["kept"]


def test_an_erasure_leaves_nothing_waiting_and_says_what_was_not_seen(store, root):
    with store.follow() as follower:
        other_process(root, "never seen")
        store.append(agent_id="bot", content="stays", timestamp="2025-01-05")
        assert store.erase(agent="other").as_dict()["verified"]
        assert contents(follower.poll()) in (["stays"], [])
        assert any("search for them" in note for note in follower.take_notes())
        assert follower.take_notes() == []


def test_a_follower_that_was_killed_is_cleared_away_by_the_next(store, root):
    code = (
        "import os, sys; from memstore import MemStore\n"
        "store = MemStore(sys.argv[1], durability='os'); follower = store.follow(); os._exit(9)"
    )
    subprocess.run([sys.executable, "-c", code, root], check=False, timeout=60)
    assert consumers(root) == ["follow-1.json"]
    store.append(agent_id="bot", content="kept for the dead")
    store.drain()
    assert lane_files(root, ".merged")
    store.index()
    assert consumers(root) == []
    assert lane_files(root, ".merged") == []


def test_followers_are_bounded_and_do_not_disturb_one_another(store, root, monkeypatch):
    monkeypatch.setattr(follow, "FOLLOWERS_MAX", 2)
    with store.follow("a") as one, store.follow("b") as other:
        with pytest.raises(LockedError, match="end one of them"):
            store.follow("c")
        assert consumers(root) == ["follow-1.json", "follow-2.json"]
        store.append(agent_id="bot", content="a b")
        store.drain()
        assert contents(one.poll()) == ["a b"]
        assert lane_files(root, ".merged"), "the other has not read it"
        assert contents(other.poll()) == ["a b"]
        assert lane_files(root, ".merged") == []


def test_a_flood_is_read_in_portions(store, monkeypatch):
    monkeypatch.setattr(follow, "LOOK_BYTES_MAX", 5000)
    found = []
    with store.follow("word") as follower:
        for number in range(40):
            store.append_many({"agent_id": "bot", "content": f"word {number} {index}"} for index in range(5))
        looks = 0
        while True:
            found += contents(follower.poll())
            looks += 1
            if not follower.has_more:
                break
    assert looks > 3
    assert found == [f"word {number} {index}" for number in range(40) for index in range(5)]


def test_a_store_that_is_closed_is_not_followed(root):
    store = MemStore(root, durability="os", settings=SETTINGS)
    follower = store.follow()
    store.close()
    with pytest.raises(StoreClosedError):
        follower.poll()
    follower.close()
    follower.close()
    assert files_named(root, "follow-1.json") == []


def test_what_cannot_be_understood_is_told(store):
    with store.follow("typ:ERROR") as follower:
        assert any("typ" in hint for hint in follower.hints)
