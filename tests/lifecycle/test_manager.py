"""Plan says what maintain does; maintain does it once, within its limits, and says what it does not do and why."""

from __future__ import annotations

import dataclasses
import os
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from lifecycle_support import (
    DAY_S,
    LIVELY,
    agent_files,
    assert_holds,
    assert_no_orphans,
    at,
    failures,
    iso,
    real,
    remember,
    tiers,
)
from support import T0_US, flip

from memstore import CorruptionError, MemStore, ReadOnlyError, StoreClosedError, UsageError
from memstore.clock import ManualClock
from memstore.fs.local import LocalStorage
from memstore.lifecycle.action import Withheld
from memstore.testing.faulty import FaultyStorage

AGENTS = ("a", "b", "c")
EXPIRING = {"retention.rules": [{"agent": "a", "keep_days": 10}]}


def records(first: int, last: int, *, agents: tuple[str, ...] = AGENTS) -> list[dict[str, Any]]:
    return [
        {"agent_id": agent, "content": f"{agent} {day} " + "w" * 400, "timestamp_utc": iso(day + hour / 24)}
        for day in range(first, last)
        for agent in agents
        for hour in (2, 9)
    ]


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


def test_the_plan_is_what_maintain_does_and_changes_nothing_itself(open_store: Callable[..., MemStore]) -> None:
    store = open_store()
    expected = remember(store, records(-80, -1))
    store.drain()
    before = agent_files(store.root)
    plan = store.plan()
    assert plan == store.plan()
    assert agent_files(store.root) == before
    report = store.maintain()
    done = [result.action for result in report.done]
    assert set(plan) <= set(done)
    assert report.as_dict()["finished"] is True
    assert real(store.plan()) == []
    assert_holds(store, expected)
    again = store.maintain()
    assert (again.done, again.skipped, again.failed) == ([], [], [])
    assert all(result.bytes_after < result.bytes_before for result in report.done)


def test_a_plan_for_the_past_is_refused_and_one_for_later_says_what_will_be(
    open_store: Callable[..., MemStore], clock: ManualClock
) -> None:
    store = open_store()
    expected = remember(store, records(-3, 0))
    store.drain()
    for past in ("2025-01-14", at(-1), "2d"):
        with pytest.raises(UsageError, match="has passed"):
            store.plan(past)
        with pytest.raises(UsageError, match="has passed"):
            store.maintain(past)
    assert real(store.plan()) == []
    assert {action.kind for action in store.plan(iso(20))} == {"pack"}
    assert {action.tier for action in store.plan(iso(60))} == {"cold"}
    store.maintain(iso(20))
    assert set(tiers(store)) == {"warm"}
    assert_holds(store, expected)


def test_nothing_is_removed_for_a_moment_ahead_of_the_clock_unless_somebody_vouches_for_it(
    open_store: Callable[..., MemStore],
) -> None:
    store = open_store(**EXPIRING)
    expected = remember(store, records(-3, 0))
    report = store.maintain(iso(40))
    assert any("ahead of the clock" in why for _, why in report.skipped)
    assert {result.action.kind for result in report.done} == {"pack"}
    assert_holds(store, expected)
    report = store.maintain(iso(40), trust_clock=True)
    assert {result.action.kind for result in report.done} == {"expire"}
    assert_holds(store, {**expected, "a": {}})


def test_a_clock_that_jumped_is_not_trusted_until_a_day_went_by_or_somebody_vouches_for_it(
    open_store: Callable[..., MemStore], clock: ManualClock
) -> None:
    store, other = open_store(**EXPIRING), open_store(**EXPIRING)
    expected = remember(store, records(-3, 0))
    store.maintain()
    clock.step(200 * DAY_S)
    for opening in (store, other):
        report = opening.maintain()
        assert any("clock is not trusted" in why for _, why in report.skipped)
        assert all(result.action.kind != "expire" for result in report.done)
    assert_holds(store, expected)
    clock.advance(DAY_S + 60)
    assert any(isinstance(action, Withheld) for action in store.plan()) is False
    other.maintain()
    assert_holds(store, {**expected, "a": {}})


def test_a_merge_by_a_clock_that_was_set_back_does_not_shorten_a_period(
    open_store: Callable[..., MemStore], clock: ManualClock
) -> None:
    store = open_store(**EXPIRING)
    expected = remember(store, records(-50, -45))
    clock.step(-30 * DAY_S)
    assert store.drain().pending == []
    clock.step(30 * DAY_S)
    for days in (1, 8, 2):
        assert_holds(store, expected, told="ten days have not passed since they came")
        clock.advance(days * DAY_S)
        store.maintain(trust_clock=True)
    assert_holds(store, {**expected, "a": {}})


def test_a_time_limit_ends_a_run_between_actions_and_the_next_goes_on(
    open_store: Callable[..., MemStore], clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store()
    expected = remember(store, records(-60, -8))
    seconds = iter(range(100_000))
    monkeypatch.setattr(clock, "monotonic_s", lambda: float(next(seconds)))
    runs = []
    for _ in range(100):
        report = store.maintain(time_limit_s=6)
        runs.append(len(report.done))
        assert_holds(store, expected)
        if report.finished:
            break
    assert report.finished
    assert len(runs) > 2
    assert max(runs[:-1]) < sum(runs)
    assert real(store.plan()) == []
    assert_no_orphans(store)


def test_newest_days_go_first(open_store: Callable[..., MemStore]) -> None:
    store = open_store()
    remember(store, records(-300, -8))
    report = store.maintain()
    months = [result.action.month for result in report.done]
    assert months == sorted(months, reverse=True)


def test_progress_is_told(open_store: Callable[..., MemStore]) -> None:
    store = open_store()
    remember(store, records(-60, -8))
    told: list[tuple[int, int]] = []
    report = store.maintain(progress=lambda done, of: told.append((done, of)))
    assert told[: len(report.done)][-1][0] <= told[0][1]
    assert [done for done, _ in told][:2] == [1, 2]


def test_one_of_several_maintains_and_the_others_go_away(
    open_store: Callable[..., MemStore], storage: FaultyStorage
) -> None:
    stores = [open_store() for _ in range(4)]
    expected = remember(stores[0], records(-60, -8))
    reports: list[Any] = []
    begun = threading.Event()
    others_done = threading.Event()

    def hold_on(kind: str, path: str) -> None:
        if kind == "create" and "/memory/" in path and not begun.is_set():
            begun.set()
            assert others_done.wait(60)

    storage.before_call = hold_on
    first = threading.Thread(target=lambda: reports.append(stores[0].maintain()))
    first.start()
    assert begun.wait(60)
    for store in stores[1:]:
        report = store.maintain()
        assert (report.done, report.finished) == ([], False)
        assert "another process is maintaining" in report.skipped[0][1]
        assert_holds(store, expected)
        assert store.plan()
    others_done.set()
    first.join()
    assert failures(reports[0]) == []
    for store in stores:
        assert real(store.plan()) == []
        assert_holds(store, expected)


def test_without_room_a_move_is_skipped_says_so_and_leaves_the_reserve(
    open_store: Callable[..., MemStore], storage: FaultyStorage
) -> None:
    reserve = 50_000_000
    store = open_store(**{"lifecycle.reserve_bytes": reserve})
    expected = remember(store, records(-60, -8))
    store.drain()
    storage.answers["free_bytes"] = reserve + 10_000
    report = store.maintain()
    assert report.done == []
    assert failures(report) == []
    assert all(f"a reserve of {reserve}" in why for _, why in report.skipped)
    assert tiers(store).keys() == {"hot"}
    storage.answers["free_bytes"] = reserve + 100_000
    assert failures(store.maintain()) == []
    assert tiers(store).keys() == {"warm", "cold"}
    assert_holds(store, expected)


def test_short_of_room_what_frees_most_comes_first_and_the_ballast_is_given_up(
    open_store: Callable[..., MemStore], storage: FaultyStorage
) -> None:
    store = open_store(**{"ballast_bytes": 1 << 20, "lifecycle.reserve_bytes": 0})
    expected = remember(store, records(-60, -55, agents=("small",)) + records(-60, -20, agents=("large",)))
    store.drain()
    ballast = os.path.join(store.root, "ballast")
    assert os.path.getsize(ballast) == 1 << 20
    storage.answers["free_bytes"] = 0

    def freed(kind: str, path: str) -> None:
        if kind == "unlink" and path == ballast:
            storage.answers["free_bytes"] = 1 << 20

    storage.before_call = freed
    report = store.maintain()
    storage.before_call = None
    assert not os.path.exists(ballast)
    assert [type(error).__name__ for _, error in report.failed] in ([], ["StorageFullError"])
    frees = [result.action.frees_bytes for result in report.done]
    assert frees[0] == max(frees)
    assert_holds(store, expected)


def test_the_ballast_stays_where_the_archive_that_is_full_lies_on_another_volume(
    open_store: Callable[..., MemStore], storage: FaultyStorage, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    volume = tmp_path / "volume"
    volume.mkdir()
    store = open_store(**{"ballast_bytes": 1 << 20, "lifecycle.archive_volume": str(volume)})
    expected = remember(store, records(-90, -80) + records(-9, -8))
    identify, free_bytes = storage.identify, storage.free_bytes

    def elsewhere(path: str) -> Any:
        found = identify(path)
        return dataclasses.replace(found, device=found.device + 1) if found and path.startswith(str(volume)) else found

    monkeypatch.setattr(storage, "identify", elsewhere)
    monkeypatch.setattr(storage, "free_bytes", lambda path: 100 if path.startswith(str(volume)) else free_bytes(path))
    report = store.maintain()
    assert os.path.getsize(os.path.join(store.root, "ballast")) == 1 << 20
    skipped = [why for action, why in report.skipped if action.kind == "pack"]
    assert len(skipped) == len(AGENTS)
    assert all("100 are free" in why for why in skipped)
    assert tiers(store).keys() == {"hot", "warm"}
    assert_holds(store, expected)


def test_parts_are_looked_after_by_themselves(open_store: Callable[..., MemStore], clock: ManualClock) -> None:
    store = open_store(**EXPIRING)
    expected = remember(store, records(-3, 0))
    store.maintain()
    clock.advance(30 * DAY_S)
    report = store.maintain(parts=["tiers", "growth"])
    assert {result.action.kind for result in report.done} == {"pack"}
    assert_holds(store, expected)
    report = store.maintain(parts=["retention"])
    assert {result.action.kind for result in report.done} == {"expire"}
    assert_holds(store, {**expected, "a": {}})


def test_a_file_that_keeps_all_it_has_is_looked_through_once(
    open_store: Callable[..., MemStore], clock: ManualClock
) -> None:
    """Records that keep themselves longer than the rule says stand among those of the rule; its index cannot tell."""
    store = open_store(**EXPIRING)
    rows = records(-60, -55, agents=("a",))
    expected = remember(store, [{**row, "metadata": {"retention_days": 100}} for row in rows])
    store.maintain()
    clock.advance(12 * DAY_S)
    done = []
    for _ in range(30):
        clock.advance(DAY_S)
        report = store.maintain()
        assert failures(report) == []
        done += [result.action for result in report.done if result.action.kind == "expire"]
        assert real(store.plan()) == []
    assert len(done) <= 2, done
    assert_holds(store, expected)
    clock.advance(60 * DAY_S)
    store.maintain()
    assert_holds(store, {"a": {}})


@pytest.mark.parametrize("first", ["hold", "rule"])
def test_a_file_that_was_looked_through_is_looked_at_again_when_rules_or_holds_change(
    open_store: Callable[..., MemStore], clock: ManualClock, first: str
) -> None:
    store = open_store(**EXPIRING)
    rows = records(-60, -55, agents=("a",))
    own = [{**row, "metadata": {"retention_days": 100}} if number % 2 else row for number, row in enumerate(rows)]
    expected = remember(store, own)
    short = {i: line for i, line in expected["a"].items() if b"retention_days" not in line}
    if first == "hold":
        store.add_hold("these", ids=list(short))
    keeper = store if first == "hold" else open_store(**{"retention.rules": [{"agent": "a", "keep_days": 90}]})
    keeper.maintain()
    clock.advance(20 * DAY_S)
    keeper.maintain()
    keeper.maintain()
    assert_holds(store, expected)
    if first == "hold":
        store.remove_hold("these")
    store.maintain()
    assert_holds(store, {"a": {i: line for i, line in expected["a"].items() if i not in short}})


def test_a_damaged_holds_file_stops_maintenance_and_says_why(open_store: Callable[..., MemStore]) -> None:
    store = open_store()
    expected = remember(store, records(-20, -8))
    store.add_hold("case", agent="a")
    path = os.path.join(store.root, "HOLDS.json")
    flip(path, 30)
    with pytest.raises(CorruptionError, match=r"HOLDS\.json"):
        store.plan()
    with pytest.raises(CorruptionError, match=r"HOLDS\.json"):
        store.maintain()
    with pytest.raises(CorruptionError, match=r"HOLDS\.json"):
        store.forget(min(expected["a"]))
    assert_holds(store, expected)
    flip(path, 30)
    assert failures(store.maintain()) == []
    assert_holds(store, expected)


def test_a_store_that_is_read_only_or_closed_refuses(open_store: Callable[..., MemStore]) -> None:
    store = open_store()
    remember(store, records(-20, -8))
    watcher = open_store(read_only=True)
    assert real(watcher.plan()) == []
    store.drain()
    assert real(watcher.plan()) == real(store.plan()) != []
    for call in (watcher.maintain, lambda: watcher.forget([]), lambda: watcher.undelete(agent="a")):
        with pytest.raises(ReadOnlyError):
            call()
    store.close()
    for call in (store.maintain, store.plan, store.tiers, store.holds):
        with pytest.raises(StoreClosedError):
            call()


def test_what_was_read_lately_stays_a_tier_up(open_store: Callable[..., MemStore], clock: ManualClock) -> None:
    store = open_store(**{"lifecycle.keep_read_days": 3})
    expected = remember(store, records(-20, -8))
    store.drain()
    list(store.agent("a").range())
    assert len(list(store.agent("b").lines())) == 24  # an export is no use
    store.maintain()
    by_agent = {each["agent"]: each for each in store.tiers()["agents"]}
    assert by_agent["a"]["hot_bytes"] > 0
    assert by_agent["b"]["hot_bytes"] == by_agent["c"]["hot_bytes"] == 0
    clock.advance(4 * DAY_S)
    store.maintain()
    assert "hot" not in tiers(store)
    assert_holds(store, expected)
