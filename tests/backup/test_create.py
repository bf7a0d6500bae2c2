"""A point holds what was acknowledged, exactly once, whatever goes on meanwhile; what has not changed is not copied."""

from __future__ import annotations

import os
import shutil
import threading
from pathlib import Path
from typing import Any

import pytest
from lifecycle_support import DAY_S, LIVELY, at, iso
from looking import in_one_piece, inodes, lines_at, names_in
from rich_store import SETTINGS
from support import QUIET, files_named, flip, lane_files, make_engine, put

from memstore import LockedError, MemStore, StorageError, StorageFullError, UsageError, VersionError
from memstore.backup.create import create_backup
from memstore.backup.listing import Lister
from memstore.clock import ManualClock, WallClock
from memstore.engine.engine import Engine
from memstore.format.checked import encode_checked
from memstore.format.names import StorePaths
from memstore.fs.local import LocalStorage
from memstore.fs.lock import locked
from memstore.ops.check import check_store
from memstore.testing.faulty import FaultyStorage


def test_a_point_is_a_plain_store_with_every_record_of_every_tier(rich_open, dest, lines):
    report = rich_open.backup(dest)
    assert lines_at(report.path) == in_one_piece(lines)
    assert report.records >= sum(map(len, lines.values()))
    assert not report.damage
    assert report.gap is None


def test_a_full_check_finds_nothing_in_a_point(rich_open, dest):
    report = rich_open.backup(dest)
    checked = check_store(LocalStorage(), StorePaths(report.path), clock=WallClock(), full=True)
    assert checked.is_clean, [finding.sentence for finding in checked.findings]


def test_an_unchanged_store_is_linked_and_not_copied(rich_open, dest):
    rich_open.drain()
    first = rich_open.backup(dest)
    second = rich_open.backup(dest)
    before, after = inodes(first.path), inodes(second.path)
    written_anew = {"BACKUP.json", "STORE.json", "HOLDS.json", "FORGOTTEN"}
    assert {path for path in after if before.get(path) != after[path]} == written_anew
    assert second.copied_bytes == 0
    assert lines_at(first.path) == lines_at(second.path)


def test_the_first_copy_shares_no_blocks_with_the_store(rich, rich_open, dest):
    report = rich_open.backup(dest)
    assert not set(inodes(report.path).values()) & set(inodes(rich).values())


def test_only_what_has_changed_is_copied(rich_open, dest, lines):
    rich_open.drain()
    rich_open.backup(dest)
    memory_id = rich_open.append(agent_id="a", content="fresh")
    rich_open.drain()
    report = rich_open.backup(dest)
    assert report.copied_files == 2  # the day file, and the lane that was kept for the archive
    assert memory_id in lines_at(report.path)["a"]
    lines["a"][memory_id] = lines_at(report.path)["a"][memory_id]
    assert lines_at(report.path) == in_one_piece(lines)


def test_a_point_stays_as_it_is_whatever_happens_to_the_store(rich_open, dest, lines):
    report = rich_open.backup(dest)
    rich_open.append(agent_id="a", content="later")
    rich_open.drain()
    rich_open._engine.clock.advance(40 * DAY_S)
    assert not rich_open.maintain().failed
    rich_open.erase(agent="b.B")
    assert lines_at(report.path) == in_one_piece(lines)
    second = rich_open.backup(dest)
    assert "b.B" not in lines_at(second.path)
    assert lines_at(report.path) == in_one_piece(lines)


def test_moves_to_another_shard_and_into_the_trash_need_no_copy(rich_open, dest):
    rich_open.drain()
    rich_open.backup(dest)
    home = os.path.basename(os.path.dirname(rich_open._engine.catalog.state.homes("a")[0]))
    rich_open.pin("a", "shard_000" if home == "shard_001" else "shard_001")
    report = rich_open.backup(dest)
    assert report.copied_files == 0
    assert report.records == sum(map(len, lines_at(report.path).values()))


def test_an_agent_that_a_stopped_move_left_at_two_places_is_in_a_point_once(rich_open, dest, lines):
    rich_open.drain()
    state = rich_open._engine.catalog.state
    home = state.homes("a")[0]
    elsewhere = next(path for path in state.shard_paths.values() if path != os.path.dirname(home))
    shutil.copytree(home, os.path.join(elsewhere, os.path.basename(home)))
    report = rich_open.backup(dest)
    assert report.agents == len(rich_open.agents())
    assert rich_open.verify_backup(dest).is_good
    assert lines_at(report.path) == in_one_piece(lines)


def test_shards_and_the_archive_on_other_volumes_lie_below_the_point(tmp_path, dest):
    volume, archive = tmp_path / "volume", tmp_path / "archive"
    volume.mkdir()
    archive.mkdir()
    settings = {**LIVELY, "storage.volumes": [str(volume)], "storage.lifecycle.archive_volume": str(archive)}
    clock = ManualClock(at(0))
    with MemStore(tmp_path / "store", settings=settings, clock=clock) as store:
        store.append_many(
            {"agent_id": agent, "content": "x" * 50, "timestamp_utc": iso(-day)} for agent in "ab" for day in range(90)
        )
        store.drain()
        clock.advance(10 * DAY_S)
        assert not store.maintain().failed
        report = store.backup(dest)
        expected = {agent: {r.memory_id for r in store.agent(agent).range()} for agent in "ab"}
    assert any(path.startswith("memory/archive/a/") for path in inodes(report.path))
    os.rename(volume, tmp_path / "gone")
    os.rename(archive, tmp_path / "gone-too")
    assert {agent: set(lines) for agent, lines in lines_at(report.path).items()} == expected


def test_while_writers_write_and_files_move_every_point_has_what_was_acknowledged_once_and_batches_whole(
    tmp_path, dest
):
    settings = {
        **LIVELY,
        "merging.background": True,
        "merging.age_s": 0,
        "writing.lane_bytes_max": 65536,
        "writing.commit_bytes_max": 65536,
    }
    clock = ManualClock(at(0))
    with MemStore(tmp_path / "store", settings=settings, clock=clock) as store:
        acknowledged: set[str] = set()
        stop = threading.Event()
        failures: list[BaseException] = []

        def write(number: int) -> None:
            batch = 0
            while not stop.is_set():
                batch += 1
                acknowledged.update(
                    store.append_many(
                        {
                            "agent_id": f"agent{each}",
                            "content": f"batch {number}.{batch}",
                            "timestamp_utc": iso(-(batch % 40)),
                        }
                        for each in range(4)
                    )
                )

        def move() -> None:
            while not stop.is_set():
                store.maintain()
                clock.advance(3600)

        def guarded(work: Any, *args: Any) -> None:
            try:
                work(*args)
            except BaseException as error:  # noqa: BLE001 - told by the main thread
                failures.append(error)

        threads = [threading.Thread(target=guarded, args=(write, n)) for n in range(2)]
        threads.append(threading.Thread(target=guarded, args=(move,)))
        for thread in threads:
            thread.start()
        try:
            points = []
            for _ in range(6):
                before = set(acknowledged)
                points.append((before, store.backup(dest)))
        finally:
            stop.set()
            for thread in threads:
                thread.join()
        assert not failures
        for before, report in points:
            assert not report.damage
            found = lines_at(report.path)
            ids = {memory_id for of_agent in found.values() for memory_id in of_agent}
            assert before <= ids
            batches: dict[str, int] = {}
            for of_agent in found.values():
                for line in of_agent.values():
                    batch = line.split(b'"content":"batch ')[1].split(b'"')[0].decode()
                    batches[batch] = batches.get(batch, 0) + 1
            assert set(batches.values()) <= {4}, "a batch is whole or not there"
            assert store.verify_backup(dest, report.name).is_good


def test_files_that_move_between_the_list_and_the_copy_are_listed_again(rich_open, dest, lines, monkeypatch):
    rich_open._engine.clock.advance(40 * DAY_S)
    took = Lister.take

    def take(self: Lister, staging: str) -> Any:
        listing = took(self, staging)
        moves.append(threading.Thread(target=rich_open.maintain))
        if len(moves) == 1:
            moved.append(listing)
        return listing

    moves: list[threading.Thread] = []
    moved: list[Any] = []
    monkeypatch.setattr(Lister, "take", take)
    brought = _bring_after(rich_open, monkeypatch, moves)
    report = rich_open.backup(dest)
    assert report.rounds == 2
    assert brought == [False, True]
    with MemStore(report.path, read_only=True, settings=SETTINGS) as point:
        for agent in point.agents():
            there = {record.memory_id for record in rich_open.agent(agent).range()}
            assert {record.memory_id for record in point.agent(agent).range()} == there


def _bring_after(store: MemStore, monkeypatch: Any, moves: list[threading.Thread]) -> list[bool]:
    """Let maintenance run to its end between the first listing and the first copy."""
    from memstore.backup.staging import Staging

    bring, brought = Staging.bring, []

    def slow(self: Any, listing: Any, **how: Any) -> bool:
        if len(moves) == 1 and not moves[0].is_alive():
            moves[0].start()
            moves[0].join()
        brought.append(bring(self, listing, **how))
        return brought[-1]

    monkeypatch.setattr(Staging, "bring", slow)
    return brought


def test_a_file_of_a_damaged_agent_that_goes_meanwhile_keeps_no_other_agent_out(tmp_path, dest, monkeypatch):
    """Of an agent whose MANIFEST is damaged nobody can tell which files count, so one may be a merge's or a move's."""
    from memstore.backup.staging import Staging

    root = str(tmp_path / "store")
    engine = make_engine(root)
    for agent in ("a", "b"):
        put(engine, agent, "x" * 300)
    engine.drain(timeout_s=5)
    first, second = files_named(root, "MANIFEST")  # in the order in which they are listed
    flip(first, 30)
    bring = Staging.bring

    def slow(self: Any, listing: Any, **how: Any) -> bool:
        for path in Path(first).parent.glob("*.jsonl"):
            path.unlink()
        return bring(self, listing, **how)

    monkeypatch.setattr(Staging, "bring", slow)
    report = create_backup(engine, str(dest))
    (there,) = Path(report.path).glob("memory/shards/*/*/*.jsonl")
    assert there.parent.name == Path(second).parent.name
    engine.close()


def test_a_torn_write_at_the_end_of_a_lane_is_left_out(tmp_path, dest):
    with MemStore(tmp_path / "store", settings=QUIET) as store:
        memory_id = store.append(agent_id="a", content="whole")
        (lane,) = lane_files(store.root)
        with open(lane, "ab") as file:
            file.write(b'{"commit":{"at":1,"bytes":99')
        report = store.backup(dest)
        assert set(lines_at(report.path)["a"]) == {memory_id}
        assert os.path.getsize(lane_files(report.path)[0]) < os.path.getsize(lane)


def test_lanes_wait_for_the_backup_that_archives_them(tmp_path, dest):
    with MemStore(tmp_path / "store", settings=QUIET) as store:
        store.append(agent_id="a", content="1")
        store.backup(dest)
        store.append(agent_id="a", content="2")
        store.drain()
        assert len(lane_files(store.root, ".merged")) == 1
        report = store.backup(dest)
        assert not lane_files(store.root, ".merged")
        assert len(names_in(os.path.join(dest, "lanes", report.name))) == 2  # the lane, and the list


def test_lanes_that_could_not_be_kept_are_told_as_a_gap(tmp_path, dest):
    settings = {**QUIET, "merging": {"background": False, "consumer_lag_bytes": 0}}
    with MemStore(tmp_path / "store", settings=settings) as store:
        store.backup(dest)
        store.append(agent_id="a", content="2")
        store.drain()
        report = store.backup(dest)
        assert report.gap is not None
        assert report.gap.until
        assert store.backup(dest).gap is None
        assert [each.follows for each in store.backups(dest)] == [False, False, True]


def test_damage_in_the_store_is_told_and_copied_as_it_is(rich, rich_open, dest):
    path = os.path.join(rich, "memory", "archive", "a", "202411.7.jsonl.zst")
    flip(path, 100)
    report = rich_open.backup(dest)
    assert [error.path for error in report.damage] == [path]
    assert report.damage[0].length_bytes > 0
    verified = rich_open.verify_backup(dest)
    assert verified.is_good, "the backup is as the store was"
    flip(path, 100)
    again = rich_open.backup(dest)
    assert not again.damage
    assert again.copied_files >= 1


def test_two_backups_to_one_place_at_once_are_refused(rich_open, dest):
    rich_open.backup(dest)
    with locked(LocalStorage(), os.path.join(dest, ".lock")), pytest.raises(LockedError, match="another backup"):
        rich_open.backup(dest)


def test_what_an_interrupted_backup_left_is_ignored_and_removed(rich_open, dest, lines):
    first = rich_open.backup(dest)
    os.makedirs(os.path.join(dest, ".incoming-0123", "memory"))
    assert [each.name for each in rich_open.backups(dest)] == [first.name]
    report = rich_open.backup(dest)
    assert [name for name in os.listdir(dest) if name.startswith(".incoming")] == []
    assert lines_at(report.path) == in_one_piece(lines)


@pytest.mark.parametrize("below", ["", "deep/er"])
def test_a_destination_inside_of_the_store_is_refused(rich, rich_open, below):
    with pytest.raises(UsageError, match="lie in each other"):
        rich_open.backup(os.path.join(rich, below))
    with pytest.raises(UsageError, match="lie in each other"):
        rich_open.backup(os.path.dirname(rich))


def test_a_directory_that_holds_something_else_is_refused(rich_open, dest):
    os.makedirs(os.path.join(dest, "holiday"))
    with pytest.raises(UsageError, match="not empty"):
        rich_open.backup(dest)
    assert os.listdir(dest) == ["holiday"]


def test_the_backups_of_another_store_are_refused(rich_open, dest, tmp_path):
    rich_open.backup(dest)
    with MemStore(tmp_path / "other", settings=QUIET) as other, pytest.raises(UsageError, match="another store"):
        other.backup(dest)


def test_a_repository_of_a_newer_version_is_refused(rich_open, dest):
    os.makedirs(dest)
    with open(os.path.join(dest, "REPOSITORY.json"), "wb") as file:
        file.write(encode_checked("repository", {"version": 2, "store": "x", "at": 1, "new": True}))
    with pytest.raises(VersionError, match="upgrade memstore"):
        rich_open.backup(dest)


def test_a_point_is_not_opened_for_writing(rich_open, dest):
    report = rich_open.backup(dest)
    with pytest.raises(UsageError, match="restore"):
        MemStore(report.path)


def test_without_room_nothing_is_begun(tmp_path, dest):
    storage = FaultyStorage(LocalStorage())
    engine = make_engine(tmp_path / "store", storage)
    put(engine, "a", "x")
    storage.answers["free_bytes"] = 1000
    with pytest.raises(StorageFullError, match="prune"):
        create_backup(engine, dest)
    assert names_in(dest) == ["REPOSITORY.json"]
    storage.answers.clear()
    assert create_backup(engine, dest).records == 1
    engine.close()


def test_a_disk_that_fills_up_leaves_the_points_that_are_there(tmp_path, dest):
    storage = FaultyStorage(LocalStorage())
    engine = make_engine(tmp_path / "store", storage)
    put(engine, "a", "x")
    first = create_backup(engine, dest)
    put(engine, "a", "y")
    storage.fill(path=f"{dest}/*/*.lane", written_bytes=10)
    with pytest.raises(StorageFullError):
        create_backup(engine, dest)
    storage.disarm()
    assert [name for name in os.listdir(dest) if name.startswith(".incoming")] == []
    assert len(lines_at(first.path)["a"]) == 1
    second = create_backup(engine, dest)
    assert len(lines_at(second.path)["a"]) == 2
    engine.close()


def test_every_call_may_fail_and_the_next_backup_is_whole(tmp_path, dest):
    """Each storage call of a backup fails once: what is there is a whole point or none, and the next one is whole."""
    storage = FaultyStorage(LocalStorage())
    engine = make_engine(tmp_path / "store", storage, clock=ManualClock(at(0)))
    for number in range(3):
        put(engine, "a", f"merged {number}")
    engine.drain(timeout_s=5)
    put(engine, "a", "in a lane")
    create_backup(engine, dest)
    put(engine, "b", "more")
    storage.recording = True
    create_backup(engine, dest)
    calls = [kind for kind, path in storage.calls if path.startswith(dest)]
    storage.recording = False
    failed = 0
    for number in range(len(calls)):
        put(engine, "a", f"round {number}")
        kinds = sorted(set(calls))
        fault = storage.fail(*kinds, path=f"{dest}*", after=number)
        try:
            create_backup(engine, dest)
        except StorageError:
            failed += 1
        storage.disarm()
        del fault
        report = create_backup(engine, dest)
        assert report.records == 5 + number + 1
        assert sum(map(len, lines_at(report.path).values())) == report.records
    assert failed > len(calls) // 2
    engine.close()


def test_where_links_are_not_possible_files_are_copied(tmp_path, dest):
    storage = FaultyStorage(LocalStorage())
    engine = make_engine(tmp_path / "store", storage)
    put(engine, "a", "x")
    engine.drain(timeout_s=5)
    create_backup(engine, dest)
    storage.fail("link", times=-1)
    report = create_backup(engine, dest)
    assert report.copied_files >= 2
    assert len(lines_at(report.path)["a"]) == 1
    engine.close()


def test_a_store_on_a_simulated_disk_is_backed_up_too(tmp_path):
    from memstore.testing.crashing import CrashingStorage

    storage = CrashingStorage()
    storage.make_directory("/store")
    engine = make_engine("/store", storage, clock=ManualClock(at(0)))
    put(engine, "a", "x")
    engine.drain(timeout_s=5)
    report = create_backup(engine, "/backups")
    engine.close()
    after = storage.crash(1)
    point = Engine(after, report.path, settings=engine.settings, clock=ManualClock(at(0)), read_only=True, create=False)
    assert point.inventory.records(["a"]) == 1, "a point that was acknowledged survives a power cut"
    point.close()
