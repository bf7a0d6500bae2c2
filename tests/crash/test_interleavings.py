"""What goes by while somebody looks away: moves, merges, drains and appends at the worst moment hide nothing."""

from __future__ import annotations

import asyncio
import os
import resource
import shutil
import threading
from typing import Any

import pytest
from support import QUIET, files_named, flip, lane_files, make_engine, put, put_many

from memstore import CorruptionError, MemStore, StorageError, StorageFullError
from memstore.engine import maintenance as maintenance_module
from memstore.engine import rebalance
from memstore.engine.batch import LoopTicket, ThreadTicket, settle_tickets
from memstore.engine.piece_reader import PieceReader
from memstore.engine.view import ViewBuilder
from memstore.filters import build_filter
from memstore.fs.local import LocalStorage
from memstore.testing.faulty import FaultyStorage

EVERYTHING = build_filter(now_us=0)


@pytest.fixture
def root(tmp_path: Any) -> str:
    return str(tmp_path / "store")


def contents(engine: Any, agent: str = "bot", limit: int = 100) -> list[Any]:
    return [record.content for record in engine.reader.recent(agent, limit, EVERYTHING, on_damage="raise")]


def day_files(root: str) -> list[str]:
    return [os.path.join(d, name) for d, _, names in os.walk(root) for name in names if name.endswith(".jsonl")]


def merge_without_syncs(root: str) -> None:
    """A merge that wrote everything and was stopped before its sync: MANIFEST lines that cite lanes which stand."""
    storage = FaultyStorage(LocalStorage())
    storage.fail("sync_data", "sync_file_system", path="*/memory/*", times=-1)
    engine = make_engine(root, storage)
    with pytest.raises(StorageError):
        engine.drain(timeout_s=1)
    engine.close()


def test_read_that_distrusts_a_merge_sees_its_records_when_the_merge_is_repeated_meanwhile(
    root: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = make_engine(root)
    put(engine, "bot", "kept")
    engine.close()
    merge_without_syncs(root)
    (day_file,) = day_files(root)
    flip(day_file, 30)  # the page that never reached the disk
    reader, other = make_engine(root), make_engine(root)
    look = ViewBuilder.snapshot

    def snapshot(self: ViewBuilder, agent: str, *, distrusted: frozenset[str] = frozenset()) -> Any:
        if distrusted and self is reader.builder:
            other.drain(timeout_s=1)
        return look(self, agent, distrusted=distrusted)

    monkeypatch.setattr(ViewBuilder, "snapshot", snapshot)
    assert contents(reader) == ["kept"]
    assert lane_files(root) == []
    reader.close()
    other.close()


def test_answer_that_began_before_an_append_is_not_remembered_as_one_from_after_it(
    root: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = make_engine(root)
    put(engine, "bot", "old")
    engine.drain(timeout_s=1)
    read = PieceReader.data
    calls = 0

    def vanish_once(self: PieceReader, *arguments: Any) -> bytes:
        nonlocal calls
        calls += 1
        if calls == 2:
            put(engine, "bot", "newest")
            raise FileNotFoundError("moved")
        return read(self, *arguments)

    put(engine, "bot", "new")
    monkeypatch.setattr(PieceReader, "data", vanish_once)
    assert contents(engine)[-2:] == ["new", "old"]
    assert contents(engine) == ["newest", "new", "old"]
    engine.close()


def test_answer_that_left_out_damage_is_not_remembered(root: str) -> None:
    engine = make_engine(root)
    put(engine, "bot", "here")
    engine.drain(timeout_s=1)
    (day_file,) = day_files(root)
    flip(day_file, 30)
    assert engine.reader.recent("bot", 5, EVERYTHING, on_damage="skip") == []
    flip(day_file, 30)
    assert [r.content for r in engine.reader.recent("bot", 5, EVERYTHING, on_damage="skip")] == ["here"]
    engine.close()


def test_merge_of_an_agent_with_more_days_than_open_files_is_done(root: str) -> None:
    days = 300
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    engine = make_engine(root)
    put_many(
        engine,
        [
            {
                "agent_id": "bot",
                "content": n,
                "timestamp_utc": f"20{10 + n // 336}-{n // 28 % 12 + 1:02}-{n % 28 + 1:02}T00:00:00Z",
            }
            for n in range(days)
        ],
    )
    used = len(os.listdir("/proc/self/fd"))
    resource.setrlimit(resource.RLIMIT_NOFILE, (used + 150, hard))
    try:
        assert engine.drain(timeout_s=5).merged_lanes == 1
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert engine.reader.count("bot", EVERYTHING, on_damage="raise") == days
    engine.close()


@pytest.mark.parametrize("torn", [False, True])
def test_what_a_stopped_merge_left_is_known_when_the_next_one_takes_its_lanes_in_two_parts(
    root: str, monkeypatch: pytest.MonkeyPatch, torn: bool
) -> None:
    for n in range(3):
        engine = make_engine(root)
        put(engine, "bot", n)
        engine.close()
    merge_without_syncs(root)
    (manifest,) = files_named(root, "MANIFEST")
    with open(manifest, "rb") as file:
        first = len(file.readline())
        rest = len(file.readline())
    os.truncate(manifest, first + (rest // 2 if torn else 0))
    monkeypatch.setattr(maintenance_module, "LANES_PER_MERGE_MAX", 2)
    engine = make_engine(root)
    report = engine.drain(timeout_s=1)
    assert report.pending == []
    assert lane_files(root, ".kept") == []
    assert contents(engine) == [2, 1, 0]
    engine.close()


def test_loop_that_closes_while_its_append_ends_does_not_stop_the_committer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def closed(*arguments: Any) -> None:
        raise RuntimeError("Event loop is closed")

    loop = asyncio.new_event_loop()
    ticket = LoopTicket(loop)
    loop.close()
    monkeypatch.setattr(loop, "is_closed", lambda: False)  # it closes right after it was asked
    monkeypatch.setattr(loop, "call_soon_threadsafe", closed)
    settle_tickets([ticket], None)
    monkeypatch.undo()


def test_lane_that_appears_between_two_looks_of_another_thread_does_not_stop_a_merge(
    root: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = make_engine(root)
    put(engine, "bot", 1)
    engine.close()
    other = make_engine(root)
    real = maintenance_module.Maintenance._waiting
    forgetting = other.maintenance

    def waiting(self: Any) -> Any:
        found = real(self)
        forgetting._seals.clear()  # another thread whose listing is older than this lane
        return found

    monkeypatch.setattr(maintenance_module.Maintenance, "_waiting", waiting)
    assert other.drain(timeout_s=1).merged_lanes == 1
    other.close()


def test_lane_that_is_being_made_when_the_drain_asks_is_sealed_for_it(root: str) -> None:
    engine = make_engine(root)
    put(engine, "bot", 1)
    upkeep = engine.maintenance
    committer = engine._committer
    assert committer is not None
    lane, committer._lane = committer._lane, None  # its file stands, and the committer has not taken it up yet
    with open(upkeep._paths.seal_mark, "wb") as file:
        file.write(b"asked\n")
    upkeep._look_after_lane(committer)
    committer._lane = lane
    upkeep._look_after_lane(committer)
    assert committer.lane is None
    engine.close()


def engine_whose_maintenance_fails(root: str, monkeypatch: pytest.MonkeyPatch, error: Exception, *, times: int) -> Any:
    """A closed engine that appended, and whose maintenance failed more often than ``times``."""
    monkeypatch.setattr(maintenance_module, "TICK_S", 0.001)
    looks = 0
    often = threading.Event()
    look_of_others = maintenance_module.Maintenance._look_after_lane

    def look(self: Any, committer: Any) -> None:
        nonlocal looks
        if self._paths.root != root:  # an engine that an earlier test left open
            look_of_others(self, committer)
            return
        looks += 1
        if looks > times:
            often.set()
        raise type(error)(f"{error} {looks}")

    monkeypatch.setattr(maintenance_module.Maintenance, "_look_after_lane", look)
    engine = make_engine(root)
    put(engine, "bot", 1)
    assert often.wait(5)
    engine.close()
    return engine


def test_maintenance_goes_on_after_an_error_of_any_kind(root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    engine_whose_maintenance_fails(root, monkeypatch, FileNotFoundError("lanes"), times=1)


@pytest.mark.parametrize("error", [StorageFullError("bytes that are free:"), FileNotFoundError("lanes")])
def test_a_failure_that_goes_on_is_logged_once_and_counted_each_time(
    root: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    engine = engine_whose_maintenance_fails(root, monkeypatch, error, times=20)
    assert engine.metrics.snapshot()["maintenance_failures"] >= 20
    assert len([r for r in caplog.records if "will try again" in r.message and root in r.message]) == 1


def test_agent_that_went_to_another_volume_and_came_back_is_read_from_where_it_is(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = str(tmp_path / "store")
    volume = tmp_path / "volume"
    volume.mkdir()
    monkeypatch.setattr(rebalance, "_device", lambda storage, path: hash("volume" in path))
    settings = {**QUIET, "storage": {"ballast_bytes": 0, "shards": 1}}
    with MemStore(root, settings=settings) as store, MemStore(root, settings=QUIET) as other:
        store.append(agent_id="bot", content=1)
        store.drain()
        assert [r.content for r in other.agent("bot").range()] == [1]
        store.add_shard(str(volume))
        store.pin("bot", "shard_001")
        store.append(agent_id="bot", content=2)
        store.drain()
        store.pin("bot", "shard_000")
        assert [r.content for r in other.agent("bot").range()] == [1, 2]


@pytest.mark.parametrize("emptied", [False, True], ids=["missing", "empty"])
def test_lost_manifest_is_damage_and_no_new_one_is_begun_beside_its_day_files(root: str, emptied: bool) -> None:
    with MemStore(root, settings=QUIET) as store:
        store.append(agent_id="bot", content=1, timestamp="2025-01-15T00:00:00Z")
        store.drain()
    (manifest,) = files_named(root, "MANIFEST")
    os.truncate(manifest, 0) if emptied else os.unlink(manifest)
    with MemStore(root, settings=QUIET) as store:
        with pytest.raises(CorruptionError, match="MANIFEST"):
            store.agent("bot").recent()
        store.append(agent_id="bot", content=2)
        store.drain()
        with pytest.raises(CorruptionError, match="MANIFEST"):
            store.agent("bot").recent()
        assert [r.content for r in store.agent("bot").recent(on_damage="skip")] == [2]


@pytest.mark.parametrize("agent", ["bot", "B.b"])
def test_move_does_not_leave_an_agent_behind_whose_manifest_is_wiped(root: str, agent: str) -> None:
    with MemStore(root, settings=QUIET) as store:
        store.append(agent_id=agent, content=1)
        store.drain()
    (manifest,) = files_named(root, "MANIFEST")
    with open(manifest, "r+b") as file:
        file.write(bytes(os.path.getsize(manifest)))
    here = os.path.basename(os.path.dirname(os.path.dirname(manifest)))
    there = "shard_000" if here == "shard_001" else "shard_001"
    with MemStore(root, settings=QUIET) as store:
        if agent == "bot":  # its directory's name says whose it is
            assert store.pin(agent, there)["moved"] == 1
        else:
            with pytest.raises(StorageError, match="nobody can tell whose"):
                store.pin(agent, there)
        with pytest.raises(CorruptionError):
            store.agent(agent).recent()


def test_sealed_lane_counts_what_it_remembers_of_each_agent(root: str) -> None:
    engine = make_engine(root)
    put_many(engine, [{"agent_id": f"bot{n}", "content": n} for n in range(50)])
    engine.close()
    reader = make_engine(root, read_only=True)
    before = reader.lanes.memory_bytes
    for n in range(50):
        assert contents(reader, f"bot{n}") == [n]
    assert reader.lanes.memory_bytes >= before + 50 * 300
    reader.close()


def test_agent_whose_manifest_no_longer_says_its_name_is_missed_and_not_forgotten(root: str) -> None:
    with MemStore(root, settings=QUIET) as store:
        for agent in ("plain", "B.b"):
            store.append(agent_id=agent, content=1)
        store.drain()
    (manifest,) = (path for path in files_named(root, "MANIFEST") if "~" in path)
    flip(manifest, 30)
    with MemStore(root, settings=QUIET) as store:
        with pytest.raises(CorruptionError, match="first line"):
            store.agents()
        stats = store.stats()
        assert (stats["agents"], stats["records"]) == (1, 1)
        assert [found["path"] for found in stats["damage"]] == [manifest]
        assert sum(shard["agents"] for shard in store.shards()) == 2


def test_shard_whose_adding_was_interrupted_is_finished_by_adding_it_again(root: str) -> None:
    storage = FaultyStorage(LocalStorage())
    engine = make_engine(root, storage)
    for n in range(20):
        put(engine, f"bot{n}", n)
    engine.drain(timeout_s=1)
    storage.fail("rename", path="*/bot*", after=2)
    with pytest.raises(StorageError):
        engine.rebalancer.add_shard(None)
    name, report = engine.rebalancer.add_shard(None)
    assert name == "shard_002"
    assert report.moved > 0
    assert len(engine.catalog.reload().store.shards) == 3
    assert engine.rebalancer.add_shard(None)[0] == "shard_003"
    engine.close()


def test_interrupted_import_holds_the_others_off_until_its_commit_has_ended(
    root: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = FaultyStorage(LocalStorage())
    engine = make_engine(root, storage)
    put(engine, "bot", "before")
    go_on = threading.Event()
    storage.before_call = lambda kind, path: (kind == "sync_data" and "lanes" in path and go_on.wait(5)) and None
    wait = ThreadTicket.wait
    interrupted = False

    def interrupt_once(self: ThreadTicket) -> None:
        nonlocal interrupted
        if not interrupted:
            interrupted = True
            threading.Timer(0.05, go_on.set).start()
            raise KeyboardInterrupt
        wait(self)

    monkeypatch.setattr(ThreadTicket, "wait", interrupt_once)
    with pytest.raises(KeyboardInterrupt):
        put(engine, "bot", "imported", source_id="1", timestamp_utc="2025-01-15T00:00:00Z")
    assert go_on.is_set(), "the import lock was let go while the commit was under way"
    engine.close()


def test_dead_writer_may_have_torn_only_its_last_commit_and_what_else_does_not_verify_is_damage(root: str) -> None:
    engine = make_engine(root)
    ends = []
    for n in range(3):
        put(engine, "bot", n)
        ends.append(os.path.getsize(lane_files(root)[0]))
    shutil.copytree(root, root + "-copy")
    engine.close()
    (lane,) = lane_files(root + "-copy")
    flip(lane, ends[1] - 5)  # acknowledged long ago
    flip(lane, ends[2] - 5)  # being written when the power went
    with MemStore(root + "-copy", settings=QUIET) as store:
        store.drain()
        with pytest.raises(CorruptionError):
            store.agent("bot").recent()
        assert [r.content for r in store.agent("bot").recent(on_damage="skip")] == [0]


def test_lanes_that_are_kept_for_repair_hold_no_more_descriptors_than_are_allowed(root: str) -> None:
    with MemStore(root, settings=QUIET) as store:
        store.append(agent_id="broken", content=0)
        store.append(agent_id="sound", content=0)
        store.drain()
        (manifest,) = [path for path in files_named(root, "MANIFEST") if "/broken/" in path]
        store.append(agent_id="broken", content=1)
        store.drain()
    flip(manifest, os.path.getsize(manifest) // 2)
    with MemStore(root, settings={**QUIET, "reading": {"open_files_max": 8}}) as store:
        before = len(os.listdir("/proc/self/fd"))
        for number in range(1, 40):
            store.append_many([{"agent_id": agent, "content": number} for agent in ("broken", "sound")])
            store.drain()
            assert [r.content for r in store.agent("sound").recent(2)] == [number, number - 1]
        assert len(lane_files(root, ".kept")) >= 39
        assert len(os.listdir("/proc/self/fd")) < before + 20
        with pytest.raises(CorruptionError):
            store.agent("broken").count()
        assert store.agent("sound").count() == 40
