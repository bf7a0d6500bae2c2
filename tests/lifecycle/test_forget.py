"""Forgetting hides at once and everywhere; undelete brings back what is still there; holds forbid both to remove."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from lifecycle_support import (
    DAY_S,
    HOUR_S,
    LIVELY,
    agent_files,
    assert_gone,
    assert_holds,
    assert_no_orphans,
    failures,
    iso,
    lines_in,
    lines_of,
    real,
    remember,
    tiers,
)
from support import T0_US

from memstore import HeldError, MemStore, NotFoundError, StorageError, UsageError
from memstore.clock import ManualClock
from memstore.fs.local import LocalStorage
from memstore.ids import derived_id
from memstore.testing.faulty import Fault, FaultyStorage, disk_full
from memstore.timestamps import parse_time


def records(first: int, last: int, *, agent: str = "a", **fields: Any) -> list[dict[str, Any]]:
    return [
        {"agent_id": agent, "content": f"{agent} {day} " + "w" * 150, "timestamp_utc": iso(day + hour / 24), **fields}
        for day in range(first, last)
        for hour in (2, 9)
    ]


def id_of(record: dict[str, Any]) -> str:
    return derived_id("a", record["source_id"], parse_time(record["timestamp_utc"], now_us=T0_US))


@pytest.fixture(autouse=True)
def _no_syncs(monkeypatch: pytest.MonkeyPatch) -> None:
    for sync in ("fsync", "fdatasync"):
        monkeypatch.setattr(f"os.{sync}", lambda _: None)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(T0_US)


@pytest.fixture
def storage(monkeypatch: pytest.MonkeyPatch) -> FaultyStorage:
    made = FaultyStorage(LocalStorage())
    monkeypatch.setattr("memstore.store.LocalStorage", lambda: made)
    return made


@pytest.fixture
def open_store(tmp_path: Any, clock: ManualClock) -> Iterator[Callable[..., MemStore]]:
    """Opens the store; all openings are closed at the end."""
    opened: list[MemStore] = []

    def open_one(**settings: Any) -> MemStore:
        read_only = settings.pop("read_only", False)
        given = {**LIVELY, **{f"storage.{key}": value for key, value in settings.items()}}
        opened.append(MemStore(tmp_path / "store", settings=given, clock=clock, read_only=read_only, durability="os"))
        return opened[-1]

    yield open_one
    for store in opened:
        store.close()


def test_forgotten_records_are_gone_at_once_in_every_tier_and_opening(
    open_store: Callable[..., MemStore], clock: ManualClock
) -> None:
    store, other, watcher = open_store(), open_store(), open_store(read_only=True)
    expected = remember(store, records(-70, -60) + records(-20, -15))
    store.maintain()
    for lines in (remember(store, records(-5, -3)), remember(other, records(0, 1))):
        expected["a"].update(lines["a"])
        store.drain()
    waiting = remember(other, records(-1, 0))
    expected["a"].update(waiting["a"])
    assert tiers(store).keys() == {"hot", "warm", "cold"}
    for opening in (store, other, watcher):
        assert_holds(opening, expected)  # every cache knows them
    ids = [*sorted(expected["a"])[::3], max(waiting["a"])]
    report = store.forget([*ids, ids[0], "a_20200101_000000_0000000000000000000000"])
    assert sorted(report.hidden) == sorted(set(ids))
    assert report.unknown == ["a_20200101_000000_0000000000000000000000"]
    for memory_id in set(ids):
        del expected["a"][memory_id]
    for opening in (store, other, watcher):
        assert_holds(opening, expected)
        assert_gone(opening, ids)
    assert store.forget(ids).unknown == list(dict.fromkeys(ids))
    for _ in range(3):
        store.maintain()
        for opening in (store, other, watcher):
            assert_holds(opening, expected)
            assert_gone(opening, ids)
        clock.advance(12 * DAY_S)
    assert_no_orphans(store)
    found = agent_files(store.root)
    there = [line for kind in ("hot", "warm", "cold") for path in found[kind] for line in lines_in(path)]
    assert sorted(there) == sorted(expected["a"].values())


def test_an_agent_forgets_its_own_records_only(open_store: Callable[..., MemStore]) -> None:
    store = open_store()
    expected = remember(store, records(-2, 0) + records(-2, 0, agent="b"))
    mine, foreign = min(expected["a"]), min(expected["b"])
    report = store.agent("a").forget([mine, foreign])
    assert (report.hidden, report.unknown) == ([mine], [foreign])
    del expected["a"][mine]
    assert_holds(store, expected)
    with pytest.raises(UsageError):
        store.forget(["nonsense"])


def test_undelete_brings_back_what_was_forgotten_byte_for_byte(open_store: Callable[..., MemStore]) -> None:
    store, other = open_store(), open_store()
    expected = remember(store, records(-20, -5))
    store.maintain()
    ids = sorted(expected["a"])[::4]
    store.forget(ids)
    report = other.undelete(ids=[ids[0], "a_20200101_000000_0000000000000000000000"])
    assert (report.records, report.unknown) == (1, ["a_20200101_000000_0000000000000000000000"])
    for memory_id in ids[1:]:
        assert_gone(other, [memory_id])
    assert store.get(ids[0]) is not None
    assert other.undelete(agent="a").records == len(ids) - 1
    for opening in (store, other):
        assert_holds(opening, expected)
    with pytest.raises(NotFoundError):
        store.undelete(agent="a")
    with pytest.raises(NotFoundError):
        store.undelete(agent="nobody")
    with pytest.raises(UsageError):
        store.undelete()


def test_what_was_rewritten_without_a_record_cannot_bring_it_back(open_store: Callable[..., MemStore]) -> None:
    store = open_store()
    expected = remember(store, records(-20, -9))
    store.maintain()
    gone = min(expected["a"])
    store.forget(gone)
    report = store.maintain()
    assert {result.action.kind for result in report.done} == {"drop_tombstones"}
    assert store.undelete(ids=gone).unknown == [gone]


def test_an_imported_record_that_was_forgotten_is_not_imported_again(
    open_store: Callable[..., MemStore], clock: ManualClock
) -> None:
    store = open_store()
    source = [{**record, "source_id": f"s{number}"} for number, record in enumerate(records(-20, -15))]
    expected = remember(store, source)
    gone = id_of(source[3])
    store.forget(gone)
    del expected["a"][gone]
    for days in (0, 1, 40):
        clock.advance(days * DAY_S)
        assert store.import_many(source).added == [False] * len(source)
        store.maintain()
        assert_holds(store, expected)


EXPIRING = {"retention.rules": [{"keep_days": 10}], "retention.grace_hours": 48}


def test_what_retention_took_comes_back_within_its_grace_and_stays(
    open_store: Callable[..., MemStore], clock: ManualClock
) -> None:
    store, watcher = open_store(**EXPIRING), open_store(read_only=True)
    expected = remember(store, records(-5, -2) + records(-5, -2, agent="b"))
    store.maintain()
    clock.advance(13 * DAY_S)
    store.maintain()
    assert tiers(store).keys() == {"trash"}
    for opening in (store, watcher):
        assert_holds(opening, {"a": {}, "b": {}})
        assert_gone(opening, expected["a"])
    clock.advance(47 * HOUR_S)
    store.maintain()
    one = min(expected["b"])
    report = store.undelete(agent="a")
    assert report.records == len(expected["a"])
    assert store.undelete(ids=[one]).records == 1
    back = {"a": expected["a"], "b": {one: expected["b"][one]}}
    for days in (0, 1, 3, 40):
        clock.advance(days * DAY_S)
        assert failures(store.maintain()) == []
        for opening in (store, watcher):
            assert_holds(opening, back, told=f"{days} days")
        assert real(store.plan()) == []
        assert_no_orphans(store)
    assert "trash" not in tiers(store)  # the others of b are gone for good
    with pytest.raises(NotFoundError):
        store.undelete(agent="b")
    for hold in store.holds():
        store.remove_hold(hold.name)
    store.maintain()
    assert_holds(store, {"a": {}, "b": {}})


def test_a_hold_keeps_retention_and_forgetting_away_until_it_is_removed(
    open_store: Callable[..., MemStore], clock: ManualClock
) -> None:
    store, other = open_store(**EXPIRING), open_store(**EXPIRING)
    expected = remember(store, records(-5, -2, memory_type="GOAL") + records(-5, -2))
    held = {i: line for i, line in expected["a"].items() if b'"GOAL"' in line}
    other.add_hold("case", agent="a", memory_type="GOAL")
    with pytest.raises(HeldError, match="case"):
        store.forget([min(held), min(expected["a"].keys() - held.keys())])
    assert_holds(store, expected)
    store.maintain()
    clock.advance(20 * DAY_S)
    report = store.maintain()
    assert any("case" in why for _, why in report.skipped)
    assert_holds(store, {"a": held})
    clock.advance(30 * DAY_S)
    store.maintain()
    assert_holds(store, {"a": held})
    assert real(store.plan()) == []
    other.remove_hold("case")
    store.maintain()
    assert_holds(store, {"a": {}})


@pytest.mark.parametrize("going", ["tombstones", "warm", "cold", "fold"])
def test_a_hold_that_comes_after_a_forget_keeps_the_record_on_disk(
    open_store: Callable[..., MemStore], clock: ManualClock, going: str
) -> None:
    """It stays hidden, and comes back by an undelete as long as the hold stands, whatever moves meanwhile."""
    store = open_store()
    expected = remember(store, records(-20, -9))
    if going in ("tombstones", "fold"):
        store.maintain()
    gone = sorted(expected["a"])[3:7]
    store.forget(gone)
    store.add_hold("late", agent="a", ids=gone[:2])
    if going == "fold":
        for memory_id, line in remember(store, records(-19, -12))["a"].items():
            expected["a"][memory_id] = line
        store.drain()
    clock.advance({"cold": 40, "fold": 2}.get(going, 0) * DAY_S)
    store.maintain()
    left = {i: line for i, line in expected["a"].items() if i not in gone}
    assert_holds(store, {"a": left})
    assert real(store.plan()) == []
    assert store.undelete(ids=gone).records == 2
    assert_holds(store, {"a": {**left, **{i: expected["a"][i] for i in gone[:2]}}})


def test_a_record_that_could_be_taken_for_a_repeat_comes_back_from_a_collapsed_file(
    open_store: Callable[..., MemStore], clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A later version may give records such a field; this one takes none that has it."""
    monkeypatch.setattr("memstore.lifecycle.collapse.looks_like_repeat", lambda line: b'"repeat_of"' in line)
    store = open_store(
        **{
            "lifecycle.deduplication_enabled": True,
            "retention.rules": [{"keep_days": 100}],
            "retention.grace_hours": 48,
        }
    )
    expected = remember(store, records(-66, -64) + records(-64, -63, content={"repeat_of": "w" * 150}))
    store.maintain()
    assert tiers(store).keys() == {"cold"}
    clock.advance(101 * DAY_S)
    store.maintain()
    assert tiers(store).keys() == {"trash"}
    ids = sorted(expected["a"])[-3:]
    assert store.undelete(ids=ids).records == 3
    assert_holds(store, {"a": {memory_id: expected["a"][memory_id] for memory_id in ids}})


def test_a_source_that_expired_and_comes_again_is_there_once_whatever_is_undeleted(
    open_store: Callable[..., MemStore], clock: ManualClock
) -> None:
    """Its old record lies in the trash, under the same id."""
    store = open_store(**EXPIRING)
    source = [{**record, "source_id": f"s{number}"} for number, record in enumerate(records(-5, -2))]
    remember(store, source)
    store.maintain()
    clock.advance(13 * DAY_S)
    store.maintain()
    assert store.import_many(source[:2]).added == [True, True]
    ids = [id_of(record) for record in source]
    again = {"a": lines_of(store, "a", ids[:2])}
    assert_holds(store, again)
    store.undelete(ids=ids[:3])
    store.undelete(agent="a")
    expected = {"a": lines_of(store, "a", ids)}
    assert_holds(store, expected)
    for days in (1, 3, 40):
        clock.advance(days * DAY_S)
        assert failures(store.maintain()) == []
        assert_holds(store, expected)


@pytest.mark.parametrize("times", [1, -1])
def test_forgetting_on_a_full_disk_says_so_and_works_when_there_is_room(
    open_store: Callable[..., MemStore], storage: FaultyStorage, times: int
) -> None:
    store, other = open_store(), open_store()
    expected = remember(store, records(-20, -9))
    store.maintain()
    assert_holds(other, expected)
    gone = min(expected["a"])
    storage.arm(Fault(frozenset({"write"}), path="*MANIFEST", times=times, error=disk_full, written_bytes=7))
    with pytest.raises(StorageError):
        store.forget(gone)
    for opening in (store, other):
        assert_holds(opening, expected)
    storage.disarm()
    assert store.forget(gone).hidden == [gone]
    del expected["a"][gone]
    for opening in (store, other):
        assert_holds(opening, expected)
        assert_gone(opening, [gone])
    assert os.path.exists(os.path.join(store.root, "FORGOTTEN"))


@pytest.mark.parametrize("passed", [0, 1])
def test_what_was_hidden_before_its_note_failed_is_hidden_from_caches_too(
    open_store: Callable[..., MemStore], storage: FaultyStorage, passed: int
) -> None:
    """Caches cannot be made stale, or the note behind the tombstone fails: the caller hears of it."""
    store, other = open_store(), open_store()
    expected = remember(store, records(-20, -9))
    store.maintain()
    assert_holds(other, expected)
    gone = min(expected["a"])
    assert all(opening.get(gone) is not None for opening in (store, other))
    storage.arm(Fault(frozenset({"write"}), path="*FORGOTTEN", after=passed, times=1, error=disk_full))
    with pytest.raises(StorageError):
        store.forget(gone)
    for opening in (store, other):
        there = gone in {record.memory_id for record in opening.agent("a").range()}
        assert (opening.get(gone) is not None) == there
