"""A scrub finds what rots in any tier while nobody reads it, and reports nothing else."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from lifecycle_support import DAY_S, LIVELY, agent_files, iso
from support import T0_US, flip

from memstore import CorruptionError, MemStore, StorageError
from memstore.clock import ManualClock
from memstore.fs.local import LocalStorage
from memstore.fs.lock import try_lock_file
from memstore.lifecycle.scrub import Scrubber, ScrubReport
from memstore.testing.faulty import FaultyStorage


@pytest.fixture
def storage(monkeypatch: pytest.MonkeyPatch) -> FaultyStorage:
    made = FaultyStorage(LocalStorage())
    monkeypatch.setattr("memstore.store.LocalStorage", lambda: made)
    return made


@pytest.fixture
def store(tmp_path: Any, storage: FaultyStorage) -> Iterator[MemStore]:
    """Hot, warm, cold and trash, of two agents."""
    settings = {**LIVELY, "storage.retention.rules": [{"agent": "b", "keep_days": 70}]}
    clock = ManualClock(T0_US)
    with MemStore(tmp_path / "store", settings=settings, clock=clock, durability="os") as made:
        for first, last in ((-75, -70), (-20, -15), (-2, 0)):
            made.append_many(
                {"agent_id": agent, "content": f"{agent} {day} " + "w" * 2000, "timestamp_utc": iso(day)}
                for day in range(first, last)
                for agent in ("a", "b")
            )
        made.maintain()
        clock.advance(69 * DAY_S)
        made.append_many({"agent_id": agent, "content": "now"} for agent in ("a", "b"))
        made.maintain(trust_clock=True)
        clock.advance(2 * DAY_S)
        made.maintain(trust_clock=True)
        found = agent_files(made.root)
        assert all(found[kind] for kind in ("hot", "cold", "trash")), found
        yield made


def scrub(store: MemStore, *, stop: threading.Event | None = None) -> ScrubReport:
    return Scrubber(store._engine).scrub(stop or threading.Event())


def all_files(store: MemStore) -> list[str]:
    found = agent_files(store.root)
    return [path for kind in ("hot", "warm", "cold", "trash") for path in found[kind]]


def test_a_sound_store_is_read_through_and_nothing_is_reported(store: MemStore) -> None:
    report = scrub(store)
    assert (report.damage, report.errors, report.finished) == (0, [], True)
    assert report.files == len(all_files(store))
    assert 0 < report.bytes <= sum(map(os.path.getsize, all_files(store)))
    assert store.stats()["counters"]["scrubbed_bytes"] == report.bytes


def test_a_flipped_bit_anywhere_in_any_file_is_found_with_its_place(store: MemStore) -> None:
    for path in all_files(store):
        size = os.path.getsize(path)
        for offset in {0, 50, size // 2, size - 3, size - 12}:
            flip(path, offset)
            report = scrub(store)
            assert report.damage == 1, (path, offset, report)
            (error,) = report.errors
            assert isinstance(error, CorruptionError)
            assert error.path == path
            assert error.offset_bytes <= offset < error.offset_bytes + error.length_bytes
            flip(path, offset)
    assert scrub(store).damage == 0


def test_a_cut_a_missing_and_an_unreadable_file_are_found_and_the_rest_is_read(
    store: MemStore, storage: FaultyStorage
) -> None:
    path = agent_files(store.root)["cold"][0]
    shutil.copy(path, path + ".aside")
    os.truncate(path, os.path.getsize(path) - 1)
    report = scrub(store)
    assert (report.damage, report.files) == (1, len(all_files(store)))
    os.unlink(path)
    report = scrub(store)
    assert (report.damage, report.files) == (1, len(all_files(store)))
    assert "missing" in str(report.errors[0])
    os.rename(path + ".aside", path)
    storage.fail("read", path=path)
    report = scrub(store)
    assert (report.damage, [type(error) for error in report.errors]) == (1, [StorageError])
    assert scrub(store).damage == 0


def test_a_damaged_manifest_is_reported(store: MemStore) -> None:
    path = agent_files(store.root)["manifest"][0]
    flip(path, 100)
    store._engine.manifests.clear()
    report = scrub(store)
    assert report.damage >= 1
    assert path in {error.path for error in report.errors if isinstance(error, CorruptionError)}


def test_files_that_are_moved_while_they_are_read_are_no_damage(store: MemStore, storage: FaultyStorage) -> None:
    moved: list[str] = []

    def move(kind: str, path: str) -> None:
        if kind == "open_read" and path.endswith(".jsonl") and not moved:
            moved.append(path)
            store._engine.clock.advance(60 * DAY_S)  # type: ignore[attr-defined]
            store.maintain(trust_clock=True)

    storage.before_call = move
    report = scrub(store)
    storage.before_call = None
    assert moved
    assert not os.path.exists(moved[0])
    assert (report.damage, report.errors) == (0, [])


def test_one_process_scrubs_and_a_stop_is_heard(store: MemStore, storage: FaultyStorage) -> None:
    lock = try_lock_file(storage, store._engine.paths.lock("scrub"))
    assert lock is not None
    assert scrub(store) == ScrubReport()
    lock.close()
    stop = threading.Event()
    stop.set()
    report = scrub(store, stop=stop)
    assert (report.files, report.finished) == (0, False)


def test_it_waits_once_it_has_read_more_than_it_may(
    tmp_path: Any, store: MemStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Waits(threading.Event):
        def __init__(self) -> None:
            super().__init__()
            self.seconds = 0.0

        def wait(self, timeout: float | None = None) -> bool:
            assert timeout is not None
            self.seconds += timeout
            clock.advance(timeout)
            return self.is_set()

    clock = store._engine.clock
    assert isinstance(clock, ManualClock)
    waits = Waits()
    made = Scrubber(store._engine)
    monkeypatch.setattr(made, "_bytes_per_s", 1000)
    report = made.scrub(waits)
    assert report.finished
    largest = max(map(os.path.getsize, all_files(store)))
    assert report.bytes / 1000 - largest / 1000 <= waits.seconds <= report.bytes / 1000
