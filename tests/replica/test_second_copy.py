"""The second copy from the face: made, kept, lost, back again, alone, made the store."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from replica_support import InlineExecutor, copied, copy_state, give_copy, open_copy
from support import QUIET, assert_exactly, files_named, flip, lane_files, make_engine, put, put_many

from memstore import (
    CorruptionError,
    LockedError,
    MemStore,
    NotFoundError,
    ReadOnlyError,
    StorageError,
    StorageFullError,
    UsageError,
)
from memstore.config_load import load_settings
from memstore.engine.engine import Engine
from memstore.filters import build_filter
from memstore.fs.local import LocalStorage
from memstore.fs.lock import locked
from memstore.replica.replicator import Replicator
from memstore.replica.setup import promote
from memstore.testing.crashing import CrashingStorage
from memstore.testing.faulty import CHANGING_KINDS, Fault, FaultyStorage, disk_full
from memstore.wal import mirror

EVERYTHING = build_filter(now_us=0)
QUIET_ALONE = {**QUIET, "storage": {**QUIET["storage"], "force_alone": True}}


@pytest.fixture
def root(tmp_path: Path) -> str:
    return str(tmp_path / "store")


@pytest.fixture
def volume(tmp_path: Path) -> str:
    path = tmp_path / "second"
    path.mkdir()
    return str(path)


@pytest.fixture
def storage() -> FaultyStorage:
    return FaultyStorage(LocalStorage())


def ids_of(engine: Engine, agent: str) -> list[str]:
    found = engine.reader.lines(agent, EVERYTHING, newest_first=False, on_damage="raise")
    return [line[14 : line.index(b'"', 14)].decode() for line, _ in found]


def put_away(path: str) -> str:
    """Take a volume away: nothing stands at its path any more."""
    os.rename(path, f"{path}.away")
    return f"{path}.away"


# -- made and kept


def test_what_was_there_and_what_comes_is_in_the_copy(root: str, volume: str) -> None:
    with MemStore(root, settings=QUIET) as store:
        ids = {"a": [store.append(agent_id="a", content="before")]}
        status = store.add_replica(volume)
        assert (status["state"], status["bytes_behind"]) == ("ok", 0)
        ids["a"].append(store.append(agent_id="a", content="after"))
        ids["B/x"] = store.append_many([{"agent_id": "B/x", "content": n} for n in range(3)])
        with MemStore(status["path"], settings=QUIET) as copy:
            assert_exactly(copy, ids)


def test_a_record_is_in_both_lanes_when_it_is_acknowledged(root: str, volume: str) -> None:
    with MemStore(root, settings=QUIET) as store:
        path = store.add_replica(volume)["path"]
        store.append(agent_id="a", content="in both")
        ours, theirs = (Path(*lane_files(where)).read_bytes() for where in (root, path))
        assert ours == theirs
        assert b"in both" in theirs


def test_a_new_store_gets_the_copy_that_the_settings_ask_for(root: str, volume: str) -> None:
    sharding = {"replication_factor": 2, "replica_volume": volume}
    settings = {**QUIET, "storage": {**QUIET["storage"], "sharding": sharding}}
    with MemStore(root, settings=settings) as store:
        ids = [store.append(agent_id="a", content="x")]
        status = store.stats()["replica"]
        assert status["state"] == "ok"
        assert status["path"].startswith(volume)
        with MemStore(status["path"], settings=QUIET) as copy:
            assert_exactly(copy, {"a": ids})


def test_a_store_with_one_copy_knows_of_no_other(root: str) -> None:
    with MemStore(root, settings=QUIET) as store:
        assert store.stats()["replica"] is None
        store.append(agent_id="a", content="x")
    assert "replica" not in Path(root, "STORE.json").read_text()


def test_merged_records_leave_the_lanes_of_the_copy_for_its_files(root: str, volume: str) -> None:
    with MemStore(root, settings=QUIET) as store:
        path = store.add_replica(volume)["path"]
        ids = [store.append(agent_id="a", content=n) for n in range(5)]
        store.drain()
        assert store.sync_replica()["lanes_waiting"] == 0
        assert lane_files(path) == []
        ids.append(store.append(agent_id="a", content="late"))
        store.drain()
        store.sync_replica()
        with MemStore(path, settings=QUIET) as copy:
            assert_exactly(copy, {"a": ids})
            assert copy.check(full=True).is_clean


def test_a_day_file_is_not_copied_again_when_it_grows(root: str, volume: str) -> None:
    engine = make_engine(root)
    put(engine, "a", "x" * 5000)
    engine.drain(timeout_s=5)
    path = give_copy(engine, volume)
    before = os.stat(_day_file(path)).st_ino
    put(engine, "a", "y")
    engine.drain(timeout_s=5)
    report = Replicator(engine).run()
    assert report is not None
    assert report.copied is not None
    assert 0 < report.copied.bytes < 1000, "only what is new"
    assert os.stat(_day_file(path)).st_ino == before
    assert Path(_day_file(path)).read_bytes() == Path(_day_file(root)).read_bytes()
    engine.close()


def _day_file(root: str) -> str:
    found = [
        os.path.join(directory, name)
        for directory, _, names in os.walk(os.path.join(root, "memory"))
        for name in names
        if name.endswith(".jsonl")
    ]
    assert len(found) == 1
    return found[0]


def test_a_second_copy_is_refused_where_it_cannot_be(root: str, volume: str) -> None:
    with MemStore(root, settings=QUIET) as store:
        with pytest.raises(NotFoundError):
            store.add_replica(os.path.join(volume, "not there"))
        with pytest.raises(UsageError, match="in the store itself"):
            store.add_replica(os.path.join(root, "lanes"))
        store.add_replica(volume)
        with pytest.raises(UsageError, match="has a second copy"):
            store.add_replica(volume)
        path = store.remove_replica()
        assert store.replica_status() is None
        with pytest.raises(UsageError, match="holds a copy of this store already"):
            store.add_replica(volume)
        shutil.rmtree(path)
        assert store.add_replica(volume)["state"] == "ok"


def test_another_process_mirrors_too_once_the_copy_is_there(root: str, volume: str) -> None:
    first, second = make_engine(root), make_engine(root)
    ids = [put(first, "a", "first"), put(second, "a", "second")]
    second.maintenance.retire(second._committer.release_lane())  # type: ignore[union-attr, arg-type]
    second.maintenance._seal_own()
    path = give_copy(first, volume)
    ids += [put(second, "a", "second again"), put(first, "a", "first again")]
    assert len(lane_files(path)) == 2
    copy = open_copy(path)
    assert ids_of(copy, "a") == sorted(ids)
    first.close()
    second.close()


# -- lost and back


@pytest.mark.parametrize("kind", ["write", "sync_data"])
def test_a_copy_that_refuses_is_noted_behind_and_the_append_is_acknowledged(
    root: str, volume: str, storage: FaultyStorage, kind: str
) -> None:
    engine = make_engine(root, storage)
    path = give_copy(engine, volume)
    ids = [put(engine, "a", "both")]
    storage.fail(kind, path=f"{path}/lanes/*", times=1000)
    ids.append(put(engine, "a", "one"))
    assert copy_state(engine) == "behind"
    ids.append(put(engine, "a", "one again"))
    assert ids_of(engine, "a") == ids
    storage.disarm()
    copied(engine)
    ids.append(put(engine, "a", "both again"))
    assert ids_of(open_copy(path), "a") == ids
    engine.close()


def test_nothing_is_acknowledged_that_one_copy_has_before_that_is_noted(
    root: str, volume: str, storage: FaultyStorage
) -> None:
    engine = make_engine(root, storage)
    path = give_copy(engine, volume)
    ids = [put(engine, "a", "both")]
    storage.fail("write", path=f"{path}/lanes/*", times=1000)
    storage.fail("create", path=f"{root}/.tmp-*", times=2)
    for _ in range(2):
        with pytest.raises(StorageError):
            put(engine, "a", "refused: it can be noted nowhere")
        assert copy_state(engine) == "ok"
        assert ids_of(engine, "a") == ids
        assert ids_of(open_copy(path), "a") == ids
    ids.append(put(engine, "a", "one"))
    assert copy_state(engine) == "behind"
    assert ids_of(engine, "a") == ids
    engine.close()


def test_a_store_whose_own_lane_refuses_takes_the_commit_back_in_the_copy(
    root: str, volume: str, storage: FaultyStorage
) -> None:
    engine = make_engine(root, storage)
    path = give_copy(engine, volume)
    ids = [put(engine, "a", "both")]
    storage.arm(Fault(frozenset({"write"}), path=f"{root}/lanes/*", error=disk_full, written_bytes=40))
    with pytest.raises(StorageFullError):
        put(engine, "a", "refused")
    assert ids_of(open_copy(path), "a") == ids
    ids.append(put(engine, "a", "both again"))
    assert copy_state(engine) == "ok"
    assert ids_of(open_copy(path), "a") == ids
    engine.close()


def test_a_full_disk_under_the_copy_holds_nobody_up_and_it_joins_when_there_is_room(
    root: str, volume: str, storage: FaultyStorage
) -> None:
    engine = make_engine(root, storage)
    path = give_copy(engine, volume)
    storage.fill(path=f"{path}/*")
    ids = [put(engine, "a", n) for n in range(3)]
    assert copy_state(engine) == "behind"
    with pytest.raises(StorageError):
        Replicator(engine).run()
    assert copy_state(engine) in ("joining", "behind")
    ids.append(put(engine, "a", "still"))
    storage.disarm()
    copied(engine)
    assert ids_of(open_copy(path), "a") == ids
    engine.close()


def test_a_volume_that_goes_and_comes_back_is_brought_up_to_date(root: str, volume: str) -> None:
    with MemStore(root, settings=QUIET) as store:
        path = store.add_replica(volume)["path"]
        ids = [store.append(agent_id="a", content="both")]
        store.drain()
        gone = put_away(volume)
        ids.append(store.append(agent_id="a", content="one"))
        status = store.replica_status()
        assert status is not None
        assert (status["state"], status["noted"]) == ("away", "behind")
        assert "not there" in status["why"]
        store.drain()
        os.rename(gone, volume)
        assert store.sync_replica()["state"] == "ok"
        with MemStore(path, settings=QUIET) as copy:
            assert_exactly(copy, {"a": ids})


def test_a_process_that_opens_the_store_brings_the_copy_up_to_date_in_the_background(root: str, volume: str) -> None:
    with MemStore(root, settings=QUIET) as store:
        path = store.add_replica(volume)["path"]
        gone = put_away(volume)
        ids = [store.append(agent_id="a", content="one")]
    os.rename(gone, volume)
    with MemStore(root, settings=QUIET) as store:
        thread = store._replicator._thread
        if thread is not None:
            thread.join()
        assert copy_state(store._engine) == "ok"
        with MemStore(path, settings=QUIET) as copy:
            assert_exactly(copy, {"a": ids})


def test_a_failure_of_any_call_on_the_copys_side_loses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mirror, "one_thread", InlineExecutor)
    for call in range(200):
        storage = FaultyStorage(CrashingStorage(mounts=["/mnt/two"]))
        engine = make_engine("/store", storage)
        path = give_copy(engine, "/mnt/two")
        fault = storage.fail(*CHANGING_KINDS, path=f"{path}/*", after=call)
        ids = [put(engine, "a", 1), *put_many(engine, [{"agent_id": a, "content": 2} for a in "ab"])]
        engine.drain(timeout_s=0)
        with contextlib.suppress(StorageError):
            Replicator(engine).run()
        ids.append(put(engine, "a", 3))
        struck = not fault.times
        assert both_agents(engine) == sorted(ids), f"call {call}"
        if copy_state(engine) == "ok":
            assert both_agents(open_copy(path, storage)) == sorted(ids), f"call {call}"
        storage.disarm()
        copied(engine)
        assert both_agents(open_copy(path, storage)) == sorted(ids), f"call {call}"
        engine.close()
        if not struck:
            break
    else:
        pytest.fail("there are more calls than the test tries")
    assert call > 20


def both_agents(engine: Engine) -> list[str]:
    return sorted([*ids_of(engine, "a"), *ids_of(engine, "b")])


# -- alone


def test_a_copy_alone_opens_read_only_and_names_its_last_commit(root: str, volume: str) -> None:
    with MemStore(root, settings=QUIET) as store:
        path = store.add_replica(volume)["path"]
        ids = [store.append(agent_id="a", content="x")]
        last = store.replica_status()["last_commit"]  # type: ignore[index]
    put_away(root)
    with MemStore(path, settings=QUIET) as copy:
        assert copy.stats()["read_only"] is True
        assert copy.stats()["replica"]["state"] == "alone"
        assert copy.stats()["replica"]["last_commit"] == last
        assert_exactly(copy, {"a": ids})
        with pytest.raises(ReadOnlyError, match=last):
            copy.append(agent_id="a", content="refused")
        with pytest.raises(ReadOnlyError):
            copy.drain()
        with pytest.raises(ReadOnlyError):
            copy.erase(agent="a")
    with pytest.raises(ReadOnlyError):
        MemStore(path, settings=QUIET, maintain=True)


def test_the_last_commit_is_named_after_its_lane_is_gone_too(root: str, volume: str) -> None:
    with MemStore(root, settings=QUIET) as store:
        path = store.add_replica(volume)["path"]
        store.append(agent_id="a", content="x")
        last = store.replica_status()["last_commit"]  # type: ignore[index]
        store.drain()
        assert store.sync_replica()["last_commit"] == last
    with MemStore(path, settings=QUIET) as copy:
        assert copy.stats()["replica"]["last_commit"] == last


def test_a_copy_of_what_was_merged_long_ago_names_a_time_too(root: str, volume: str) -> None:
    with MemStore(root, settings=QUIET) as store:
        store.append(agent_id="a", content="x")
        store.drain()
        assert store.add_replica(volume)["last_commit"] is not None


def test_a_copy_that_is_forced_is_the_store_and_the_old_store_is_refused(root: str, volume: str) -> None:
    with MemStore(root, settings=QUIET) as store:
        path = store.add_replica(volume)["path"]
        ids = [store.append(agent_id="a", content="x")]
        store.drain()
        ids.append(store.append(agent_id="a", content="y"))
    gone = put_away(root)
    with MemStore(path, settings=QUIET_ALONE) as copy:
        ids.append(copy.append(agent_id="a", content="z"))
        assert_exactly(copy, {"a": ids})
    with MemStore(path, settings=QUIET) as copy:
        assert copy.drain().pending == []
        ids.append(copy.append(agent_id="a", content="without force"))
        assert_exactly(copy, {"a": ids})
    os.rename(gone, root)
    with MemStore(root, settings=QUIET) as old:
        assert old.replica_status()["state"] == "promoted"  # type: ignore[index]
        with pytest.raises(ReadOnlyError, match="made the store by force"):
            old.append(agent_id="a", content="refused")
        assert [r.memory_id for r in old.agent("a").range()] == ids[:2], "what it had can be read"


def test_ids_of_the_copy_that_became_the_store_are_nobody_elses(root: str, volume: str) -> None:
    with MemStore(root, settings=QUIET) as store:
        path = store.add_replica(volume)["path"]
        numbers = [store._engine.catalog.take_writer_number() for _ in range(5)]
    promote(LocalStorage(), path)
    with MemStore(path, settings=QUIET) as copy:
        assert copy._engine.catalog.take_writer_number() > max(numbers) + 1000


def test_a_store_whose_copy_is_away_opens_read_only_unless_it_had_noted_that(root: str, volume: str) -> None:
    with MemStore(root, settings=QUIET) as store:
        store.add_replica(volume)
        ids = [store.append(agent_id="a", content="x")]
    gone = put_away(volume)
    with MemStore(root, settings=QUIET) as store:
        with pytest.raises(ReadOnlyError, match="may have been made the store meanwhile"):
            store.append(agent_id="a", content="refused")
        os.rename(gone, volume)
        ids.append(store.append(agent_id="a", content="the volume is back"))
        put_away(volume)
        store.drain()
        ids.append(store.append(agent_id="a", content="it goes while the store is written"))
    with MemStore(root, settings=QUIET) as store:
        ids.append(store.append(agent_id="a", content="and it is known that this one is ahead"))
        assert_exactly(store, {"a": ids})


def test_a_store_that_is_forced_goes_on_without_its_copy(root: str, volume: str) -> None:
    with MemStore(root, settings=QUIET) as store:
        store.add_replica(volume)
    put_away(volume)
    with MemStore(root, settings=QUIET_ALONE) as store:
        store.append(agent_id="a", content="x")
    with MemStore(root, settings=QUIET) as store:
        store.append(agent_id="a", content="y")


def test_a_copy_that_is_still_written_is_not_made_the_store(root: str, volume: str) -> None:
    with MemStore(root, settings=QUIET) as store:
        path = store.add_replica(volume)["path"]
        store.append(agent_id="a", content="x")
        with pytest.raises(LockedError, match="still writes"):
            promote(LocalStorage(), path)
    promote(LocalStorage(), path)
    with pytest.raises(UsageError, match="no second copy"):
        promote(LocalStorage(), path)


def test_a_copy_that_is_just_brought_up_to_date_is_not_made_the_store(root: str, volume: str) -> None:
    with MemStore(root, settings=QUIET) as store:
        path = store.add_replica(volume)["path"]
        with locked(LocalStorage(), os.path.join(path, "locks", "replica")):
            with pytest.raises(LockedError, match="bringing it up to date"):
                promote(LocalStorage(), path)
            with pytest.raises(LockedError, match="making this copy the store"):
                store.sync_replica()


def test_a_process_that_was_running_when_the_copy_became_the_store_does_not_write_to_it(root: str, volume: str) -> None:
    engine = make_engine(root)
    path = give_copy(engine, volume)
    promote(LocalStorage(), path)
    put(engine, "a", "the store's own")
    assert copy_state(engine) == "behind"
    assert lane_files(path) == []
    report = Replicator(engine).run()
    assert report is not None
    assert "made the store by force" in report.waiting[0]
    engine.close()


def test_a_store_that_was_copied_elsewhere_does_not_write_to_the_copy_of_the_other(root: str, volume: str) -> None:
    with MemStore(root, settings=QUIET) as store:
        path = store.add_replica(volume)["path"]
    shutil.copytree(root, f"{root}.twin")
    with MemStore(f"{root}.twin", settings=QUIET) as twin, pytest.raises(ReadOnlyError, match="is not a copy of this"):
        twin.append(agent_id="a", content="refused")
    with MemStore(f"{root}.twin", settings=QUIET_ALONE) as twin:
        twin.append(agent_id="a", content="by itself")
        assert twin.replica_status() is None
    assert lane_files(path) == []
    link = f"{root}.link"
    os.symlink(root, link)
    with MemStore(link, settings=QUIET) as store:
        ids = [store.append(agent_id="a", content="by another way to the same directory")]
        with MemStore(path, settings=QUIET) as copy:
            assert_exactly(copy, {"a": ids})


def test_leftovers_of_a_pass_do_not_disturb_a_copy_that_becomes_the_store(root: str, volume: str) -> None:
    with MemStore(root, settings=QUIET) as store:
        store.append(agent_id="a", content="x")
        path = store.add_replica(volume)["path"]
    day_file = Path(_day_file(path))
    with day_file.open("ab") as file:
        file.write(b'{"memory_id":"a_20250101_000000_0000000000000000000000","content":"copied, not counted"}\n')
    (day_file.parent / ".tmp-left").write_bytes(b"x")
    promote(LocalStorage(), path)
    with MemStore(path, settings=QUIET) as copy:
        copy.append(agent_id="a", content="y")
        assert copy.drain().pending == []
        assert copy.agent("a").count() == 2
        assert copy.check(full=True).is_clean


# -- reads fail over


@pytest.fixture
def merged(root: str, volume: str) -> Iterator[tuple[MemStore, str, list[str]]]:
    with MemStore(root, settings=QUIET) as store:
        ids = [store.append(agent_id="a", content=f"{n} " + "x" * 100) for n in range(10)]
        path = store.add_replica(volume)["path"]
        yield store, path, ids


def test_a_damaged_block_is_read_from_the_copy_and_counted(merged: tuple[MemStore, str, list[str]], root: str) -> None:
    _, _, ids = merged
    flip(_day_file(root), 200)
    with MemStore(root, settings=QUIET) as store:
        assert_exactly(store, {"a": ids})
        assert store.stats()["counters"]["reads_from_replica"] > 0
        assert not store.check(full=True).is_clean, "a check tells of it all the same"


def test_a_lost_file_is_read_from_the_copy(merged: tuple[MemStore, str, list[str]], root: str) -> None:
    _, _, ids = merged
    os.unlink(_day_file(root))
    with MemStore(root, settings=QUIET) as store:
        assert_exactly(store, {"a": ids})


def test_what_is_damaged_in_both_copies_is_reported(merged: tuple[MemStore, str, list[str]], root: str) -> None:
    _, path, _ = merged
    flip(_day_file(root), 200)
    flip(_day_file(path), 200)
    with MemStore(root, settings=QUIET) as store, pytest.raises(CorruptionError, match=root):
        list(store.agent("a").range())


def test_a_damaged_slice_of_a_lane_is_read_from_the_copys_lane(root: str, volume: str) -> None:
    with MemStore(root, settings=QUIET) as store:
        store.add_replica(volume)
        ids = [store.append(agent_id="a", content=f"{n} needle") for n in range(3)]
        lane = Path(*lane_files(root))
        flip(str(lane), lane.read_bytes().index(b"1 needle"))
        assert_exactly(store, {"a": ids})


def test_a_damaged_manifest_is_no_obstacle_while_the_copy_is_whole(
    merged: tuple[MemStore, str, list[str]], root: str
) -> None:
    store, _, ids = merged
    ids.append(store.append(agent_id="a", content="not merged yet"))
    flip(files_named(root, "MANIFEST")[0], 10)
    with MemStore(root, settings=QUIET) as other:
        assert [record.memory_id for record in other.agent("a").range()] == ids


def test_a_shard_whose_volume_is_gone_is_read_from_the_copy(merged: tuple[MemStore, str, list[str]], root: str) -> None:
    store, _, ids = merged
    ids.append(store.append(agent_id="a", content="not merged yet"))
    for name in os.listdir(os.path.join(root, "memory", "shards")):
        put_away(os.path.join(root, "memory", "shards", name))
    assert [record.memory_id for record in store.agent("a").range()] == ids
    assert store.get(ids[3]) is not None
    assert store.agent("a").count() == len(ids)


def test_a_store_whose_whole_volume_goes_is_read_on_from_the_copy(
    merged: tuple[MemStore, str, list[str]], root: str
) -> None:
    store, _, ids = merged
    ids.append(store.append(agent_id="a", content="not merged yet"))
    gone = put_away(root)
    assert [record.memory_id for record in store.agent("a").range()] == ids
    assert [record.memory_id for record in store.agent("a").recent(3)] == ids[:-4:-1]
    found = store.get(ids[-1])
    assert found is not None
    assert found.content == "not merged yet"
    os.rename(gone, root)


def test_a_copy_that_is_behind_stands_in_for_verified_blocks_only(
    merged: tuple[MemStore, str, list[str]], root: str, volume: str
) -> None:
    store, _, ids = merged
    gone = put_away(volume)
    ids.append(store.append(agent_id="a", content="the copy has not got this"))
    os.rename(gone, volume)
    assert copy_state(store._engine) == "behind"
    for name in os.listdir(os.path.join(root, "memory", "shards")):
        put_away(os.path.join(root, "memory", "shards", name))
    with pytest.raises(StorageError, match="the shard's directory is missing"):
        list(store.agent("a").range())


def test_the_copy_alone_can_be_searched(merged: tuple[MemStore, str, list[str]]) -> None:
    store, path, _ = merged
    found = store.append(agent_id="a", content="an uncommon word: heliotrope")
    with MemStore(path, settings=QUIET) as copy:
        assert [hit.record.memory_id for hit in copy.search("heliotrope")] == [found]


# -- what goes, goes there too


def test_a_forgotten_record_does_not_come_back_by_a_read_from_the_copy(
    merged: tuple[MemStore, str, list[str]], root: str
) -> None:
    store, _, ids = merged
    store.forget(ids[2])
    for name in os.listdir(os.path.join(root, "memory", "shards")):
        put_away(os.path.join(root, "memory", "shards", name))
    assert store.get(ids[2]) is None
    assert store.get(ids[3]) is not None


def test_erased_records_are_erased_in_the_copy_before_the_receipt(
    merged: tuple[MemStore, str, list[str]], volume: str
) -> None:
    store, _, ids = merged
    ids.append(store.append(agent_id="a", content="in lanes of both"))
    other = store.append(agent_id="other", content="stays")
    receipt = store.erase(ids=[ids[1], ids[-1]])
    assert receipt.verified
    for directory, _, names in os.walk(volume):
        for name in names:
            data = Path(directory, name).read_bytes()
            assert ids[-1].encode() not in data
            assert ids[1].encode() not in data or name.endswith(".zst")
    assert store.erase(agent="a").verified
    assert not [d for d, _, _ in os.walk(volume) if os.path.basename(d) == "a"]
    assert_exactly(store, {"a": [], "other": [other]})


def test_an_erasure_names_a_copy_that_is_away_as_pending_and_reaches_it_later(
    merged: tuple[MemStore, str, list[str]], volume: str
) -> None:
    store, path, ids = merged
    keep = store.append(agent_id="other", content="stays")
    gone = put_away(volume)
    receipt = store.erase(agent="a")
    assert [pending.where for pending in receipt.pending] == [path]
    os.rename(gone, volume)
    assert store.sync_replica()["state"] == "ok"
    with MemStore(path, settings=QUIET) as copy:
        assert copy.agents() == ["other"]
        assert_exactly(copy, {"a": [], "other": [keep]})
    assert not [d for d, _, _ in os.walk(volume) if os.path.basename(d) == "a"]
    assert ids


def test_an_agent_that_was_erased_and_came_back_while_the_copy_was_away_takes_its_old_names(
    merged: tuple[MemStore, str, list[str]], volume: str
) -> None:
    store, path, ids = merged
    gone = put_away(volume)
    store.erase(agent="a")
    new = [store.append(agent_id="a", content="somebody else by the same name")]
    store.drain()
    os.rename(gone, volume)
    assert store.sync_replica()["state"] == "ok"
    with MemStore(path, settings=QUIET) as copy:
        assert_exactly(copy, {"a": new})
        assert copy.check(full=True).is_clean
    assert ids[0].encode() not in b"".join(p.read_bytes() for p in Path(volume).rglob("*") if p.is_file())


def test_an_agent_that_is_lost_and_was_not_erased_stays_in_the_copy(
    merged: tuple[MemStore, str, list[str]], root: str
) -> None:
    store, path, ids = merged
    shutil.rmtree(os.path.dirname(_day_file(root)))
    report = store._replicator.run_in_turn()
    assert report is not None
    assert "was not erased" in report.waiting[0]
    with MemStore(path, settings=QUIET) as copy:
        assert_exactly(copy, {"a": ids})


def test_an_agent_that_is_lost_and_goes_on_does_not_take_what_the_copy_has_of_it(
    merged: tuple[MemStore, str, list[str]], root: str
) -> None:
    store, path, ids = merged
    shutil.rmtree(os.path.dirname(_day_file(root)))
    store.append(agent_id="a", content="as if nothing had been")
    store.drain()
    report = store._replicator.run_in_turn()
    assert report is not None
    assert "it was begun anew, and the agent was not erased" in report.waiting[0]
    with MemStore(path, settings=QUIET) as copy:
        assert all(record is not None for record in copy.get_many(ids))
        assert copy.agent("a").count() == len(ids) + 1


def test_a_lane_that_the_store_has_lost_stays_in_the_copy(merged: tuple[MemStore, str, list[str]], root: str) -> None:
    store, path, ids = merged
    ids.append(store.append(agent_id="a", content="in lanes of both"))
    store.close()
    (lane,) = lane_files(root)
    os.unlink(lane)
    with MemStore(root, settings=QUIET) as again:
        assert again.agent("a").count() == len(ids) - 1
        again.append(agent_id="a", content="later")
        again.drain()
        report = again._replicator.run_in_turn()
        assert report is not None
        assert "1 record(s) of it are not in the store, which has lost this lane" in "; ".join(report.waiting)
    assert [os.path.basename(each) for each in lane_files(path)] == [os.path.basename(lane)]
    with MemStore(path, settings=QUIET) as copy:
        assert copy.get(ids[-1]) is not None


def test_agents_that_move_between_shards_stay_where_they_are_in_the_copy(
    merged: tuple[MemStore, str, list[str]],
) -> None:
    store, path, ids = merged
    before = _day_file(path)
    shard = next(s["name"] for s in store.shards() if not s["agents"])
    store.pin("a", shard)
    ids.append(store.append(agent_id="a", content="there"))
    store.drain()
    store.sync_replica()
    assert _day_file(path) == before
    with MemStore(path, settings=QUIET) as copy:
        assert_exactly(copy, {"a": ids})


def test_many_threads_append_while_the_copy_goes_and_comes(root: str, volume: str) -> None:
    settings: dict[str, Any] = {**QUIET, "writing": {"lane_bytes_max": 8192, "commit_bytes_max": 4096}}
    with MemStore(root, settings=settings) as store:
        path = store.add_replica(volume)["path"]
        ids: dict[str, list[str]] = {str(n): [] for n in range(4)}
        stop = threading.Event()

        def write(agent: str) -> None:
            while not stop.is_set():
                ids[agent].append(store.append(agent_id=agent, content="x" * 200))

        threads = [threading.Thread(target=write, args=(agent,)) for agent in ids]
        for thread in threads:
            thread.start()
        for _ in range(5):
            gone = put_away(volume)
            store.drain()
            os.rename(gone, volume)
            store.sync_replica()
            store.drain()
            store.sync_replica()
        stop.set()
        for thread in threads:
            thread.join()
        assert store.sync_replica()["state"] == "ok"
        assert_exactly(store, ids)
        with MemStore(path, settings=QUIET) as copy:
            assert_exactly(copy, ids)


def test_settings_that_ask_for_two_copies_of_a_store_that_has_one_are_told_how(
    root: str, volume: str, caplog: pytest.LogCaptureFixture
) -> None:
    MemStore(root, settings=QUIET).close()
    sharding = {"replication_factor": 2, "replica_volume": volume}
    with MemStore(root, settings={**QUIET, "storage": {**QUIET["storage"], "sharding": sharding}}) as store:
        assert store.replica_status() is None
    assert "memstore replica add" in caplog.text
    assert load_settings(None).settings.storage.sharding.replication_factor == 1
    assert json.loads(Path(root, "STORE.json").read_text())["store"].get("replica") is None
