"""Whatever happens between two steps of an indexer, a search is exact: nothing is missing, nothing there twice."""

from __future__ import annotations

import os
import random
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from search_support import SEARCHING, all_ids, index_files, reopened
from support import T0_US

from memstore import MemStore
from memstore.clock import ManualClock
from memstore.engine.consumers import Consumers
from memstore.engine.forgotten import Forgotten
from memstore.fs.lock import locked
from memstore.lifecycle.commit import Committer
from memstore.lifecycle.erase_agent import AgentRemoval
from memstore.lifecycle.erase_records import RecordRemoval
from memstore.search.indexer import LOCK
from memstore.search.partition_writer import PartitionWriter
from memstore.search.state import CONSUMER, state_of
from memstore.timestamps import US_PER_DAY, iso_text

AGENTS = ["a", "b", "c"]
SEEDS = int(os.environ.get("SEARCH_STEPS", "3"))


@pytest.fixture
def store(tmp_path: Any) -> Iterator[MemStore]:
    with MemStore(tmp_path / "store", settings=SEARCHING, durability="os", clock=ManualClock(T0_US)) as opened:
        yield opened


def after(monkeypatch: pytest.MonkeyPatch, kind: type, name: str, step: Callable[[], None]) -> None:
    """Call ``step`` behind every call of a method."""
    method = getattr(kind, name)

    def wrapped(*arguments: Any, **named: Any) -> Any:
        try:
            return method(*arguments, **named)
        finally:
            step()

    monkeypatch.setattr(kind, name, wrapped)


class Watched:
    """A store that is written to, forgets and is asked by another opening at every step of its indexer."""

    def __init__(self, store: MemStore, seed: int) -> None:
        self.store = store
        self.chance = random.Random(seed)
        self.other = reopened(store)
        self.expected: dict[str, str] = {}
        self.forgotten: list[str] = []
        self.changes = 40
        self.steps = 0
        self.within = False

    def append(self) -> None:
        records = [
            {
                "agent_id": self.chance.choice(AGENTS),
                "content": "word",
                "timestamp_utc": iso_text(T0_US - self.chance.randrange(70) * US_PER_DAY),
            }
            for _ in range(self.chance.randrange(1, 4))
        ]
        for memory_id in self.store.append_many(records):
            self.expected[memory_id] = memory_id.split("_")[0]

    def change(self) -> None:
        kind = self.chance.randrange(8)
        if kind < 4 or not self.expected:
            self.append()
        elif kind < 6:
            memory_id = self.chance.choice(sorted(self.expected))
            assert self.store.forget([memory_id]).hidden == [memory_id]
            self.expected.pop(memory_id)
            self.forgotten.append(memory_id)
        elif kind == 6 and self.forgotten:
            memory_id = self.forgotten.pop()
            if self.store.undelete(ids=[memory_id]).records:
                self.expected[memory_id] = memory_id.split("_")[0]
        else:
            self.store.drain()

    def look(self, told: str) -> None:
        found = self.other.search("word", facets=["agent"], limit=1000)
        facets = {each.value: each.count for each in found.facets["agent"]}
        assert found.total == len(self.expected), told
        assert facets == Counter(self.expected.values()), told
        assert sorted(record.memory_id for record in found.records) == sorted(self.expected), told

    def step(self) -> None:
        if self.within:
            return
        self.within = True
        try:
            self.steps += 1
            if self.changes and self.chance.random() < 0.6:
                self.changes -= 1
                self.change()
            self.look(f"step {self.steps}")
        finally:
            self.within = False


@pytest.mark.parametrize("seed", range(1, SEEDS + 1))
def test_search_is_exact_at_every_step_of_an_indexer(
    store: MemStore, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    watched = Watched(store, seed)
    for _ in range(5):
        watched.append()
    after(monkeypatch, Consumers, "update", watched.step)
    after(monkeypatch, PartitionWriter, "commit", watched.step)
    after(monkeypatch, PartitionWriter, "close", watched.step)
    for _ in range(3):
        store.index()
        watched.within = True
        for _ in range(4):
            watched.change()
            watched.look("between runs")
        watched.within = False
    watched.changes = 0
    store.index(rebuild=["202501"])
    watched.within = True
    store.index()
    watched.look("in the end")
    assert store.index_status()["records"] == len(watched.expected)
    assert not store.index_status()["in_doubt"]
    watched.other.close()


def test_what_is_too_much_for_the_tail_is_scanned_in_portions_by_who_may_not_index(
    store: MemStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reader has a bound for what it holds, however far behind the index is."""
    store.append_many([{"agent_id": "a", "content": "word"} for _ in range(10)])
    store.index()
    ids = [store.append(agent_id="b", content=f"word {number}", memory_type="PLAN") for number in range(50)]
    store.forget(ids[7])
    monkeypatch.setattr("memstore.search.sources.TAIL_BYTES_MAX", 1000)
    monkeypatch.setattr("memstore.search.chunks.CHUNK_RECORDS", 7)
    with MemStore(store.root, read_only=True, settings=SEARCHING) as reader:
        for merged in (False, True):
            found = reader.search("word", limit=100, facets="type")
            assert (found.total, len(found)) == (59, 59)
            assert {each.value: each.count for each in found.facets["type"]} == {"INTERACTION": 10, "PLAN": 49}
            assert found.scanned.tail == 0
            assert "far behind" in " ".join(found.notes)
            if not merged:
                store.drain()


def test_a_month_that_is_built_anew_is_searched_in_its_old_partition_meanwhile(
    store: MemStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who asks for an index to be built anew does not make everybody scan until it is."""
    store.append_many([{"agent_id": "a", "content": "word"} for _ in range(30)])
    store.index()
    other, seen = reopened(store), []

    def look() -> None:
        store.append(agent_id="b", content="word")
        found = other.search("word")
        seen.append((found.total, found.scanned.stale, found.notes))

    after(monkeypatch, PartitionWriter, "commit", look)
    after(monkeypatch, PartitionWriter, "close", look)
    assert store.index(rebuild=True)["finished"]
    other.close()
    assert seen == [(31 + step, (), ()) for step in range(len(seen))]
    assert len(seen) >= 2


def test_forgetting_that_stands_between_its_two_lines_is_not_settled_before_it_is_done(
    store: MemStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The indexer runs between the line that puts a record in doubt and the one that hides it."""
    ids = [store.append(agent_id="a", content="word") for _ in range(3)]
    store.index()
    other = reopened(store)
    threads = []

    def index_meanwhile() -> None:
        thread = threading.Thread(target=other.index)
        thread.start()
        threads.append(thread)
        assert other.search("word").total == 3

    after(monkeypatch, Forgotten, "stir", index_meanwhile)
    store.forget(ids[:1])
    monkeypatch.undo()
    for thread in threads:
        thread.join()
    assert other.search("word").total == store.search("word").total == 2
    store.index()
    assert store.index_status()["records"] == 2
    other.close()


def test_forgetting_killed_between_its_two_lines_leaves_the_record_there(
    store: MemStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = [store.append(agent_id="a", content="word") for _ in range(3)]
    store.index()

    def die(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Committer, "hide", die)
    with pytest.raises(KeyboardInterrupt):
        store.forget(ids)
    monkeypatch.undo()
    assert store.search("word").total == 3
    store.index()
    assert not store.index_status()["in_doubt"]
    assert sorted(all_ids(store, "word")) == sorted(ids)


@pytest.mark.parametrize("whole", [True, False], ids=["agent", "records"])
def test_what_an_indexer_builds_while_records_are_erased_does_not_count(
    store: MemStore, monkeypatch: pytest.MonkeyPatch, whole: bool
) -> None:
    """It runs when the index has been dropped and the records are still there."""
    ids = [store.append(agent_id="a", content="quixotic") for _ in range(3)]
    store.append(agent_id="b", content="word")
    store.index()
    other = reopened(store)
    kind = AgentRemoval if whole else RecordRemoval
    method = kind.remove

    def index_first(*arguments: Any, **named: Any) -> Any:
        other.index()
        return method(*arguments, **named)

    monkeypatch.setattr(kind, "remove", index_first)
    monkeypatch.setattr("memstore.search.settling._MERGE_WAIT_S", 0.05)  # for the lock that the erasure holds
    store.erase(agent="a") if whole else store.erase(ids=ids)
    monkeypatch.undo()
    assert other.search("quixotic").total == 0
    assert other.search("", agent="a").total == 0
    other.index()
    assert other.search("quixotic OR word").total == 1
    for path in index_files(store.root):
        with open(path, "rb") as file:
            assert b"quixot" not in file.read(), path
    other.close()


def test_words_of_a_segment_that_was_never_committed_go_with_their_agent(store: MemStore) -> None:
    """A killed indexer leaves files that nothing names; whose words they hold, nobody can tell."""
    store.append(agent_id="a", content="word")
    store.append(agent_id="b", content="word")
    store.index()
    (directory,) = {os.path.dirname(path) for path in index_files(store.root)}
    orphan = os.path.join(directory, "0123456789abcdef0123456789abcdef.term")
    with open(orphan, "wb") as file:
        file.write(b"quixotic")
    store.append(agent_id="c", content="quixotic")
    store.erase(agent="c")
    assert not os.path.exists(orphan)
    assert store.search("word").total == 2


def test_lane_that_is_passed_and_gone_while_a_search_begins_is_not_read_again(
    store: MemStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = [store.append(agent_id="a", content="word") for _ in range(3)]
    store.index()
    other = reopened(store)
    feed = other._engine.feed
    lanes = feed.lanes

    def listed_then_gone() -> Any:
        found = lanes()
        monkeypatch.undo()
        store.drain()
        ids.append(store.append(agent_id="b", content="word"))
        store.index()
        ids.append(store.append(agent_id="b", content="word"))
        store.index()
        return found

    monkeypatch.setattr(feed, "lanes", listed_then_gone)
    assert sorted(all_ids(other, "word")) == sorted(ids)
    other.close()


def test_state_that_takes_the_inode_of_the_one_before_is_seen(store: MemStore) -> None:
    """A file system gives an inode out again as soon as it is free; the file is as long as the one before."""
    store.append(agent_id="a", content="word")
    store.index()
    other = reopened(store)
    for _ in range(30):
        store.append(agent_id="a", content="word")
        store.index()
        assert other.search("word").scanned.tail == 0
        assert other.search("word").total == store.search("word").total
    other.close()


def test_searching_threads_do_not_disturb_one_another(store: MemStore) -> None:
    """They share the tail, each with the watermark that it has read."""
    begun, done = [0], [0]
    stop = threading.Event()
    wrong: list[str] = []

    def ask() -> None:
        while not stop.is_set():
            least = done[0]
            total = store.search("word", facets=["agent"]).total
            if not least <= total <= begun[0]:
                wrong.append(f"{total} were found where {least} to {begun[0]} had been appended")

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    for number in range(60):
        begun[0] += 1
        store.append(agent_id=AGENTS[number % 3], content="word")
        done[0] += 1
        if number % 7 == 6:
            store.index()
        if number % 20 == 19:
            store.drain()
    stop.set()
    for thread in threads:
        thread.join()
    assert not wrong
    assert store.search("word").total == 60


def test_tail_made_for_a_later_watermark_is_made_anew_for_an_earlier_one(store: MemStore) -> None:
    sources = store._finder._opened()._sources
    store.append(agent_id="a", content="word")
    store.index()
    for _ in range(2):
        store.append(agent_id="a", content="word")
    early = sources.standings.now()
    store.index()
    store.append(agent_id="a", content="word")
    late = sources.standings.now()
    watermarks = [standing.content.lanes for standing in (late, early, late)]
    lanes = late.lanes
    assert [sources.tail.view(lanes, watermark).records for watermark in watermarks] == [1, 3, 1]


def test_what_this_process_begins_to_index_by_itself_is_waited_for(
    store: MemStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As it does behind a merge of its own, which may come at any moment."""
    store.append(agent_id="a", content="word")
    search = store._finder._opened()
    lock = search._engine.paths.lock(LOCK)
    begun, run = threading.Event(), search._indexer.run

    def index_slowly() -> None:
        with locked(search._engine.storage, lock):
            begun.set()
            threading.Event().wait(0.2)

    def run_behind_a_merge(**named: Any) -> Any:
        monkeypatch.setattr(search._indexer, "run", run)
        search.start_indexing()
        begun.wait(30)
        return run(**named)

    monkeypatch.setattr(search, "_index_quietly", index_slowly)
    monkeypatch.setattr(search._indexer, "run", run_behind_a_merge)
    assert store.index()["added"] == 1


def test_commit_that_was_indexed_and_then_cut_off_is_not_found(store: MemStore, tmp_path: Any) -> None:
    """Its sync failed; the index had read it before."""
    ids = [store.append(agent_id="a", content="word") for _ in range(3)]
    store.index()
    lanes = store._engine.feed.lanes()
    (lane,) = lanes
    end = lane.end
    ghost = store.append(agent_id="b", content="ghost word")
    store.forget(ids[:1])
    store.index()
    other = reopened(store, **{"search.background": False})
    assert other.search("ghost").total == 1
    os.truncate(lane.file.path, end)
    for asking in (store, other):
        assert asking.search("ghost").total == 0
        assert sorted(all_ids(asking, "word")) == sorted(ids[1:])
    other.index()
    for asking in (store, other):
        assert asking.search("ghost").total == 0
        assert sorted(all_ids(asking, "word")) == sorted(ids[1:])
    assert other.index_status()["records"] == 2
    assert ghost.startswith("b")
    state = other._engine.consumers.read(CONSUMER)
    assert state is not None
    assert state_of(state.content).stale == []
    other.close()
