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
from memstore.format.scrub_file import ScrubFile
from memstore.fs.local import LocalStorage
from memstore.fs.lock import try_lock_file
from memstore.lifecycle.scrub_report import ScrubReport
from memstore.ops import scrub as scrub_module
from memstore.ops.scrub import Scrub, read_scrub_file
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
    return Scrub(store._engine).run(stop or threading.Event())


def all_files(store: MemStore) -> list[str]:
    found = agent_files(store.root)
    return [path for kind in ("hot", "warm", "cold", "trash") for path in found[kind]]


def test_a_sound_store_is_read_through_and_nothing_is_reported(store: MemStore) -> None:
    report = scrub(store)
    assert (report.damage, report.errors, report.finished) == (0, [], True)
    assert report.files == len(all_files(store))
    assert sum(map(os.path.getsize, all_files(store))) <= report.bytes
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
            assert report.files == len(all_files(store))
            flip(path, offset)
    assert scrub(store).damage == 0


def test_a_cut_a_missing_and_an_unreadable_file_are_found_and_the_rest_is_read(
    store: MemStore, storage: FaultyStorage
) -> None:
    path = agent_files(store.root)["cold"][0]
    shutil.copy(path, path + ".aside")
    os.truncate(path, os.path.getsize(path) - 1)
    report = scrub(store)
    assert {error.path for error in report.errors if isinstance(error, CorruptionError)} == {path}
    assert report.files == len(all_files(store))
    os.unlink(path)
    report = scrub(store)
    assert (report.damage, report.files) == (1, len(all_files(store)) + 1)
    assert "missing" in str(report.errors[0])
    os.rename(path + ".aside", path)
    storage.fail("read", path=path)
    assert scrub(store).damage == 1
    storage.fail("open_read", path=path)
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


class Waits(threading.Event):
    """Time passes when somebody waits; set after so many waits."""

    def __init__(self, clock: ManualClock, *, stop_after: int = 1 << 30) -> None:
        super().__init__()
        self._clock = clock
        self._stop_after = stop_after
        self.seconds = 0.0

    def wait(self, timeout: float | None = None) -> bool:
        assert timeout is not None
        self.seconds += timeout
        self._clock.advance(timeout)
        self._stop_after -= 1
        if self._stop_after < 0:
            self.set()
        return self.is_set()


def clock_of(store: MemStore) -> ManualClock:
    clock = store._engine.clock
    assert isinstance(clock, ManualClock)
    return clock


def paced(store: MemStore, waits: Waits, bytes_per_s: int = 1000) -> ScrubReport:
    made = Scrub(store._engine)
    made._bytes_per_s = bytes_per_s
    return made.run(waits)


def test_it_reads_no_more_than_so_many_bytes_a_second(store: MemStore) -> None:
    waits = Waits(clock_of(store))
    report = paced(store, waits)
    assert report.finished
    largest = max(map(os.path.getsize, all_files(store)))
    assert report.bytes / 1000 - largest / 1000 - 1 <= waits.seconds <= report.bytes / 1000


def test_a_scrub_that_is_stopped_goes_on_where_it_was_and_reads_each_file_once(
    store: MemStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scrub_module, "NOTE_EVERY_S", 0.0)
    whole = scrub(store)
    runs: list[ScrubReport] = []
    while not (runs and runs[-1].finished):
        runs.append(paced(store, Waits(clock_of(store), stop_after=7 if runs else 12)))
        state = read_scrub_file(store._engine.storage, store._engine.paths)
        assert (state.current is None) == runs[-1].finished
    assert len(runs) > 2
    assert sum(run.files for run in runs) == whole.files
    last = read_scrub_file(store._engine.storage, store._engine.paths).last
    assert last is not None
    assert (last.files, last.damaged) == (whole.files, 0)
    assert last.bytes >= whole.bytes
    assert last.ended > last.begun


def test_damage_is_told_once_in_a_pass_however_often_it_is_stopped(store: MemStore) -> None:
    damaged = agent_files(store.root)["cold"][0]
    flip(damaged, 30)
    found: list[str] = []
    finished = False
    while not finished:
        report = paced(store, Waits(clock_of(store), stop_after=9))
        found += [error.path for error in report.errors if isinstance(error, CorruptionError)]
        finished = report.finished
    assert found == [damaged]
    figures = store.stats()["scrub"]
    assert figures["current"] is None
    assert figures["last"]["damaged"] == 1
    assert figures["last"]["findings"][0]["path"] == damaged
    assert store.stats()["counters"]["scrub_damage"] == 1


@pytest.mark.parametrize("left", ["nothing", "garbage"])
def test_a_place_that_is_lost_costs_a_pass_and_no_more(store: MemStore, left: str) -> None:
    assert not paced(store, Waits(clock_of(store), stop_after=9)).finished
    path = store._engine.paths.scrub
    if left == "nothing":
        os.unlink(path)
    else:
        with open(path, "wb") as file:
            file.write(b"garbage")
    report = scrub(store)
    assert report.finished
    assert report.files == len(all_files(store))


def test_lanes_and_small_files_are_read_too(store: MemStore) -> None:
    store.append(agent_id="a", content="waits to be merged")
    flip(store._engine.paths.store_file, 60)
    report = scrub(store)
    assert [error.path for error in report.errors if isinstance(error, CorruptionError)] == [
        store._engine.paths.store_file
    ]
    flip(store._engine.paths.store_file, 60)
    assert read_scrub_file(store._engine.storage, store._engine.paths) != ScrubFile()


# -- the second copy


@pytest.fixture
def copied(store: MemStore, tmp_path: Any) -> str:
    """Where the second copy of the store is, which has all of it."""
    (tmp_path / "volume").mkdir()
    return str(store.add_replica(tmp_path / "volume")["path"])


def test_what_rots_in_the_second_copy_is_found_and_told_as_of_one(store: MemStore, copied: str) -> None:
    report = scrub(store)
    assert (report.damage, report.errors, report.finished) == (0, [], True)
    found = agent_files(copied)
    assert report.files == 2 * len(all_files(store))
    for kind in ("hot", "cold"):
        (path, *_) = found[kind]
        flip(path, os.path.getsize(path) // 2)
        report = scrub(store)
        assert report.damage == 1, (path, report)
        (error,) = report.errors
        assert isinstance(error, CorruptionError)
        assert error.path == path
        last = read_scrub_file(store._engine.storage, store._engine.paths).last
        assert last is not None
        assert "repair --copy" in last.findings[0]["repair"]
        flip(path, os.path.getsize(path) // 2)


def test_a_scrub_that_is_stopped_in_the_copy_goes_on_there(store: MemStore, copied: str) -> None:
    whole = scrub(store).bytes
    path = agent_files(copied)["cold"][-1]
    flip(path, os.path.getsize(path) // 2)

    class Soon(threading.Event):
        """Set as soon as so much has been read."""

        def wait(self, timeout: float | None = None) -> bool:
            assert timeout is not None
            return store.stats()["counters"]["scrubbed_bytes"] > whole * 1.75

    report = scrub(store, stop=Soon())
    assert not report.finished
    place = read_scrub_file(store._engine.storage, store._engine.paths)
    assert place.copy
    rest = scrub(store)
    assert rest.finished
    assert report.damage + rest.damage >= 1
    assert rest.bytes < whole / 2


def test_a_copy_that_is_away_is_passed_over(store: MemStore, copied: str, tmp_path: Any) -> None:
    os.rename(tmp_path / "volume", tmp_path / "away")
    report = scrub(store)
    assert (report.finished, report.damage) == (True, 0)
    assert report.files == len(all_files(store))
