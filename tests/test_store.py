"""The face: what an agent developer types."""

import datetime as dt
import os
import subprocess
import sys

import pytest

import memstore
from memstore import Importance, MemoryRecord, MemoryType, MemStore
from memstore.clock import ManualClock
from memstore.errors import InvalidRecordError, NotFoundError, ReadOnlyError, StoreClosedError, UsageError

NOW_US = 1_736_951_400_000_000  # 2025-01-15T14:30:00Z


@pytest.fixture
def store(tmp_path):
    with MemStore(tmp_path / "data", settings={"storage.ballast_bytes": 0}) as opened:
        yield opened


def test_three_lines_of_python(tmp_path):
    with MemStore(tmp_path / "data") as store:
        bot = store.agent("bdi_agent_001")
        memory_id = bot.append(
            input="Analyze the market", response="Three clusters", importance="HIGH", tags=["market"]
        )
        record = store.get(memory_id)
    assert record is not None
    assert (record.input.content, record.response.content) == ("Analyze the market", "Three clusters")
    assert (record.importance, record.memory_type, record.tags) == (Importance.HIGH, MemoryType.INTERACTION, ["market"])
    assert record.memory_id == memory_id


def test_what_was_written_is_there_after_reopening_and_in_plain_files(tmp_path):
    root = tmp_path / "data"
    with MemStore(root) as store:
        ids = [store.agent("bot").append(content=n) for n in range(10)]
    with MemStore(root, read_only=True) as store:
        assert [r.memory_id for r in store.agent("bot").range()] == ids
        assert store.stats()["lanes"] == {"open": 0, "sealed": 0, "bytes": 0, "index_bytes": 0}
    (day_file,) = root.glob("memory/shards/*/bot/*.jsonl")
    assert [memstore.record.decode_record(line).content for line in day_file.read_bytes().splitlines()] == list(
        range(10)
    )


def test_a_batch_is_stored_whole_and_its_ids_come_in_order(store):
    ids = store.append_many([{"agent_id": f"a{n % 3}", "content": n} for n in range(30)])
    assert [r.content for r in store.get_many(ids)] == list(range(30))
    assert store.agents() == ["a0", "a1", "a2"]
    assert [store.agent(a).count() for a in store.agents()] == [10, 10, 10]


def test_one_bad_record_refuses_its_batch_and_is_named(store):
    with pytest.raises(InvalidRecordError, match=r"record 2 of the batch.*NaN") as caught:
        store.append_many([{"agent_id": "a"}, {"agent_id": "a"}, {"agent_id": "a", "content": float("nan")}])
    assert caught.value.index == 2
    with pytest.raises(InvalidRecordError, match=r"record 1 of the batch.*1970"):
        store.append_many([{"agent_id": "a"}, {"agent_id": "a", "timestamp_utc": "1969-12-31"}])
    assert store.agents() == []
    assert store.append_many([]) == []


def test_memory_records_can_be_appended_as_they_are(store):
    bot = store.agent("bot")
    (one,) = store.append_many([MemoryRecord(agent_id="bot", memory_type=MemoryType.GOAL, content="x")])
    (two,) = bot.append_many([MemoryRecord(content="y")])
    (three,) = bot.append_many([{"content": "z"}])
    assert [r.content for r in bot.range()] == ["x", "y", "z"]
    assert [r.memory_id for r in bot.range()] == [one, two, three]


def test_recent_gives_the_newest_first(store):
    bot = store.agent("bot")
    ids = [bot.append(content=n) for n in range(30)]
    assert [r.memory_id for r in bot.recent(5)] == ids[:-6:-1]
    assert len(bot.recent()) == 20
    assert bot.recent(0) == []
    with pytest.raises(UsageError):
        bot.recent(-1)


def test_filters_by_type_importance_tags_session_and_context(store):
    bot = store.agent("bot")
    bot.append(memory_type="ERROR", importance="CRITICAL", tags=["net", "db"], session="s1", content=0)
    bot.append(memory_type="GOAL", importance="HIGH", tags=["db"], context={"user_id": 7}, content=1)
    bot.append(importance="LOW", tags=["ui"], session="s2", content=2)

    def found(**filters):
        contents = [r.content for r in bot.range(**filters)]
        assert bot.count(**filters) == len(contents)
        assert [r.content for r in bot.recent(10, **filters)] == contents[::-1]
        return contents

    assert found(memory_type="ERROR") == [0]
    assert found(memory_type=[MemoryType.ERROR, "INTERACTION"]) == [0, 2]
    assert found(importance="HIGH") == [1]
    assert found(min_importance=Importance.HIGH) == [0, 1]
    assert found(tags=["net", "ui"]) == [0, 2]
    assert found(tags="db") == [0, 1]
    assert found(tags_all=["net", "db"]) == [0]
    assert found(session="s1") == [0]
    assert found(context={"user_id": 7}) == [1]
    assert found(context={"user_id": [7]}) == []
    assert found(memory_type="ERROR", importance="LOW") == []
    for bad in (
        {"memory_type": "DREAM"},
        {"memory_type": 5},
        {"importance": "high"},
        {"since": "soon"},
        {"since": 1_736_951_400},
        {"tags": [1]},
        {"tags": 5},
        {"colour": "red"},
    ):
        with pytest.raises(UsageError):
            bot.count(**bad)


def test_ranges_are_half_open_in_time_and_run_both_ways(tmp_path):
    clock = ManualClock(NOW_US)
    with MemStore(tmp_path, clock=clock) as store:
        bot = store.agent("bot")
        for hour in range(72):
            bot.append(content=hour, timestamp=dt.datetime(2025, 1, 12) + dt.timedelta(hours=hour))
        assert [r.content for r in bot.range(since="2025-01-12T10:00:00Z", until="2025-01-12T12:00:00Z")] == [10, 11]
        assert [r.content for r in bot.range(since="1d")] == list(range(63, 72))
        assert [r.content for r in bot.range(newest_first=True)] == list(range(71, -1, -1))
        assert bot.count(since="2025-01-13", until="2025-01-14") == 24
        store.drain()
        assert bot.count(since="2025-01-13", until="2025-01-14") == 24
        assert len(list(store._engine.storage.list_directory(store._engine.builder.manifest("bot").directory))) == 4
        with pytest.raises(UsageError, match="after until"):
            bot.count(since="1d", until="2d")


def test_late_arrivals_take_their_place_in_time(tmp_path):
    with MemStore(tmp_path, clock=ManualClock(NOW_US)) as store:
        bot = store.agent("bot")
        for minute in (30, 10, 20, 0, 40):
            bot.append(content=minute, timestamp=f"2025-01-15T10:{minute:02d}:00Z")
            store.drain()
        assert [r.content for r in bot.range()] == [0, 10, 20, 30, 40]
        assert [r.content for r in bot.recent(2)] == [40, 30]


def test_records_of_one_clock_reading_keep_their_order(tmp_path):
    with MemStore(tmp_path, clock=ManualClock(NOW_US)) as store:
        bot = store.agent("bot")
        ids = [bot.append(content=n) for n in range(5)] + bot.append_many([{"content": n} for n in range(5, 10)])
        assert len(set(ids)) == 10
        assert [r.content for r in bot.range()] == list(range(10))


def test_a_clock_that_steps_back_makes_no_id_twice(tmp_path):
    clock = ManualClock(NOW_US)
    with MemStore(tmp_path, clock=clock) as store:
        bot = store.agent("bot")
        ids = []
        for step in (0, 10, -3600, -86_400 * 400, 5, 86_400 * 400):
            clock.step(step)
            ids += [bot.append(content=0), bot.append(content=1)]
        assert len(set(ids)) == 12
        assert [r.memory_id for r in bot.range()] == sorted(ids)


def test_restarts_never_reuse_a_writer_number(tmp_path):
    clock = ManualClock(NOW_US)
    ids = []
    for _ in range(5):
        with MemStore(tmp_path, clock=clock) as store:
            ids.append(store.append(agent_id="bot", content=1))
    assert len(set(ids)) == 5


def test_a_record_from_elsewhere_is_stored_once(store):
    record = {"agent_id": "bot", "source_id": "old-1", "timestamp_utc": "2025-01-15T10:00:00Z", "content": 1}
    first = store.import_many([record, {**record, "source_id": "old-2"}, record])
    assert first.added == [True, True, False]
    assert first.ids[0] == first.ids[2]
    store.drain()
    again = store.import_many([record, {**record, "source_id": "old-3"}])
    assert again.added == [False, True]
    assert store.append_many([record]) == first.ids[:1]
    assert store.agent("bot").count() == 3
    with pytest.raises(InvalidRecordError, match="timestamp"):
        store.append(agent_id="bot", source_id="x")
    with pytest.raises(InvalidRecordError, match="source_id"):
        store.import_many([{"agent_id": "bot"}])


def test_a_handle_reaches_its_own_agent_only(store):
    mine, other = store.agent("mine"), store.agent("other")
    theirs = other.append(content="secret")
    assert mine.get(theirs) is None
    assert other.get(theirs).content == "secret"
    assert list(mine.range()) == []
    with pytest.raises(InvalidRecordError, match="belongs to agent 'other'"):
        mine.append_many([{"agent_id": "other"}])


@pytest.mark.parametrize(
    "agent", ["../../escape", "UPPER", "a/b", "é🤖", "con", ".", "x" * 200, "a_20250115_000000_000000"]
)
def test_any_agent_id_works_and_stays_inside_the_store(tmp_path, agent):
    root = tmp_path / "data"
    with MemStore(root) as store:
        memory_id = store.append(agent_id=agent, content="here")
    with MemStore(root) as store:
        assert store.agents() == [agent]
        assert store.get(memory_id).content == "here"
        assert store.agent(agent).count() == 1
    assert os.listdir(tmp_path) == ["data"]


def test_caches_change_no_answer(tmp_path):
    off = {"storage.caching": {"recent_memories_mb": 0, "pattern_cache_mb": 0, "agent_stats_cache_mb": 0}}
    with MemStore(tmp_path) as cached, MemStore(tmp_path, settings=off) as plain:
        for n in range(50):
            memory_id = cached.append(agent_id="bot", content=n, memory_type="ERROR" if n % 3 else "GOAL")
            for _ in range(2):
                a, b = cached.agent("bot"), plain.agent("bot")
                assert a.get(memory_id) == b.get(memory_id)
                assert a.recent(7, memory_type="ERROR") == b.recent(7, memory_type="ERROR")
                assert a.count(memory_type="GOAL") == b.count(memory_type="GOAL")
                assert a.stats() == b.stats()
            if n % 10 == 9:
                plain.drain()
        assert cached.stats()["caches"]["records"]["hit_rate"] > 0
        assert plain.stats()["caches"]["records"]["hits"] == 0


def test_a_record_that_was_changed_by_its_reader_is_read_unchanged(store):
    memory_id = store.append(agent_id="bot", content={"a": 1})
    store.get(memory_id).content["a"] = 2
    assert store.get(memory_id).content == {"a": 1}


def test_closed_and_read_only_stores_say_so(tmp_path):
    store = MemStore(tmp_path)
    bot = store.agent("bot")
    store.close()
    store.close()
    for call in (
        lambda: bot.append(content=1),
        bot.recent,
        bot.count,
        store.agents,
        store.stats,
        lambda: store.get("x"),
    ):
        with pytest.raises(StoreClosedError):
            call()
    with MemStore(tmp_path, read_only=True) as reader:
        for call in (lambda: reader.append(agent_id="a"), reader.drain, reader.add_shard):
            with pytest.raises(ReadOnlyError):
                call()


def test_a_store_that_is_not_there_is_only_made_when_it_may_be(tmp_path):
    with pytest.raises(NotFoundError):
        MemStore(tmp_path / "absent", create=False)
    with pytest.raises(NotFoundError):
        MemStore(tmp_path / "absent", read_only=True)
    assert not (tmp_path / "absent").exists()


def test_the_exported_names_are_the_promised_ones():
    public = {n for n in vars(memstore) if not n.startswith("_")}
    modules = {n for n in public if type(getattr(memstore, n)).__name__ == "module"}
    assert sorted(memstore.__all__) == sorted(public - modules)


def test_importing_memstore_loads_nothing_heavy():
    heavy = {"rich", "yaml", "shtab", "tantivy", "apscheduler", "duckdb", "numpy"}
    code = f"import sys, memstore; print(sorted({heavy!r} & set(sys.modules)))"
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
    )


def test_get_many_reads_all_of_an_agent_at_once_and_finds_what_get_finds(store):
    ids = store.append_many([{"agent_id": agent, "content": n} for n in range(20) for agent in ("a", "b")])
    store.drain()
    ids += store.append_many([{"agent_id": "a", "content": n} for n in range(20, 25)])
    store._engine.reader.clear_caches()
    absent = ids[0][:-1] + ("0" if ids[0][-1] != "0" else "1")
    wanted = [*reversed(ids), absent, ids[3], ids[3]]
    assert store.get_many(wanted) == [store.get(memory_id) for memory_id in wanted]
    assert store.get_many([absent, absent]) == [None, None]
    assert store.get_many([]) == []


def test_import_many_says_what_is_stored_just_as_it_was_given(store):
    record = {"agent_id": "a", "source_id": "s", "timestamp_utc": "2025-01-01T00:00:00Z", "content": 1}
    first = store.import_many([record, record, {**record, "content": 2}])
    assert (first.added, first.equal) == ([True, False, False], [True, True, False])
    again = store.import_many([record, {**record, "content": 2}])
    assert (again.added, again.equal) == ([False, False], [True, False])
    assert len({*first.ids, *again.ids}) == 1


def test_a_misspelt_filter_gets_the_nearest_name(store):
    with pytest.raises(UsageError, match="did you mean 'memory_type'"):
        store.agent("bot").recent(memry_type="ERROR")


@pytest.mark.parametrize("root", ["", b"bytes"])
def test_a_root_that_is_no_path_is_refused(root):
    with pytest.raises(UsageError, match="root of a store"):
        MemStore(root)


def test_seconds_given_as_an_integer_time_are_not_taken_for_microseconds(store):
    with pytest.raises(InvalidRecordError, match="seconds or milliseconds"):
        store.append(agent_id="bot", timestamp=1_736_951_400)


def test_a_closed_store_holds_no_file_of_its_volume(store, tmp_path):
    (memory_id,) = store.append_many([{"agent_id": "a", "content": 1, "timestamp_utc": "2025-01-15T00:00:00Z"}])
    store.maintain()
    day_files = [path for path in held_open(tmp_path) if "deleted" in path]
    assert day_files == [], "their space is not free"
    store.forget([memory_id])
    store.close()
    assert held_open(tmp_path) == []


def held_open(tmp_path):
    opened = [
        os.readlink(f"/proc/self/fd/{name}")
        for name in os.listdir("/proc/self/fd")
        if os.path.lexists(f"/proc/self/fd/{name}")
    ]
    return [path for path in opened if path.startswith(os.path.realpath(tmp_path))]
