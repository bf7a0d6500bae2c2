"""The power goes at every instruction: what was acknowledged is there, once and byte for byte (P5, P6)."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from collections.abc import Callable, Iterator
from random import Random
from typing import Any

import pytest
from machine import REPLAY, ROOT, SECOND_VOLUME, Machine, Scenario, calls_of, explore, explore_at_random, go_on
from oracle import Entry, check, traces
from support import QUIET, TINY, make_engine, put, put_many

from memstore.engine.engine import Engine
from memstore.engine.reading import Reading
from memstore.errors import CorruptionError, MemstoreError, StorageError, WriterBrokenError
from memstore.lifecycle.lifecycle import Lifecycle
from memstore.testing.crashing import CrashingStorage

DAYS = ("2025-01-13T10:00:00Z", "2025-01-14T10:00:00Z", "2025-01-15T00:00:00Z")
BATCH = [
    {"agent_id": agent, "content": f"{agent} {day} {'b' * 200}", "timestamp_utc": day}
    for agent in ("a", "b", "Third.Agent")
    for day in DAYS
]


@pytest.fixture(autouse=True)
def _quiet_log() -> Iterator[None]:
    """Torn tails are logged, thousands of them; a replayed case shows its own."""
    logging.disable(logging.NOTSET if REPLAY in os.environ else logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@pytest.fixture(autouse=True)
def _reads_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """A read that begins again for ever fails, instead of holding up the tests."""
    look = Reading._look

    def counted(self: Any, distrusted: frozenset[str]) -> None:
        self.looks = getattr(self, "looks", 0) + 1
        assert self.looks < 200, "a read begins again for ever"
        look(self, distrusted)

    monkeypatch.setattr(Reading, "_look", counted)


AGENTS = ("a", "b", "Third.Agent", "4")
SHARDS = ("shard_000", "shard_001", None)


def record(chance: Random) -> dict[str, Any]:
    size = chance.choice((10, 300, 5000, 20_000))
    return {
        "agent_id": chance.choice(AGENTS),
        "content": "c" * chance.randrange(size),
        "timestamp_utc": chance.choice((*DAYS, None)),
    }


def merging(**values: Any) -> dict[str, Any]:
    return {**QUIET, "merging": {**QUIET["merging"], **values}}


def append(machine: Machine) -> None:
    engine = machine.engine()
    put(engine, "a", "first")
    put_many(engine, BATCH)
    put(engine, "b", "x" * 9000)
    engine.close()


def merge(machine: Machine) -> None:
    """Two merges into the same day files, the second of lanes of two processes."""
    engine = machine.engine()
    put_many(engine, BATCH)
    engine.drain(timeout_s=0)
    put(engine, "a", "second")
    other = machine.engine()
    put_many(other, BATCH)
    other.close()
    put(engine, "Third.Agent", "y" * 5000)
    engine.drain(timeout_s=0)


def bury(machine: Machine) -> None:
    """A killed process's lane is sealed and merged by another."""
    killed = machine.engine()
    put_many(killed, BATCH)
    put(killed, "a", "last words")
    machine.kill(killed)
    engine = machine.engine()
    put(engine, "a", "heir")
    engine.drain(timeout_s=0)


def move(machine: Machine) -> None:
    """Agents move to a new shard, to a named one, and back."""
    engine = machine.engine()
    put_many(engine, BATCH)
    put_many(engine, [{"agent_id": f"agent-{i}", "content": i} for i in range(6)])
    engine.drain(timeout_s=0)
    engine.rebalancer.add_shard(None)
    put(engine, "a", "after the move")
    engine.rebalancer.pin("a", "shard_000")
    engine.rebalancer.pin("a", "shard_001")
    engine.drain(timeout_s=0)
    engine.rebalancer.pin("a", None)


def move_to_another_volume(machine: Machine) -> None:
    """Agents are copied to another file system and back."""
    engine = machine.engine()
    put_many(engine, BATCH)
    engine.drain(timeout_s=0)
    name, _ = engine.rebalancer.add_shard(SECOND_VOLUME)
    engine.rebalancer.pin("a", name)
    put(engine, "a", "on the second volume")
    engine.drain(timeout_s=0)
    engine.rebalancer.pin("a", "shard_000")


def crowd(machine: Machine) -> None:
    """Threads of two processes append while both merge in the background; no run is like another."""
    engines = [machine.engine(background=True) for _ in range(2)]
    seeds = [machine.chance.getrandbits(64) for _ in range(4)]

    def append_some(engine: Engine, chance: Random) -> None:
        for _ in range(8):
            put_many(engine, [record(chance) for _ in range(chance.randrange(1, 6))])

    threads = [threading.Thread(target=append_some, args=(engines[seed % 2], Random(seed))) for seed in seeds]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for engine in engines:
        engine.close()


def test_power_cut_while_a_store_is_made_and_appended_to() -> None:
    explore(append, cases=150)


@pytest.mark.parametrize("file_syncs_max", [64, 0], ids=["fdatasync", "syncfs"])
def test_power_cut_during_merges(file_syncs_max: int) -> None:
    explore(merge, cases=110, settings=merging(file_syncs_max=file_syncs_max))


def test_power_cut_while_a_dead_process_is_buried() -> None:
    explore(bury, cases=110)


def test_power_cut_while_agents_move_between_shards() -> None:
    explore(move, cases=110)


def test_power_cut_while_agents_move_between_volumes() -> None:
    explore(move_to_another_volume, cases=100)


def test_power_cut_while_many_threads_append_and_merge(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("memstore.engine.maintenance.TICK_S", 0.005)
    settings = {**TINY, "merging": {**TINY["merging"], "background": True}}
    explore_at_random(crowd, cases=30, calls_max=250, settings=settings)


# -- the oracle sees what a store without syncs would lose


def lanes_data(kind: str, path: str) -> bool:
    return kind == "sync_data" and "/lanes/" in path


def lanes_names(kind: str, path: str) -> bool:
    return kind == "sync_directory" and path.endswith("/lanes")


def merged_data(kind: str, path: str) -> bool:
    return kind == "sync_data" and path.endswith((".jsonl", "MANIFEST"))


def merged_names(kind: str, path: str) -> bool:
    return kind == "sync_directory" and "/memory/" in path


def file_systems(kind: str, path: str) -> bool:
    return kind == "sync_file_system"


def moved_data(kind: str, path: str) -> bool:
    return kind == "sync_data" and "/.incoming/" in path


@pytest.mark.parametrize(
    ("scenario", "forgotten"),
    [
        (append, lanes_data),
        (append, lanes_names),
        (merge, merged_data),
        (merge, merged_names),
        (merge, file_systems),
        (move_to_another_volume, moved_data),
    ],
    ids=lambda value: value.__name__,
)
def test_an_engine_that_forgets_one_kind_of_sync_is_caught(
    scenario: Scenario, forgotten: Callable[[str, str], bool]
) -> None:
    settings = merging(file_syncs_max=0) if forgotten is file_systems else QUIET
    calls = calls_of(scenario, settings=settings)
    for seed in range(60):
        machine = Machine(seed, settings=settings, ignores_sync=forgotten)
        machine.run(scenario, cut_at=calls - seed % 5)
        machine.crash()
        try:
            check(machine.engine(), machine.journal)
        except StorageError:  # damage, or a shard is missing
            return
        except AssertionError as error:
            if "lost" in str(error):
                return
    pytest.fail("no power cut lost anything")


def two_records() -> tuple[Machine, Engine, list[str]]:
    machine = Machine(0)
    engine = machine.engine()
    return machine, engine, put_many(engine, [{"agent_id": "a", "content": content} for content in ("one", "two")])


def test_the_oracle_sees_a_record_that_was_never_handed_in_through_it() -> None:
    machine, engine, _ = two_records()
    check(engine, machine.journal)
    put(make_engine(ROOT, machine.storage, clock=machine.clock), "a", "a stranger")
    with pytest.raises(AssertionError, match="nobody ever handed in"):
        check(engine, machine.journal)


def test_the_oracle_sees_half_a_batch_where_nothing_was_acknowledged() -> None:
    machine, engine, ids = two_records()
    for entry in machine.journal.entries.values():
        entry.there = None
    machine.journal.attempts[0].entries.append(Entry("a_lost", "a", {b""}))
    with pytest.raises(AssertionError, match="half a batch"):
        check(engine, machine.journal)
    assert len(ids) == 2


def test_the_oracle_wants_forgotten_records_gone_and_those_taken_back_there() -> None:
    machine, engine, ids = two_records()
    with machine.journal.forgetting(ids[:1]):
        pass
    with pytest.raises(AssertionError, match="must not be there"):
        check(engine, machine.journal)
    with machine.journal.restoring(ids):
        pass
    assert machine.journal.ids() == ids
    check(engine, machine.journal)


def test_the_oracle_takes_either_answer_of_a_call_that_did_not_return() -> None:
    machine, engine, ids = two_records()
    with contextlib.suppress(MemstoreError), machine.journal.forgetting(ids[:1]):
        raise StorageError("cut off")
    assert machine.journal.ids() == ids[1:]
    check(engine, machine.journal)
    assert machine.journal.ids() == ids  # it is still there, and so it stays


def test_the_oracle_finds_traces_of_what_was_erased() -> None:
    machine, _, ids = two_records()
    with machine.journal.erasing(ids[1:]):
        pass
    (trace,) = traces(machine.storage.files(), machine.journal)
    assert trace[1] == ids[1]
    with machine.journal.restoring(ids):
        pass
    assert machine.journal.ids() == ids[:1]


# -- what power cuts have left, as small as it can be


def zero(storage: CrashingStorage, path: str, start: int, end: int) -> None:
    """A sector that did not reach the disk while those behind it did."""
    storage.open_update(path).write(bytes(end - start), start)


def test_a_footer_whose_first_sector_did_not_reach_the_disk_is_written_again() -> None:
    """The power went during a seal: the file's new length and a later sector of the footer were written before."""
    machine = Machine(0)
    engine = machine.engine()
    put_many(engine, BATCH)
    committer = engine._committer
    assert committer is not None
    lane = committer.lane
    assert lane is not None
    end = lane.end
    engine.close()
    (path,) = (path for path in machine.storage.files(ROOT) if path.endswith(".lane"))
    size = len(machine.storage.files()[path])
    zero(machine.storage, path, end, (end // 512 + 1) * 512)
    machine.storage.open_update(path).truncate(size - 100)  # and the seal line did not
    assert not machine.run(go_on)


def test_a_new_manifest_whose_first_sector_did_not_reach_the_disk_is_no_damage() -> None:
    """The power went during a merge's sync: the rest of the agent's first MANIFEST was written before its start."""
    machine = Machine(0)
    engine = machine.engine()
    put_many(engine, BATCH)
    machine.storage.power.fail("sync_data", path="*/memory/*")
    with pytest.raises(StorageError):
        engine.drain(timeout_s=0)
    (path,) = (path for path in machine.storage.files(ROOT) if "third-agent" in path and path.endswith("MANIFEST"))
    assert len(machine.storage.files()[path]) > 512
    zero(machine.storage, path, 0, 512)
    machine.kill(engine)
    assert not machine.run(go_on)


def test_a_day_file_whose_name_did_not_reach_the_disk_is_read_from_the_lanes() -> None:
    """The power went during a merge's sync: its MANIFEST line is there, and the name of one of its day files is not."""
    machine = Machine(0)
    engine = machine.engine()
    put_many(engine, BATCH)
    machine.storage.power.fail("sync_data", path="*/memory/*")
    with pytest.raises(StorageError):
        engine.drain(timeout_s=0)
    machine.kill(engine)
    machine.storage.unlink(f"{ROOT}/memory/shards/shard_000/b/20250115.1.jsonl")
    engine = machine.engine()
    put_many(engine, [{"agent_id": "b", "content": "read before it", "timestamp_utc": DAYS[-1]}])
    machine.kill(engine)
    assert not machine.run(go_on)


def test_a_day_file_without_a_durable_name_is_no_damage_behind_a_second_merge_that_was_cut_off() -> None:
    """Two power cuts: the first kept a merge's MANIFEST line and not the name of its day file; the second came while
    the next merge repeated it, and kept the new length of the MANIFEST, but nothing of the new line.
    """
    machine = Machine(0)
    engine = machine.engine()
    put_many(engine, BATCH)
    machine.storage.power.fail("sync_data", path="*/memory/*")
    with pytest.raises(StorageError):
        engine.drain(timeout_s=0)
    machine.kill(engine)
    machine.storage.unlink(f"{ROOT}/memory/shards/shard_000/b/20250115.1.jsonl")
    (path,) = (path for path in machine.storage.files(ROOT) if path.endswith("/b/MANIFEST"))
    size = len(machine.storage.files()[path])
    zero(machine.storage, path, size, size + 300)
    assert not machine.run(go_on)


def test_a_day_file_that_has_gone_is_damage_where_its_lanes_have_gone_too() -> None:
    machine = Machine(0)
    engine = machine.engine()
    put_many(engine, BATCH)
    engine.drain(timeout_s=0)
    machine.kill(engine)
    machine.storage.unlink(f"{ROOT}/memory/shards/shard_000/b/20250115.1.jsonl")
    (path,) = (path for path in machine.storage.files(ROOT) if path.endswith("/b/MANIFEST"))
    size = len(machine.storage.files()[path])
    zero(machine.storage, path, size, size + 300)
    with pytest.raises(CorruptionError, match="the lanes it merged or the files it moved are gone"):
        check(machine.engine(), machine.journal)


def test_a_lane_that_somebody_else_seals_is_whole_though_the_sync_of_its_last_commit_had_failed() -> None:
    """The writer's sync fails, and cutting the lane back too; he dies. Who seals it sees the commit in the page cache,
    where it counts as clean: it must be written once more, or the next sync leaves it out.
    """
    machine = Machine(0)
    writer = machine.engine()
    put(writer, "a", "first")
    machine.storage.power.fail_sync(path="*/lanes/*")
    machine.storage.power.fail("truncate")
    with pytest.raises(WriterBrokenError):
        put(writer, "a", "x" * 20_000)
    machine.kill(writer)
    other = machine.engine()
    put(other, "a", "second")
    other.maintenance._waiting()  # seals what dead writers left
    machine.die()
    for seed in range(20):
        assert not machine.found(seed).run(go_on)


@pytest.mark.parametrize("file_syncs_max", [64, 0], ids=["file by file", "syncfs"])
def test_what_is_forgotten_behind_a_merge_that_was_never_synced_stays_forgotten(file_syncs_max: int) -> None:
    """Such a merge loses nothing with its MANIFEST, for its lanes stand; a tombstone behind it has nothing but that."""
    machine = Machine(0, settings=merging(file_syncs_max=file_syncs_max))
    engine = machine.engine()
    memory_id = put(engine, "a", "to be forgotten")
    machine.storage.power.fail_sync(path="*/memory/*")
    _forget_behind_what_was_stopped(machine, engine, memory_id)


def test_what_is_forgotten_behind_a_merge_that_had_begun_a_manifest_stays_forgotten() -> None:
    """The disk stopped it between the MANIFEST's first line and the line of the merge: no lane is cited."""
    machine = Machine(0)
    engine = machine.engine()
    memory_id = put(engine, "a", "to be forgotten")
    machine.storage.power.fail("write", path="*.jsonl")
    _forget_behind_what_was_stopped(machine, engine, memory_id)


def _forget_behind_what_was_stopped(machine: Machine, engine: Engine, memory_id: str) -> None:
    """A merge fails and its process dies; another forgets, and is told so; then the power goes."""
    with pytest.raises(StorageError):
        engine.drain(timeout_s=0)
    machine.kill(engine)
    engine = machine.engine()
    with machine.journal.forgetting([memory_id]):
        Lifecycle(engine).forgetter.forget([memory_id])
    machine.die()
    for seed in range(20):
        assert not machine.found(seed).run(go_on)


def test_an_agent_whose_move_was_never_synced_is_found_when_another_one_is_moved() -> None:
    """The second move saw the first one done, and STORE.json forgot the old place: it was there again."""
    machine = Machine(0)
    engine = machine.engine()
    for agent in ("a", "b"):
        put(engine, agent, "kept")
    engine.drain(timeout_s=0)
    engine.rebalancer.pin("a", "shard_000")
    machine.storage.power.fail_sync(path="*/shards/*")
    with pytest.raises(StorageError):
        engine.rebalancer.pin("a", "shard_001")
    machine.kill(engine)
    engine = machine.engine()
    engine.rebalancer.pin("b", "shard_001")
    machine.die()
    for seed in range(20):
        assert not machine.found(seed).run(go_on)


@pytest.mark.parametrize("behind", ["merge", "forget"])
def test_no_line_stands_whole_behind_one_that_was_never_synced(behind: str) -> None:
    """Merge after merge fails at its sync: a power cut may tear the first one's line, and leave what came behind it."""
    machine = Machine(0, settings=merging(file_syncs_max=64))
    engine = machine.engine()
    put(engine, "a", "durable")
    engine.drain(timeout_s=0)
    memory_id = put(engine, "a", "x" * 400)
    _merge_in_vain(machine, engine)
    machine.kill(engine)
    engine = machine.engine()
    if behind == "merge":
        put_many(engine, [{"agent_id": "a", "content": "y" * 400}])
        _merge_in_vain(machine, engine)
    else:
        machine.storage.power.fail_sync(path="*/MANIFEST")
        with contextlib.suppress(StorageError), machine.journal.forgetting([memory_id]):
            Lifecycle(engine).forgetter.forget([memory_id])
    machine.die()
    for seed in range(60):
        assert not machine.found(seed).run(go_on)


def _merge_in_vain(machine: Machine, engine: Engine) -> None:
    machine.storage.power.fail_sync(path="*/memory/*")
    with pytest.raises(StorageError):
        engine.drain(timeout_s=0)


# -- anything, in any order


def work(machine: Machine) -> None:
    """Several processes append, seal, merge, die and come back; agents move; disks fail and fill up."""
    chance, engines = machine.chance, [machine.engine()]

    def leave(engine: Engine, how: Callable[[Engine], None]) -> None:
        engines.remove(engine)
        how(engine)
        engines.append(machine.engine())

    def fill(engine: Engine) -> None:
        storage = machine.storage
        storage.capacity_bytes = sum(map(len, storage.files().values())) + chance.randrange(30_000)
        with contextlib.suppress(MemstoreError):
            put_many(engine, [record(chance) for _ in range(9)])
        storage.capacity_bytes = None

    deeds: list[tuple[int, Callable[[Engine], Any]]] = [
        (8, lambda engine: put_many(engine, [record(chance)])),
        (8, lambda engine: put_many(engine, [record(chance) for _ in range(chance.randrange(2, 30))])),
        (5, lambda engine: engine.drain(timeout_s=0)),
        (2, lambda engine: leave(engine, Engine.close)),
        (2, lambda engine: leave(engine, machine.kill)),
        (1, lambda _: engines.append(machine.engine())),
        (1, lambda engine: engine.rebalancer.pin(chance.choice(AGENTS), chance.choice(SHARDS))),
        (1, lambda engine: engine.rebalancer.add_shard(chance.choice((None, SECOND_VOLUME)))),
        (1, lambda _: machine.storage.power.fail_sync(call=chance.randrange(1, 9))),
        (1, lambda _: machine.storage.power.fail(call=chance.randrange(1, 20))),
        (1, fill),
    ]
    weights = [weight for weight, _ in deeds]
    for _ in range(12):
        (deed,) = chance.choices([deed for _, deed in deeds], weights)
        try:
            deed(chance.choice(engines))
        except MemstoreError:  # refused or unknown: the journal knows
            engine = chance.choice(engines)
            leave(engine, machine.kill)


@pytest.mark.parametrize("settings", [TINY, merging(file_syncs_max=0)], ids=["tiny", "syncfs"])
def test_power_cut_at_any_moment_of_any_work(settings: dict[str, Any]) -> None:
    explore_at_random(work, cases=60, calls_max=300, settings=settings)
