"""A check of the search index: it tells what a search would get wrong, and nothing while everything goes on."""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

import msgspec
import pytest
import tantivy
from search_support import SEARCHING, index_files, reopened
from support import T0_US, flip

from memstore import MemStore, StorageError
from memstore.clock import ManualClock
from memstore.format.consumer_file import ConsumerFile
from memstore.search import audit
from memstore.search.audit import Audit
from memstore.search.document import Documents
from memstore.search.ledger import Ledger
from memstore.search.partition import Partition, has_merged
from memstore.search.partition_writer import PartitionWriter
from memstore.search.sources import Sources
from memstore.search.standing import Standings
from memstore.search.state import CONSUMER, IndexState, state_of, with_state
from memstore.search.writer_pool import WriterPool
from memstore.timestamps import US_PER_DAY, iso_text


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(T0_US)


@pytest.fixture
def store(tmp_path: Any, clock: ManualClock) -> Iterator[MemStore]:
    """Three months of three agents, merged and indexed."""
    with MemStore(tmp_path / "store", settings=SEARCHING, durability="os", clock=clock) as store:
        fill(store, 60)
        store.drain()
        store.index()
        yield store


def fill(store: MemStore, count: int, first: int = 0) -> list[str]:
    """Records of one day after the other back in time."""
    return store.append_many(
        {"agent_id": f'a "{n % 3}"', "content": f"word {n}", "timestamp_utc": iso_text(T0_US - n * US_PER_DAY)}
        for n in range(first, first + count)
    )


def findings(store: MemStore, *, full: bool = True) -> list[tuple[str, str]]:
    report = store.check(full=full)
    return [(each.severity, each.reason) for each in report.findings if each.kind == "search_index"]


def months_with(store: MemStore, words: str) -> str:
    ((_, reason),) = findings(store)
    assert words in reason, reason
    return reason


def change_state(store: MemStore, change: Callable[[IndexState], IndexState]) -> None:
    def changed(content: ConsumerFile) -> ConsumerFile:
        return with_state(content, change(state_of(content)))

    store._engine.consumers.update(CONSUMER, changed)


def state_now(store: MemStore) -> IndexState:
    found = store._engine.consumers.read(CONSUMER)
    assert found is not None
    return state_of(found.content)


def months_merged(store: MemStore) -> list[str]:
    """Months that tantivy has merged without the state knowing."""
    engine = store._engine
    partitions = state_now(store).partitions.items()
    return [month for month, entry in partitions if has_merged(engine.storage, engine.paths.search, entry)]


# -- what is as it should be


def test_a_store_without_an_index_has_nothing_to_check(tmp_path: Any) -> None:
    with MemStore(tmp_path / "store", settings=SEARCHING) as store:
        fill(store, 5)
        assert store.check(full=True).is_clean


def test_an_index_counts_among_what_was_looked_at(store: MemStore) -> None:
    seen: list[tuple[int, int]] = []
    with_index = store.check(full=True, progress=lambda done, total: seen.append((done, total)))
    size = sum(map(os.path.getsize, index_files(store.root)))
    assert seen[-1][0] == seen[-1][1]
    assert 0.5 * size < seen[-1][1] <= size
    assert with_index.checked.bytes > seen[-1][1]


@pytest.mark.parametrize(
    "change",
    [
        lambda _: None,
        lambda store: fill(store, 9, 60),
        lambda store: (fill(store, 9, 60), store.drain()),
        lambda store: store.forget(fill(store, 40, 60)[::3]),
        lambda store: store.forget([r.memory_id for r in store.agent('a "1"').recent(7)]),
        lambda store: store.erase(agent='a "2"'),
        lambda store: store.index(rebuild=["202412"]),
        lambda store: (fill(store, 500, 60), store.drain(), store.index(), store.maintain(trust_clock=True)),
    ],
    ids=["all indexed", "in lanes", "merged", "new ones forgotten", "old ones forgotten", "erased", "rebuilt", "warm"],
)
@pytest.mark.parametrize("at_once", [7, 50_000])
def test_an_index_that_searches_can_rely_on_is_clean(
    store: MemStore,
    clock: ManualClock,
    monkeypatch: pytest.MonkeyPatch,
    change: Callable[[MemStore], object],
    at_once: int,
) -> None:
    monkeypatch.setattr(audit, "_AT_ONCE", at_once)
    monkeypatch.setattr(audit, "_PORTION", at_once)
    change(store)
    assert findings(store) == []
    clock.advance(40 * US_PER_DAY / 1e6)
    store.maintain()
    assert findings(store) == []
    store.index()
    assert findings(store) == []
    assert findings(store, full=False) == []


def test_a_month_that_waits_to_be_built_is_not_compared(store: MemStore, monkeypatch: pytest.MonkeyPatch) -> None:
    change_state(store, lambda state: msgspec.structs.replace(state, partitions={}, stale=sorted(state.partitions)))
    monkeypatch.setattr(Sources, "scanned", lambda *_: pytest.fail("it was read from the store twice"))
    assert findings(store) == []


def test_what_tantivy_merged_for_an_indexer_that_died_is_no_damage_and_is_noted_by_the_next(
    store: MemStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(WriterPool, "_close_writer", lambda pool, month: pool._writers.pop(month).close())
        number = 0
        while not months_merged(store):  # it does when there are eight segments
            fill(store, 1, number)
            store.index()
            number += 1
    assert findings(store) == findings(store, full=False) == []
    with reopened(store) as other:
        found = other.search("word")
        assert (found.total, found.notes) == (60 + number, ())
    assert store.index()["built"] == []
    assert months_merged(store) == []
    assert findings(store) == []


def test_a_commit_that_its_indexer_did_not_live_to_publish_is_no_damage(
    store: MemStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = [record.memory_id for record in store.agent('a "1"').recent(6)]
    store.forget(ids[:2])
    store.index()
    store.forget(ids[2:4])
    with monkeypatch.context() as patch:
        patch.setattr(WriterPool, "_close_writer", lambda pool, month: pool._writers.pop(month).close())
        patch.setattr(Ledger, "publish", refuse)
        with pytest.raises(StorageError):
            store.index()
    assert findings(store) == findings(store, full=False) == []


def refuse(*_: object, **__: object) -> None:
    raise StorageError("the disk refused (injected)")


# -- what is not


def test_a_damaged_file_is_found_and_a_search_has_it_built_anew(store: MemStore) -> None:
    path = random.Random(1).choice([each for each in index_files(store.root) if each.endswith(".term")])
    flip(path, 100)
    assert findings(store, full=False) == []
    (finding,) = store.check(full=True).findings
    assert (finding.kind, finding.severity, finding.path) == ("search_index", "damage", os.path.dirname(path))
    assert finding.reason == f"{os.path.basename(path)} is damaged"
    assert finding.records == 0  # they are all there
    assert "`memstore index rebuild 20" in finding.repair
    assert store.search("word").total == 60
    store.index()
    assert findings(store) == []


@pytest.mark.parametrize("harm", ["missing", "cut"])
def test_a_quick_check_finds_what_is_gone_or_cut(store: MemStore, harm: str) -> None:
    path = next(each for each in index_files(store.root) if each.endswith(".idx"))
    if harm == "missing":
        os.unlink(path)
    else:
        os.truncate(path, 10)
    name = os.path.basename(path)
    assert findings(store, full=False) == [("damage", f"{name} is {'missing' if harm == 'missing' else 'damaged'}")]


def test_a_list_of_segments_that_is_damaged_is_found(store: MemStore) -> None:
    path = next(each for each in index_files(store.root) if each.endswith("meta.json"))
    flip(path, 3)
    assert [severity for severity, _ in findings(store)] == ["damage"]


def test_a_record_that_the_index_lacks_is_found(store: MemStore, monkeypatch: pytest.MonkeyPatch) -> None:
    of = Documents.of

    def forgetful(self: Documents, lines: Iterable[bytes]) -> Iterator[dict[str, Any]]:
        return (each for each in of(self, lines) if "word 63" not in each["text"])

    with monkeypatch.context() as patch:
        patch.setattr(Documents, "of", forgetful)
        ids = fill(store, 9, 60)
        store.drain()
        store.index()
    told = [("damage", f"1 record(s) are not in it, and no search finds them, such as {ids[3]}")]
    assert findings(store) == told
    assert findings(store, full=False) == []
    monkeypatch.setattr(audit, "_AT_ONCE", 1)
    assert findings(store) == told
    store.index(rebuild=[ids[3].split("_")[-3][:6]])
    assert findings(store) == []


def test_a_month_that_the_index_has_lost_is_found(store: MemStore) -> None:
    lost = sorted(state_now(store).partitions)[-2]

    def lose(state: IndexState) -> IndexState:
        left = {month: entry for month, entry in state.partitions.items() if month != lost}
        return msgspec.structs.replace(state, partitions=left)

    change_state(store, lose)
    assert months_with(store, "record(s) are not in it").startswith("31 ")


def test_records_that_the_index_should_not_have_are_found(store: MemStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PartitionWriter, "delete", lambda *_: None)
    ids = [record.memory_id for record in store.agent('a "1"').recent(2)]
    store.forget(ids)
    store.index()
    what = "2 record(s) are in it and not in the store, and every search counts them"
    assert findings(store) == [("damage", f"{what}, such as {min(ids)}")]


def test_records_that_the_index_has_twice_are_found(store: MemStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PartitionWriter, "add_missing", PartitionWriter.add)
    fill(store, 9)
    store.index()

    def from_the_start(content: ConsumerFile) -> ConsumerFile:
        return msgspec.structs.replace(content, lanes=dict.fromkeys(content.lanes, 0))

    store._engine.consumers.update(CONSUMER, from_the_start)
    store.index()
    assert store.search("word").total > 69
    months_with(store, "9 record(s) are in it more than once, and every search counts them so")


# -- what cannot be told


def test_what_was_left_out_for_damage_is_told_and_what_is_missing_beside_it_found(
    store: MemStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    month = max(state_now(store).partitions)

    def lacking(state: IndexState) -> IndexState:
        entry = msgspec.structs.replace(state.partitions[month], lacks=2)
        return msgspec.structs.replace(state, partitions={**state.partitions, month: entry}, unlisted=1)

    change_state(store, lacking)
    notes = findings(store)
    assert [severity for severity, _ in notes] == ["note", "note"]
    assert "when it was begun" in notes[0][1]
    assert notes[1][1] == "2 damaged piece(s) of the store were left out when it was built"
    with monkeypatch.context() as patch:
        patch.setattr(Documents, "of", lambda *_: iter(()))
        fill(store, 3)
        store.index()
    assert [severity for severity, _ in findings(store)] == ["note", "note", "damage"]


def test_agents_of_which_something_is_damaged_are_not_compared_and_the_others_are(
    store: MemStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    (path,) = (
        os.path.join(directory, name)
        for directory, _, names in os.walk(store.root)
        for name in names
        if name.startswith("20250115") and name.endswith(".jsonl")
    )
    flip(path, 40)
    (note,) = findings(store)
    assert note == ("note", "records of 1 agent(s) were not compared, for the store is damaged there")
    monkeypatch.setattr(PartitionWriter, "delete", lambda *_: None)
    store.forget([store.agent('a "1"').recent(1)[0].memory_id])
    store.index()
    assert [severity for severity, _ in findings(store)] == ["damage", "note"]


def test_an_index_far_behind_is_not_compared(store: MemStore, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("audit", "sources"):
        monkeypatch.setattr(f"memstore.search.{module}.TAIL_BYTES_MAX", 1000)
    fill(store, 40, 60)
    assert months_with(store, "far behind").endswith("`memstore index update` first")


def test_what_the_disk_refuses_could_not_be_looked_at(store: MemStore, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("memstore.search.partition.file_checksum", refuse)
        assert {severity for severity, _ in findings(store)} == {"unread"}
    with monkeypatch.context() as patch:
        patch.setattr(tantivy.Index, "open", on_a_read_only_disk)
        told = findings(store)
        assert {severity for severity, _ in told} == {"unread"}
        assert "Read-only file system" in told[0][1]
        path = next(each for each in index_files(store.root) if each.endswith(".term"))
        flip(path, 100)
        assert [severity for severity, _ in findings(store)].count("damage") == 1


def on_a_read_only_disk(_: str) -> tantivy.Index:
    os_error = 'IoError(Os { code: 30, kind: ReadOnlyFilesystem, message: "Read-only file system" })'
    raise ValueError(f"Failed to acquire Lockfile: {os_error}. None")


def test_an_index_of_other_settings_is_a_note(store: MemStore) -> None:
    with MemStore(store.root, settings={**SEARCHING, "search.language": "german"}, read_only=True) as other:
        ((severity, reason),) = findings(other)
    assert severity == "note"
    assert "other settings" in reason


def test_a_state_that_nobody_can_read_is_told_of(store: MemStore) -> None:
    store._engine.consumers.update(CONSUMER, lambda content: msgspec.structs.replace(content, state={"partitions": 5}))
    ((severity, reason),) = findings(store)
    assert severity == "note"
    assert "another version wrote its state" in reason


def test_an_index_that_cannot_be_looked_at_leaves_the_rest_of_the_report(
    store: MemStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Standings, "now", refuse)
    report = store.check(full=True)
    assert report.checked.records == 60
    assert [(each.kind, each.severity) for each in report.findings] == [("search_index", "unread")]


# -- while everything goes on


def between(monkeypatch: pytest.MonkeyPatch, what: Callable[[int], object]) -> None:
    """Do something, told how often it was done, whenever the index was asked and the store is about to be."""
    stored = Audit._stored
    count = iter(range(10_000))

    def late(self: Audit, *arguments: Any) -> Iterator[Any]:
        what(next(count))
        return stored(self, *arguments)

    monkeypatch.setattr(Audit, "_stored", late)


def test_agents_that_appear_meanwhile_are_no_surplus(store: MemStore, monkeypatch: pytest.MonkeyPatch) -> None:
    between(
        monkeypatch,
        lambda number: store.append(agent_id=f"new {number}", content="word", timestamp=iso_text(T0_US)),
    )
    assert findings(store) == []
    assert len(store.agents()) > 5


def test_records_that_go_meanwhile_are_no_surplus(store: MemStore, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = iter([record.memory_id for record in store.agent('a "0"').range()])
    between(monkeypatch, lambda _: store.forget([next(ids)]))
    assert findings(store) == []


def test_an_index_that_is_replaced_while_it_is_looked_at_is_looked_at_again(
    store: MemStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = Partition.open
    done = []

    def late(*arguments: Any, **named: Any) -> Partition:
        if not done:
            done.append(store.index(rebuild=True))
        return opened(*arguments, **named)

    monkeypatch.setattr(Partition, "open", late)
    assert findings(store) == []
    assert done


def test_an_index_that_changes_all_the_time_could_not_be_looked_at(
    store: MemStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Standings, "has_changed", lambda *_: True)
    path = next(each for each in index_files(store.root) if each.endswith(".term"))
    flip(path, 100)
    assert ("unread", "it was changed again and again while it was looked at") in findings(store)


def test_nothing_is_found_while_writers_forget_merge_and_index(store: MemStore) -> None:
    stop = threading.Event()
    failed: list[BaseException] = []

    def work() -> None:
        chance = random.Random(2)
        try:
            with MemStore(store.root, settings=SEARCHING, durability="os", clock=store._engine.clock) as other:
                number = 100
                while not stop.is_set():
                    ids = fill(other, chance.randrange(1, 30), number % 80)
                    number += 31
                    forget, rebuild = partial(other.forget, ids[:3]), partial(other.index, rebuild=True)
                    chance.choice([other.drain, other.index, forget, rebuild])()
        except BaseException as error:  # noqa: BLE001 - told below
            failed.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        for _ in range(12):
            assert findings(store) == []
    finally:
        stop.set()
        thread.join()
    assert not failed
