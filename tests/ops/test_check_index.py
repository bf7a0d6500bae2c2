"""A check of the search index: it tells what a search would get wrong, and nothing while everything goes on."""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
from search_support import SEARCHING, index_files
from support import T0_US, flip

from memstore import MemStore
from memstore.clock import ManualClock
from memstore.search.document import Documents
from memstore.search.partition_writer import PartitionWriter
from memstore.timestamps import US_PER_DAY, iso_text


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(T0_US)


@pytest.fixture
def store(tmp_path: Any, clock: ManualClock) -> Iterator[MemStore]:
    """Three months, merged and indexed."""
    with MemStore(tmp_path / "store", settings=SEARCHING, durability="os", clock=clock) as store:
        fill(store, 60)
        store.drain()
        store.index()
        yield store


def fill(store: MemStore, count: int, first: int = 0) -> list[str]:
    return store.append_many(
        {"agent_id": f'a "{n % 3}"', "content": f"word {n}", "timestamp_utc": iso_text(T0_US - n * US_PER_DAY)}
        for n in range(first, first + count)
    )


def findings(store: MemStore, *, full: bool = True) -> list[tuple[str, str, int | None]]:
    found = [each for each in store.check(full=full).findings if each.kind == "search_index"]
    return [(each.severity, each.reason, each.records) for each in found]


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
def test_an_index_that_searches_can_rely_on_is_clean(
    store: MemStore, clock: ManualClock, change: Callable[[MemStore], object]
) -> None:
    change(store)
    assert findings(store) == []
    clock.advance(40 * US_PER_DAY / 1e6)
    store.maintain()
    assert findings(store) == []
    store.index()
    assert findings(store) == []
    assert findings(store, full=False) == []


def test_a_damaged_file_is_found_and_the_next_search_mends_it(store: MemStore) -> None:
    path = random.Random(1).choice([each for each in index_files(store.root) if each.endswith(".term")])
    flip(path, 100)
    assert findings(store, full=False) == []
    report = store.check(full=True)
    assert [(each.kind, each.severity) for each in report.findings] == [("search_index", "damage")]
    assert path in report.findings[0].reason
    assert "memstore index rebuild 20" in report.findings[0].repair
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
    ((severity, reason, _),) = findings(store, full=False)
    assert severity == "damage"
    assert reason.startswith("it is missing" if harm == "missing" else "it has 10 bytes and not ")


def test_a_record_that_the_index_lacks_is_found(store: MemStore, monkeypatch: pytest.MonkeyPatch) -> None:
    of = Documents.of

    def forgetful(self: Documents, lines: Any) -> Iterator[dict[str, Any]]:
        return (each for each in of(self, lines) if "word 63" not in each["text"])

    with monkeypatch.context() as patch:
        patch.setattr(Documents, "of", forgetful)
        ids = fill(store, 9, 60)
        store.drain()
        store.index()
    assert findings(store) == [("damage", "1 record(s) are not in it, and no search finds it", 1)]
    assert findings(store, full=False) == []
    store.index(rebuild=[ids[3].split("_")[-3][:6]])
    assert findings(store) == []


def test_records_that_the_index_should_not_have_are_found(store: MemStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PartitionWriter, "delete", lambda *_: None)
    store.forget([record.memory_id for record in store.agent('a "1"').recent(2)])
    store.index()
    told = [("damage", "2 record(s) are in it and not in the store, and every search counts them", 2)]
    assert findings(store) == told


def test_an_index_of_other_settings_is_a_note(store: MemStore) -> None:
    with MemStore(store.root, settings={**SEARCHING, "search.language": "german"}, read_only=True) as other:
        ((severity, reason, _),) = findings(other)
    assert severity == "note"
    assert "other settings" in reason


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
