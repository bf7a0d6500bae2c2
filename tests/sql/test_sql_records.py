"""The view has each record exactly once, whatever it lies in and whatever moves: it is held against `range`."""

from __future__ import annotations

import gc
import json
import multiprocessing
import os
import shutil
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from lifecycle_support import DAY_S, LIVELY, iso, tiers
from support import T0_US, TINY, files_named, flip, lane_files

from memstore import CorruptionError, MemStore, StorageError, UsageError
from memstore.clock import ManualClock
from memstore.sql import COLUMNS, ask, connect
from memstore.sql import plan as plan_module
from memstore.sql import query as query_module
from memstore.sql.record_file import RecordFile

pytest.importorskip("duckdb")
pytest.importorskip("fsspec")

AGENTS = ("bdi_1", "bdi_2", "Odd Agent/ä")
ALL_COLUMNS = [column.name for column in COLUMNS]
OPTIONAL = {"input", "response", "content", "context", "metadata", "relationships"}
spawn = multiprocessing.get_context("spawn")


def asked(store: MemStore, query: str = "SELECT * FROM memories", **options: Any) -> list[tuple[Any, ...]]:
    with ask(store, query, **options) as answer:
        return list(answer)


def ids(store: MemStore, **options: Any) -> list[str]:
    return sorted(row[0] for row in asked(store, "SELECT memory_id FROM memories", **options))


def ids_by_range(store: MemStore, agents: tuple[str, ...] | None = None, **filters: Any) -> list[str]:
    return sorted(
        record.memory_id
        for agent in (store.agents() if agents is None else agents)
        for record in store.agent(agent).range(**filters)
    )


def rows_by_range(store: MemStore) -> dict[str, dict[str, Any]]:
    """What the view must show of each record, by id."""
    found = {}
    for agent in store.agents():
        for record in store.agent(agent).range():
            fields = msgspec.to_builtins(record)
            row = {name: fields.get(name) for name in ALL_COLUMNS}
            row["tags"] = fields.get("tags", [])
            row["session_id"] = fields.get("context", {}).get("session_id")
            row["user_id"] = fields.get("context", {}).get("user_id")
            row["timestamp_utc"] = record.timestamp_utc.removesuffix("Z")
            assert record.memory_id not in found
            found[record.memory_id] = row
    return found


def rows_by_sql(store: MemStore) -> dict[str, dict[str, Any]]:
    found = {}
    for values in asked(store):
        row = dict(zip(ALL_COLUMNS, values, strict=True))
        for name in OPTIONAL:
            row[name] = None if row[name] is None else json.loads(row[name])
        row["timestamp_utc"] = row["timestamp_utc"].isoformat(timespec="microseconds")
        assert row["memory_id"] not in found
        found[row["memory_id"]] = row
    return found


def assert_same(store: MemStore) -> None:
    assert ids(store) == ids_by_range(store)
    assert rows_by_sql(store) == rows_by_range(store)


def hot_file(store: MemStore) -> str:
    (path,) = [path for path in files_ending(store.root, ".jsonl") if "/bdi_1/20250114." in path]
    return path


def record(agent: str, day: float, number: int, **fields: Any) -> dict[str, Any]:
    return {
        "agent_id": agent,
        "timestamp_utc": iso(day + number / 1000),
        "content": {"number": number, "text": "é\n" + "w" * 200},
        "tags": ["one", f"n{number % 3}"],
        "context": {"session_id": f"s{number % 5}", "user_id": "u"},
        **fields,
    }


def machine_state(agent: str, day: float, number: int) -> dict[str, Any]:
    """One of many that say the same, which are collapsed."""
    return record(
        agent,
        day,
        number,
        content={"state": "idle " * 40},
        memory_type="SYSTEM_STATE",
        importance="LOW",
        source_id=f"{agent}-{day}-{number}",
        tags=["one"],
        context={"session_id": "s"},
    )


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(T0_US)


@pytest.fixture
def aged(tmp_path: Any, clock: ManualClock, monkeypatch: pytest.MonkeyPatch) -> Iterator[MemStore]:
    """Every way to lie: cold with repeats, warm, hot, late for each, hidden in each, in the trash, in a lane."""
    for sync in ("fsync", "fdatasync"):
        monkeypatch.setattr(f"os.{sync}", lambda _: None)
    settings = {
        **LIVELY,
        "storage.lifecycle.deduplication_enabled": True,
        "storage.retention.rules": [{"agent": "bdi_1", "keep_days": 100}],
    }
    with MemStore(tmp_path / "store", settings=settings, clock=clock, durability="os") as store:
        clock.advance(-148 * DAY_S)  # retention counts from when a record came
        for day in (-150, -149, -60, -59, -58, -20, -19, -3, -1):
            if day == -60:
                store.drain()
                clock.advance(148 * DAY_S)
            for agent in AGENTS:
                store.append_many(
                    [record(agent, day, number) for number in range(30)]
                    + [machine_state(agent, day, number) for number in range(30, 90)]
                )
        store.drain()
        for _ in range(2):  # what the first packs, retention takes in the second
            store.maintain(trust_clock=True)
        for day in (-60, -20, -3):  # late
            store.append_many(record(agent, day, number) for agent in AGENTS for number in range(500, 510))
        store.drain()
        for agent in AGENTS:
            some = [found.memory_id for found in store.agent(agent).range()][::17]
            store.forget(some)
        store.append_many(record(agent, -60, 600 + number) for agent in AGENTS for number in range(7))
        store.append_many(record(agent, -0.5, number) for agent in AGENTS for number in range(20))
        (hidden_in_lane,) = store.append_many([record(AGENTS[0], -0.25, 1)])
        store.forget(hidden_in_lane)
        yield store


def test_every_tier_gives_each_record_once_and_whole(aged: MemStore) -> None:
    assert {"hot", "warm", "cold"} <= tiers(aged).keys()
    assert files_named(aged.root, "MANIFEST")
    manifests = [aged._engine.builder.manifest(agent) for agent in AGENTS]
    assert any(packed.repeats for manifest in manifests for packed in manifest.packed.values()), "nothing is collapsed"
    assert any(manifest.trash for manifest in manifests), "nothing is in the trash"
    assert all(manifest.hidden.ids for manifest in manifests), "nothing is hidden"
    assert lane_files(aged.root), "nothing is unmerged"
    assert_same(aged)


def test_a_store_opened_read_only_gives_the_same_and_nothing_in_it_is_changed(aged: MemStore) -> None:
    def state() -> dict[str, tuple[int, int]]:
        return {
            os.path.join(directory, name): (status.st_size, status.st_mtime_ns)
            for directory, _, names in os.walk(aged.root)
            for name in names
            for status in [os.stat(os.path.join(directory, name))]
        }

    before = state()
    with MemStore(aged.root, read_only=True) as reader:
        assert ids(reader) == ids_by_range(aged)
        with connect(reader) as connection:
            connection.execute("CREATE TABLE own AS SELECT * FROM memories")
    assert state() == before


def test_what_a_killed_merge_left_behind_a_day_file_is_not_seen(aged: MemStore) -> None:
    path = hot_file(aged)
    with open(path, "ab") as file:
        file.write(b'{"memory_id":"bdi_1_20250114_000000_0000000000000100000000","torn')
    assert_same(aged)


def test_agents_and_times_choose_records_and_files(aged: MemStore, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    open_file = plan_module.PieceReader.open

    def noted(self: Any, manifest: Any, file: str) -> Any:
        opened.append(f"{manifest.agent}/{file}")
        return open_file(self, manifest, file)

    monkeypatch.setattr(plan_module.PieceReader, "open", noted)
    assert ids(aged, agents="bdi_*") == ids_by_range(aged, ("bdi_1", "bdi_2"))
    assert {name.partition("/")[0] for name in opened} == {"bdi_1", "bdi_2"}
    opened.clear()
    assert ids(aged, since="30d", until=iso(-2.9)) == ids_by_range(aged, since="30d", until=iso(-2.9))
    assert opened
    assert not any("/202411" in name for name in opened)
    assert ids(aged, since=iso(-20), until=iso(-19)) == ids_by_range(aged, since=iso(-20), until=iso(-19))
    assert ids(aged, since=iso(10)) == []
    with pytest.raises(UsageError, match=r"no agent of the store is 'nobody\*'"):
        ids(aged, agents=["bdi_1", "nobody*"])


@pytest.mark.skipif(not os.path.isdir("/dev/fd"), reason="descriptors are not listed here")
def test_no_file_stays_open_behind_a_query(aged: MemStore) -> None:
    ids(aged)
    gc.collect()  # what tests before this one left is closed now, and not in the middle of it
    before = len(os.listdir("/dev/fd"))
    for _ in range(3):
        ids(aged)
        with connect(aged) as connection:
            connection.execute("SELECT count(*) FROM memories").fetchall()
            assert len(os.listdir("/dev/fd")) > before
        del connection
    assert len(os.listdir("/dev/fd")) == before


def test_an_agent_whose_id_looks_like_a_pattern_can_be_named(store: MemStore) -> None:
    for agent in ("a[1]", "a1"):
        store.append(agent_id=agent, content=agent)
    assert sorted(asked(store, "SELECT agent_id FROM memories", agents="a[1]")) == [("a1",), ("a[1]",)]
    assert asked(store, "SELECT agent_id FROM memories", agents="a[[]1]") == [("a[1]",)]


def test_an_empty_store_has_an_empty_view(store: MemStore) -> None:
    assert asked(store, "SELECT count(*), min(timestamp_utc) FROM memories") == [(0, None)]


def test_unusual_values_come_as_they_are(store: MemStore) -> None:
    store.append(
        agent_id="a", content={"n": [2**63, -(2**63), -0.0, 1e300, True, None], "t": "nul \u0000 \u2028 \U0001f600"}
    )
    store.append(agent_id="a", content="a text", tags=["nul \u0000", "é"], source_id="x'\"\\y", timestamp="2d")
    store.append(agent_id="a", content="x" * 3_000_000)  # a line longer than DuckDB expects
    store.append(agent_id="a", input="q", response="r", content=[{"deep": {"er": []}}])
    store.append(agent_id="a", timestamp="1970-01-01T00:00:00Z")
    assert_same(store)
    store.drain()
    assert_same(store)


@pytest.mark.parametrize("rounds", [3])
def test_what_one_connection_sees_stays_while_everything_under_it_moves(
    aged: MemStore, clock: ManualClock, rounds: int
) -> None:
    expected = ids_by_range(aged)
    before = {path for ending in (".jsonl", ".zst") for path in files_ending(aged.root, ending)}
    with connect(aged) as connection:
        for number in range(rounds):
            found = connection.execute("SELECT memory_id FROM memories").fetchall()
            assert sorted(row[0] for row in found) == expected
            aged.append_many([record("bdi_1", -1, 700 + number)])  # into a day file that the connection reads
            aged.drain()
            clock.advance(12 * DAY_S)
            aged.maintain(trust_clock=True)
        found = connection.execute("SELECT a.memory_id FROM memories a JOIN memories b USING (memory_id)").fetchall()
        assert sorted(row[0] for row in found) == expected
    after = {path for ending in (".jsonl", ".zst") for path in files_ending(aged.root, ending)}
    assert not before & after, "some files were not moved"
    assert_same(aged)


def files_ending(root: str, ending: str) -> list[str]:
    return [
        os.path.join(directory, name)
        for directory, _, names in os.walk(os.path.join(root, "memory"))
        for name in names
        if name.endswith(ending)
    ]


def test_a_move_under_a_query_that_may_hold_no_files_open_is_followed(
    aged: MemStore, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan_module, "_files_held_max", lambda: 1)
    opened: list[bool] = []
    open_database = query_module.open_database

    def and_move(*args: Any, **options: Any) -> Any:
        made = open_database(*args, **options)
        if not opened:
            clock.advance(12 * DAY_S)
            aged.maintain(trust_clock=True)
        opened.append(True)
        return made

    monkeypatch.setattr(query_module, "open_database", and_move)
    assert ids(aged) == ids_by_range(aged)
    assert len(opened) == 2


def test_a_move_behind_rows_that_were_given_out_is_told(
    aged: MemStore, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan_module, "_files_held_max", lambda: 1)
    read = RecordFile._read

    def missing(self: RecordFile, position: int, stop: int) -> bytes:
        raise FileNotFoundError(2, "No such file", "20250114.1.jsonl")

    monkeypatch.setattr(RecordFile, "_read", missing)
    with pytest.raises(StorageError, match=r"20250114\.1\.jsonl: moved away while the query read it; run it again"):
        ids(aged)
    monkeypatch.setattr(RecordFile, "_read", read)
    assert_same(aged)


def test_an_agent_that_moves_to_another_shard_under_a_query_stays_whole(aged: MemStore) -> None:
    with connect(aged) as connection:
        expected = ids_by_range(aged)
        aged.add_shard()
        for agent in AGENTS:
            aged.pin(agent, "shard_002")
        assert sorted(row[0] for row in connection.execute("SELECT memory_id FROM memories").fetchall()) == expected
    assert_same(aged)


# -- damage


def damage(path: str) -> None:
    flip(path, 100)


def test_damage_is_an_error_with_its_place_and_can_be_read_around(
    aged: MemStore, caplog: pytest.LogCaptureFixture
) -> None:
    hot = hot_file(aged)
    cold = next(path for path in files_ending(aged.root, ".zst") if "archive/bdi_2" in path and ".trash" not in path)
    for path in (hot, cold):
        damage(path)
        with pytest.raises(CorruptionError, match="affected") as caught:
            ids(aged)
        assert caught.value.path == path
        assert caught.value.records
        aged._engine.pieces.clear()  # frames that were unpacked before
        expected = ids_by_range(aged, on_damage="skip")
        caplog.clear()
        assert ids(aged, on_damage="skip") == expected
        assert path in caplog.text
        flip(path, 100)
    assert_same(aged)


def test_damage_where_nothing_is_asked_for_hinders_nobody(aged: MemStore) -> None:
    damage(hot_file(aged))
    assert ids(aged, agents="bdi_2") == ids_by_range(aged, ("bdi_2",))
    assert ids(aged, until=iso(-2)) == ids_by_range(aged, until=iso(-2))


def test_a_missing_file_is_damage(aged: MemStore) -> None:
    path = hot_file(aged)
    os.unlink(path)
    aged._engine.handles.clear()
    with pytest.raises(CorruptionError, match="the file is missing"):
        ids(aged)
    assert ids(aged, on_damage="skip") == ids_by_range(aged, on_damage="skip")


def test_damage_in_a_lane_is_an_error_and_can_be_read_around(store: MemStore) -> None:
    for number in range(5):
        store.append(agent_id="a", content=number)
    (path,) = lane_files(store.root)
    flip(path, 500)
    with MemStore(store.root, read_only=True) as reader:
        with pytest.raises(CorruptionError, match=r"\.lane"):
            ids(reader)
        assert ids(reader, on_damage="skip") == ids_by_range(reader, on_damage="skip")


def test_a_merge_that_the_power_cut_off_before_its_sync_is_read_from_its_lanes(store: MemStore) -> None:
    for agent in ("a", "b"):
        store.append_many({"agent_id": agent, "content": number} for number in range(50))
    expected = ids_by_range(store)
    (lane,) = lane_files(store.root)
    shutil.copyfile(lane, f"{lane}.aside")
    store.drain()
    shutil.move(f"{lane}.aside", lane)
    day_file = files_ending(store.root, ".jsonl")[0]
    size = os.path.getsize(day_file)
    with open(day_file, "r+b") as file:
        file.write(b"\0" * size)
    with MemStore(store.root, read_only=True) as reader:
        assert ids_by_range(reader) == expected
        assert ids(reader) == expected
        assert ids(reader, on_damage="skip") == expected


# -- others write meanwhile


def write(root: str, number: int, barrier: Any, done: Any) -> None:
    with MemStore(root, settings=TINY) as store:
        barrier.wait(60)
        for batch in range(60):
            store.append_many({"agent_id": f"w{n % 3}", "content": [number, batch, n]} for n in range(9))
        store.drain()
    done.release()


@pytest.mark.kill
def test_queries_among_processes_that_write_and_merge_see_whole_batches_and_each_record_once(tmp_path: Any) -> None:
    root, writers = str(tmp_path / "store"), 2
    MemStore(root, settings=TINY).close()
    barrier, done = spawn.Barrier(writers + 1), spawn.Semaphore(0)
    processes = [spawn.Process(target=write, args=(root, number, barrier, done)) for number in range(writers)]
    for process in processes:
        process.start()
    with MemStore(root, read_only=True) as reader:
        barrier.wait(60)
        finished, looks, seen = 0, 0, 0
        query = """
            SELECT count(*), count(DISTINCT memory_id) FROM memories
            UNION ALL SELECT count(*), 0 FROM (
                SELECT agent_id, content->>0 AS w, content->>1 AS b FROM memories GROUP BY ALL HAVING count(*) <> 3)
        """
        while finished < writers:
            finished += done.acquire(block=False)
            (total, distinct), (torn, _) = asked(reader, query)
            assert total == distinct, "a record is there twice"
            assert torn == 0, "a batch is there in part"
            assert total >= seen, "a record went away"
            seen, looks = total, looks + 1
        for process in processes:
            process.join(60)
            assert process.exitcode == 0
        assert ids(reader) == ids_by_range(reader)
        assert len(ids(reader)) == writers * 60 * 9
        assert looks > 1


def test_rows_are_given_out_before_the_last_are_read(store: MemStore, monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(12):
        store.append_many({"agent_id": "a", "content": "x" * 20_000} for _ in range(500))
    store.drain()
    read_to: list[int] = []
    read = RecordFile._read

    def noted(self: RecordFile, position: int, stop: int) -> bytes:
        read_to.append(stop)
        return read(self, position, stop)

    monkeypatch.setattr(RecordFile, "_read", noted)
    with ask(store, "SELECT * FROM memories") as answer:
        batches = answer.batches()
        first = len(next(batches))
        assert max(read_to) < 12 * 500 * 20_000 * 0.9
        assert first + sum(map(len, batches)) == 6000
