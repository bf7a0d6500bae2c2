"""A disk that refuses: nothing acknowledged is lost or doubled, and the store works again (P5, P7)."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import threading
from collections.abc import Callable
from typing import Any

import pytest
from support import QUIET, T0_US, TINY, assert_exactly, files_named, lane_files, make_engine, put, put_many

from memstore import (
    MemStore,
    MemstoreError,
    ReadOnlyError,
    StorageError,
    StorageFullError,
    UnsupportedError,
    WriterBrokenError,
)
from memstore.clock import ManualClock
from memstore.engine.engine import Engine
from memstore.fs.local import LocalStorage
from memstore.fs.lock import locked
from memstore.testing.faulty import CHANGING_KINDS, Fault, FaultyStorage, disk_full

BODY = "b" * 300
LANES = "*/lanes/*"
"""A lane's own writer knows it by the temporary name it was made under."""


@pytest.fixture
def root(tmp_path: Any) -> str:
    return str(tmp_path / "store")


@pytest.fixture
def storage() -> FaultyStorage:
    return FaultyStorage(LocalStorage())


def ids_of(engine: Engine, agent: str) -> list[str]:
    found = engine.reader.lines(agent, _everything(), newest_first=False, on_damage="raise")
    return [line[14 : line.index(b'"', 14)].decode() for line, _ in found]


def _everything() -> Any:
    from memstore.filters import build_filter

    return build_filter(now_us=0)


def open_and_check(root: str, expected: dict[str, list[str]]) -> None:
    """What another process sees: before a merge, after it, and after the next one."""
    with MemStore(root, settings=QUIET) as store:
        assert_exactly(store, expected)
        assert store.drain().pending == []
        assert_exactly(store, expected)
        extra = {agent: [*ids, store.append(agent_id=agent, content="goes on")] for agent, ids in expected.items()}
        store.drain()
        assert_exactly(store, extra)
    assert lane_files(root) == []


# -- appends


@pytest.mark.parametrize("written_bytes", [0, 1, 150, 10**9], ids=["none", "one byte", "half", "all of it"])
def test_full_disk_refuses_the_append_and_the_store_goes_on_when_space_returns(
    root: str, storage: FaultyStorage, written_bytes: int
) -> None:
    engine = make_engine(root, storage)
    kept = [put(engine, "a", f"first {BODY}")]
    storage.fill(path=LANES, written_bytes=written_bytes)
    for _ in range(3):
        with pytest.raises(StorageFullError):
            put(engine, "a", f"refused {BODY}")
        with pytest.raises(StorageFullError):
            put_many(engine, [{"agent_id": "a", "content": BODY}, {"agent_id": "b", "content": BODY}])
        assert ids_of(engine, "a") == kept
        assert ids_of(engine, "b") == []
    storage.disarm()
    kept.append(put(engine, "a", "again"))
    assert ids_of(engine, "a") == kept
    engine.close()
    open_and_check(root, {"a": kept})


def test_full_disk_at_the_first_append_leaves_no_lane(root: str, storage: FaultyStorage) -> None:
    engine = make_engine(root, storage)
    storage.fill()
    with pytest.raises(StorageFullError):
        put(engine, "a", 1)
    assert os.listdir(os.path.join(root, "lanes")) == []
    storage.disarm()
    kept = [put(engine, "a", 2)]
    engine.close()
    open_and_check(root, {"a": kept})


def test_refused_write_that_is_no_lack_of_space_says_that_nothing_was_stored(root: str, storage: FaultyStorage) -> None:
    engine = make_engine(root, storage)
    kept = [put(engine, "a", 1)]
    storage.arm(Fault(frozenset({"write"}), path=LANES, written_bytes=40))
    with pytest.raises(StorageError, match="nothing of this commit was stored"):
        put(engine, "a", 2)
    kept.append(put(engine, "a", 3))
    engine.close()
    open_and_check(root, {"a": kept})


def test_full_disk_while_the_lane_cannot_be_cut_back_gives_the_lane_up(root: str, storage: FaultyStorage) -> None:
    engine = make_engine(root, storage)
    kept = [put(engine, "a", 1)]
    storage.arm(Fault(frozenset({"write"}), path=LANES, error=disk_full, written_bytes=10**9))
    storage.fail("truncate", path=LANES)
    (lane,) = lane_files(root)
    with pytest.raises(WriterBrokenError, match=re.escape(f"{lane}: ")):  # by the name it has now
        put(engine, "a", 2)
    kept.append(put(engine, "a", 3))
    assert len(lane_files(root)) == 2
    engine.close()
    # Of the second nobody knows: it is whole in its lane, so it may stay. Each of the others is there once.
    with MemStore(root, settings=QUIET) as store:
        store.drain()
        found = [record.memory_id for record in store.agent("a").range()]
        assert sorted(set(found)) == found
        assert set(kept) <= set(found)


def test_failed_sync_breaks_the_lane_and_a_second_one_the_writer(root: str, storage: FaultyStorage) -> None:
    engine = make_engine(root, storage)
    kept = [put(engine, "a", 1)]
    lane = engine._committer.lane  # type: ignore[union-attr]
    assert lane is not None
    broken = lane.file.path
    storage.fail("sync_data", path=LANES)
    with pytest.raises(WriterBrokenError, match="unknown"):
        put(engine, "a", "unknown")
    kept.append(put(engine, "a", 2))
    assert len(lane_files(root)) == 2, "the process goes on in a new lane"
    storage.recording = True
    storage.fail("sync_data", path=LANES)
    with pytest.raises(WriterBrokenError):
        put(engine, "a", "unknown, too")
    with pytest.raises(ReadOnlyError):
        put(engine, "a", "refused")
    assert ids_of(engine, "a")[:1] == kept[:1]
    assert set(kept) <= set(ids_of(engine, "a"))
    engine.close()
    assert ("sync_data", broken) not in storage.calls, "a lane whose sync failed was synced again"
    with MemStore(root, settings=QUIET) as store:
        assert store.drain().pending == []
        found = [record.memory_id for record in store.agent("a").range()]
        assert found == sorted(set(found))
        assert set(kept) <= set(found)


def test_everybody_who_waits_for_a_failed_commit_is_told(root: str, storage: FaultyStorage) -> None:
    engine = make_engine(root, storage)
    kept = [put(engine, "a", 1)]
    gate = threading.Event()
    storage.before_call = lambda kind, path: gate.wait(20) if kind == "sync_data" else None  # type: ignore[assignment]
    storage.fail("sync_data", path=LANES)
    outcomes: list[str] = []

    def append(number: int) -> None:
        try:
            outcomes.append(put(engine, "a", number))
        except MemstoreError as error:
            outcomes.append(type(error).__name__)

    threads = [threading.Thread(target=append, args=(number,)) for number in range(20)]
    for thread in threads:
        thread.start()
    gate.set()
    for thread in threads:
        thread.join(20)
    assert len(outcomes) == 20
    kept += [outcome for outcome in outcomes if outcome != "WriterBrokenError"]
    assert len(kept) < 21
    engine.close()
    with MemStore(root, settings=QUIET) as store:
        assert set(kept) <= {record.memory_id for record in store.agent("a").range()}


def test_store_whose_directory_is_taken_away_answers_every_append(root: str) -> None:
    engine = make_engine(root)
    shutil.move(os.path.join(root, "lanes"), os.path.join(root, "elsewhere"))
    for _ in range(2):  # the second one used to wait for ever for a committer that had died
        with pytest.raises(StorageError):
            put(engine, "a", 1)
    shutil.move(os.path.join(root, "elsewhere"), os.path.join(root, "lanes"))
    kept = [put(engine, "a", 2)]
    engine.close()
    open_and_check(root, {"a": kept})


def test_lane_has_its_first_line_on_disk_before_it_gets_its_name(root: str, storage: FaultyStorage) -> None:
    engine = make_engine(root, storage)
    storage.recording = True
    put(engine, "a", 1)
    calls = [kind for kind, path in storage.calls if "lanes" in path and kind in CHANGING_KINDS]
    assert calls[:5] == ["create", "write", "sync_data", "rename", "sync_directory"]
    assert calls[5:7] == ["write", "sync_data"], "a commit is one write and one sync"
    engine.close()


# -- merges


def fill(root: str, storage: FaultyStorage | None = None) -> dict[str, list[str]]:
    """Two agents with merged records, and three sealed lanes with more, over two days and out of order."""
    ids: dict[str, list[str]] = {"a": [], "B.b": []}
    for lane in range(4):
        engine = make_engine(root, storage, clock=ManualClock(T0_US + 86_400_000_000 + lane))
        for commit in range(3):
            given = [
                {
                    "agent_id": agent,
                    "content": f"{lane}-{commit}-{i} {BODY}",
                    "timestamp_utc": f"2025-01-1{5 + i % 2}T{(7 * commit + 3 * lane) % 24:02}:{i:02}:00Z"
                    if i % 2 == 0
                    else f"2025-01-15T{(7 * commit + 3 * lane) % 24:02}:{i:02}:00Z",
                }
                for agent in ids
                for i in range(4)
            ]
            for fields, memory_id in zip(given, put_many(engine, given), strict=True):
                ids[fields["agent_id"]].append(memory_id)
        if lane == 0:
            engine.drain(timeout_s=5)
        engine.close()
    assert len(lane_files(root)) == 3
    return {agent: sorted(of_agent) for agent, of_agent in ids.items()}


def merge_with(root: str, storage: FaultyStorage, *, file_syncs_max: int = 64) -> MemstoreError | None:
    """Drain through a storage; what it raised."""
    settings = {**QUIET, "merging": {"background": False, "file_syncs_max": file_syncs_max}}
    try:
        engine = make_engine(root, storage, settings=settings)
        engine.drain(timeout_s=5)
    except MemstoreError as error:
        return error
    finally:
        storage.disarm()
        with contextlib.suppress(UnboundLocalError):
            engine.close()
    return None


@pytest.mark.parametrize("file_syncs_max", [64, 0], ids=["fdatasync", "syncfs"])
def test_merge_that_fails_at_any_call_is_done_again_and_loses_and_doubles_nothing(
    tmp_path: Any, file_syncs_max: int
) -> None:
    pristine = str(tmp_path / "pristine")
    expected = fill(pristine)
    dry = FaultyStorage(LocalStorage())
    shutil.copytree(pristine, tmp_path / "dry")
    dry.recording = True
    assert merge_with(str(tmp_path / "dry"), dry, file_syncs_max=file_syncs_max) is None
    total = sum(1 for kind, _ in dry.calls if kind in CHANGING_KINDS)
    assert total > 15
    for number in range(total):
        root = str(tmp_path / f"failed-{number}")
        shutil.copytree(pristine, root)
        storage = FaultyStorage(LocalStorage())
        # Half of a write reaches the file, as on a disk that is full.
        storage.arm(Fault(CHANGING_KINDS, after=number, written_bytes=200 if number % 2 else 0))
        error = merge_with(root, storage, file_syncs_max=file_syncs_max)
        assert error is not None, f"call {number} failed and nobody said so"
        open_and_check(root, expected)
        shutil.rmtree(root)


def test_merge_that_fails_again_and_again_goes_on_from_anywhere(tmp_path: Any) -> None:
    """Not one failure but one after the other, each a few calls later than the last."""
    root = str(tmp_path / "store")
    expected = fill(root)
    failures = 0
    for number in range(0, 200, 3):
        storage = FaultyStorage(LocalStorage())
        storage.arm(Fault(CHANGING_KINDS, after=number, written_bytes=100))
        if merge_with(root, storage) is None:
            break
        failures += 1
        with MemStore(root, settings=QUIET) as store:
            assert_exactly(store, expected)
    assert failures > 5
    open_and_check(root, expected)


def copies_during_merge(tmp_path: Any, keep: Callable[[str, str], bool]) -> tuple[list[str], dict[str, list[str]]]:
    """Copies of a store as it stood before each call of a merge, and what each has to hold."""
    root = str(tmp_path / "store")
    expected = fill(root)
    copies: list[str] = []

    def copy(kind: str, path: str) -> None:
        if kind in CHANGING_KINDS and keep(kind, path):
            copies.append(str(tmp_path / f"copy-{len(copies):03}"))
            shutil.copytree(root, copies[-1])

    storage = FaultyStorage(LocalStorage())
    storage.before_call = copy
    assert merge_with(root, storage) is None
    return copies, expected


def test_process_killed_before_any_call_of_a_merge_loses_and_doubles_nothing(tmp_path: Any) -> None:
    copies, expected = copies_during_merge(tmp_path, lambda kind, path: True)
    assert len(copies) > 20
    for copy in copies:
        open_and_check(copy, expected)


def old_sizes(copy: str) -> dict[str, int]:
    return {path[len(copy) :]: os.path.getsize(path) for path in [*files_named(copy, "MANIFEST"), *_day_files(copy)]}


def _day_files(root: str) -> list[str]:
    return [
        os.path.join(directory, name)
        for directory, _, names in os.walk(os.path.join(root, "memory"))
        for name in names
        if name.endswith(".jsonl")
    ]


def _wipe(path: str, start: int) -> None:
    with open(path, "r+b") as file:
        file.seek(start)
        file.write(bytes(os.path.getsize(path) - start))


def _halve(path: str, start: int) -> None:
    os.truncate(path, start + (os.path.getsize(path) - start) // 2)


def _nothing(path: str, start: int) -> None:
    pass


def _drop(path: str, start: int) -> None:
    os.truncate(path, start)


LOSSES: dict[str, Callable[[str, int], None]] = {
    "kept": _nothing,
    "dropped": _drop,
    "cut in half": _halve,
    "wiped": _wipe,
}


@pytest.mark.parametrize("manifest_loss", LOSSES)
@pytest.mark.parametrize("file_loss", LOSSES)
def test_power_cut_in_the_middle_of_a_merge_loses_and_doubles_nothing(
    tmp_path: Any, file_loss: str, manifest_loss: str
) -> None:
    """Nothing was synced: of what the merge wrote, each file kept all, nothing, half or zeros. The lanes stand."""
    # Copies at the syncs: everything is written, and not all of it is durable.
    copies, expected = copies_during_merge(tmp_path, lambda kind, path: kind == "sync_data" and "memory" in path)
    copy = copies[0]
    before = str(tmp_path / "before")
    fill(before)
    sizes = old_sizes(before)
    for path in _day_files(copy):
        LOSSES[file_loss](path, sizes.get(path[len(copy) :], 0))
    for path in files_named(copy, "MANIFEST"):
        LOSSES[manifest_loss](path, sizes.get(path[len(copy) :], 0))
    assert len(lane_files(copy)) == 3
    open_and_check(copy, expected)


def test_merge_that_was_stopped_is_repeated_by_a_process_with_other_settings(tmp_path: Any) -> None:
    """The bytes of a day file depend on how much was sorted at once; whoever repeats the merge must get the same."""
    root = str(tmp_path / "store")
    expected = fill(root)
    storage = FaultyStorage(LocalStorage())
    storage.fail("sync_data", path="*/memory/*")
    settings = {**QUIET, "merging": {"background": False, "run_bytes_max": 1500}}
    engine = make_engine(root, storage, settings=settings)
    with pytest.raises(StorageError):
        engine.drain(timeout_s=1)
    engine.close()
    assert len(lane_files(root)) == 3
    open_and_check(root, expected)


@pytest.mark.parametrize("lost", ["a", "B.b"])
def test_power_cut_that_one_agent_survives_and_another_does_not(tmp_path: Any, lost: str) -> None:
    copies, expected = copies_during_merge(tmp_path, lambda kind, path: kind == "sync_data" and "memory" in path)
    copy = copies[0]
    before = str(tmp_path / "before")
    fill(before)
    sizes = old_sizes(before)
    for path in [*_day_files(copy), *files_named(copy, "MANIFEST")]:
        if os.path.basename(os.path.dirname(path)).startswith(lost[0].lower()):
            _wipe(path, sizes.get(path[len(copy) :], 0))
    open_and_check(copy, expected)


def test_power_cut_that_brings_an_unlinked_lane_back_doubles_nothing(tmp_path: Any) -> None:
    root = str(tmp_path / "store")
    expected = fill(root)
    for path in lane_files(root):
        shutil.copy(path, tmp_path)
    with MemStore(root, settings=QUIET) as store:
        store.drain()
    for path in tmp_path.glob("*.lane"):
        shutil.copy(path, os.path.join(root, "lanes"))
        open_and_check(root, expected)
        expected = {agent: _now(root, agent) for agent in expected}


def _now(root: str, agent: str) -> list[str]:
    with MemStore(root, settings=QUIET) as store:
        return [record.memory_id for record in store.agent(agent).range()]


def test_merge_without_room_to_finish_is_not_begun(root: str) -> None:
    expected = fill(root)
    storage = FaultyStorage(LocalStorage())
    storage.answers["free_bytes"] = 100_000
    storage.recording = True
    error = merge_with(root, storage)
    assert isinstance(error, StorageFullError)
    written = [path for kind, path in storage.calls if kind in ("write", "truncate", "create") and "memory" in path]
    assert written == []
    open_and_check(root, expected)


def test_ballast_is_given_up_for_a_merge_and_comes_back(root: str) -> None:
    expected = fill(root)
    ballast = os.path.join(root, "ballast")
    with open(ballast, "wb") as file:
        file.truncate(32 * 1024 * 1024)
    storage = FaultyStorage(LocalStorage())
    storage.answers["free_bytes"] = 1_000_000
    assert merge_with(root, storage) is None
    assert not os.path.exists(ballast)
    with MemStore(root, settings={**QUIET, "storage": {"ballast_bytes": 4096}}) as store:
        store.append(agent_id="c", content=1)
        store.drain()
        assert os.path.getsize(ballast) == 4096
        assert_exactly(store, expected)


def test_seal_without_space_leaves_the_records_readable_and_is_done_later(root: str) -> None:
    storage = FaultyStorage(LocalStorage())
    engine = make_engine(root, storage)
    kept = [put(engine, "a", n) for n in range(3)]
    storage.fill(path=LANES, written_bytes=60)
    with pytest.raises(StorageFullError):
        engine.drain(timeout_s=1)
    assert ids_of(engine, "a") == kept
    storage.disarm()
    assert engine.drain(timeout_s=5).pending == []
    assert ids_of(engine, "a") == kept
    engine.close()


# -- moves between shards


def spread(root: str) -> dict[str, list[str]]:
    """Twelve agents, half of them merged, half with something waiting as well."""
    ids: dict[str, list[str]] = {}
    engine = make_engine(root)
    for number in range(12):
        ids[f"agent-{number}"] = [put(engine, f"agent-{number}", number)]
    engine.drain(timeout_s=5)
    for number in range(6):
        ids[f"agent-{number}"].append(put(engine, f"agent-{number}", "waits"))
    engine.close()
    return ids


@pytest.mark.parametrize("volume", [False, True], ids=["same volume", "copied to another volume"])
def test_move_to_a_new_shard_that_fails_at_any_call_can_be_resumed(
    tmp_path: Any, volume: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if volume:  # every shard seems to lie on a file system of its own, so that agents are copied
        monkeypatch.setattr("memstore.engine.rebalance._device", lambda storage, path: hash(path))
    pristine = str(tmp_path / "pristine")
    expected = spread(pristine)
    number = 0
    while True:
        root = str(tmp_path / f"moved-{number}")
        shutil.copytree(pristine, root)
        storage = FaultyStorage(LocalStorage())
        engine = make_engine(root, storage)
        storage.arm(Fault(CHANGING_KINDS, after=number, written_bytes=50))
        try:
            engine.rebalancer.add_shard(None)
        except StorageError:
            failed = True
        else:
            failed = False
        storage.disarm()
        engine.close()
        with MemStore(root, settings=QUIET) as store:
            assert_exactly(store, expected)
            assert store.agents() == sorted(expected)
            more = {agent: [*ids, store.append(agent_id=agent, content="more")] for agent, ids in expected.items()}
            assert store.drain().pending == []
            assert_exactly(store, more)
            store.pin("agent-0", "shard_001")  # finishes what was begun, first
            assert_exactly(store, more)
            assert sum(shard["misplaced"] for shard in store.shards()) == 0
            assert sum(shard["agents"] for shard in store.shards()) == len(expected)
        shutil.rmtree(root)
        if not failed:
            break
        number += 5 if volume else 1  # copying takes many more calls
    assert number > 10


# -- waiting on each other


def test_drain_while_a_writer_waits_for_the_merge_lock_ends(root: str, storage: FaultyStorage) -> None:
    """The committer waits for the merge lock; the drain that holds it must not wait for the committer."""
    settings = {**TINY, "writing": {**TINY["writing"], "waiting_bytes_max": 4096}}
    settings["merging"] = {"background": False, "waiting_bytes": 4096}
    engine = make_engine(root, storage, settings=settings)
    ids = [put(engine, "a", "x" * 5000)]  # fills a lane
    engine.maintenance._seal_own()
    waits = threading.Event()

    def notice(kind: str, path: str) -> None:
        if (
            kind == "try_lock"
            and path.endswith("locks/merge")
            and threading.current_thread().name == "memstore-committer"
        ):
            waits.set()

    storage.before_call = notice
    writer = threading.Thread(target=lambda: ids.append(put(engine, "a", "y")), daemon=True)
    with locked(engine.storage, engine.paths.lock("merge")):
        writer.start()
        assert waits.wait(20)
        drain = threading.Thread(
            target=lambda: engine.maintenance.drain_locked(engine._committer, timeout_s=1), daemon=True
        )
        drain.start()
        drain.join(20)
        assert not drain.is_alive(), "the writer and the drain wait for each other"
    writer.join(20)
    assert not writer.is_alive()
    assert ids_of(engine, "a") == ids
    engine.close()


def test_second_drain_is_noticed_though_its_mark_looks_like_the_one_before_the_last(root: str) -> None:
    """Two replacements give a file its first inode again; a writer that slept through the first must see the second."""
    engine = make_engine(root)
    other = make_engine(root)
    put(engine, "a", 1)
    maintenance = engine.maintenance
    other.drain(timeout_s=3)
    put(engine, "a", 2)
    seen = maintenance._mark
    maintenance._closing = True  # sleeps through the next marks
    maintenance._bell.ring()
    assert maintenance._thread is not None
    maintenance._thread.join()
    for _ in range(2):
        assert other.drain(timeout_s=0).pending != []
    assert maintenance._read_mark() != seen
    maintenance._closing = False
    engine.close()
    other.close()


# -- file systems


@pytest.mark.parametrize("kind", ["nfs4", "cifs", "fuse.sshfs"])
def test_network_file_system_is_refused_before_anything_is_made(root: str, storage: FaultyStorage, kind: str) -> None:
    storage.answers["file_system_type"] = kind
    with pytest.raises(UnsupportedError, match=kind):
        make_engine(root, storage)
    assert not os.path.exists(root)
    make_engine(
        root, storage, settings={**QUIET, "storage": {"allow_network_file_system": True, "ballast_bytes": 0}}
    ).close()
    with pytest.raises(UnsupportedError):
        make_engine(root, storage)


def test_root_that_is_not_writable_is_refused_but_can_be_read(root: str, storage: FaultyStorage) -> None:
    engine = make_engine(root)
    kept = [put(engine, "a", 1)]
    engine.close()
    storage.answers["is_writable"] = False
    with pytest.raises(StorageError, match="not writable"):
        make_engine(root, storage)
    storage.arm(Fault(CHANGING_KINDS | {"open_update", "try_lock"}, times=-1))
    reader = make_engine(root, storage, read_only=True)
    assert ids_of(reader, "a") == kept
    reader.close()
