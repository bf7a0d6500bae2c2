"""Many processes at one store: appends from all sides, reads of what others have just been told, and forks (P3, P4)."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import random
import threading
import traceback
import warnings
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from typing import Any

import pytest
from support import NO_CACHES, QUIET, TINY, assert_exactly, flat, lane_files

from memstore import LockedError, MemStore

spawn = multiprocessing.get_context("spawn")
JOIN_S = 120.0
PROCESSES, EACH = 20, 500


def run_all(processes: list[BaseProcess]) -> None:
    for process in processes:
        process.start()
    for process in processes:
        process.join(JOIN_S)
    codes = [process.exitcode for process in processes]
    assert codes == [0] * len(processes), "a process failed; see its traceback above"


# -- 20 processes, one agent


def append_each(root: str, number: int, barrier: Any) -> None:
    with MemStore(root) as store:
        bot = store.agent("shared")
        barrier.wait(JOIN_S)
        ids = [bot.append(content=[number, i]) for i in range(EACH // 2)]
        ids += bot.append_many({"content": [number, i]} for i in range(EACH // 2, EACH))
        assert len(set(ids)) == EACH
        mine = [record.content[1] for record in bot.range() if record.content[0] == number]
        assert mine == list(range(EACH)), "a process does not see its own records in order"


@pytest.mark.kill
def test_twenty_processes_append_to_one_agent_at_once_and_nothing_is_lost_or_doubled(tmp_path: Any) -> None:
    root = str(tmp_path / "store")  # made by whoever comes first
    barrier = spawn.Barrier(PROCESSES)
    run_all([spawn.Process(target=append_each, args=(root, number, barrier)) for number in range(PROCESSES)])
    with MemStore(root) as store:
        found = list(store.agent("shared").range())
        assert len(found) == PROCESSES * EACH
        assert len({record.memory_id for record in found}) == PROCESSES * EACH
        assert sorted(tuple(record.content) for record in found) == [
            (p, i) for p in range(PROCESSES) for i in range(EACH)
        ]
        assert store.agent("shared").count() == PROCESSES * EACH
        store.drain()
        assert [record.memory_id for record in store.agent("shared").range()] == [r.memory_id for r in found]


# -- a reader beside writers and mergers

AGENTS = ["a", "B.b"]


def write_and_tell(root: str, journal: str, seed: int) -> None:
    """Append, and note each id in a file once it is acknowledged."""
    chance = random.Random(seed)
    notes = os.open(journal, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    with MemStore(root, settings=TINY) as store:
        for _ in range(120):
            records = [
                {
                    "agent_id": chance.choice(AGENTS),
                    "content": "x" * chance.randrange(600),
                    "timestamp_utc": f"2025-01-{chance.randrange(10, 13)}T{chance.randrange(24):02}:00:00Z"
                    if chance.random() < 0.3
                    else None,
                }
                for _ in range(chance.choice([1, 1, 1, 5]))
            ]
            ids = store.append_many(records)
            os.write(notes, "".join(f"{r['agent_id']} {i}\n" for r, i in zip(records, ids, strict=True)).encode())
            if chance.random() < 0.05:
                with contextlib.suppress(LockedError):
                    store.drain(timeout_s=0.2)
    os.close(notes)


def noted(journals: list[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {agent: [] for agent in AGENTS}
    for journal in journals:
        with contextlib.suppress(FileNotFoundError), open(journal, encoding="utf-8") as file:
            for line in file:
                if line.endswith("\n"):
                    agent, memory_id = line.split()
                    found[agent].append(memory_id)
    return found


def look(store: MemStore, agent: str, acknowledged: list[str], chance: random.Random) -> None:
    bot = store.agent(agent)
    kind = chance.randrange(5)
    if kind == 0:
        ids = [record.memory_id for record in bot.range()]
        assert ids == sorted(set(ids))
        assert set(acknowledged) <= set(ids)
    elif kind == 1:
        ids = [record.memory_id for record in bot.range(newest_first=True)]
        assert ids == sorted(set(ids), reverse=True)
        assert set(acknowledged) <= set(ids)
    elif kind == 2:
        ids = [record.memory_id for record in bot.recent(25)]
        assert ids == sorted(set(ids), reverse=True)
        oldest = ids[-1] if len(ids) == 25 else ""
        assert {i for i in acknowledged if i > oldest} <= set(ids)
    elif kind == 3:
        assert bot.count() >= len(acknowledged)
    else:
        for memory_id in [*acknowledged[-3:], *chance.sample(acknowledged, min(3, len(acknowledged)))]:
            record = store.get(memory_id)
            assert record is not None, f"{memory_id} was acknowledged and is not there"
            assert record.memory_id == memory_id


@pytest.mark.kill
def test_reader_sees_at_once_what_other_processes_were_told_is_durable_while_they_write_and_merge(
    tmp_path: Any,
) -> None:
    seed = int(os.environ.get("KILL_SEED", "0")) or random.SystemRandom().randrange(1, 2**32)
    print(f"KILL_SEED={seed}")
    chance = random.Random(seed)
    root = str(tmp_path / "store")
    MemStore(root, settings=TINY).close()
    journals = [str(tmp_path / f"journal-{number}") for number in range(3)]
    writers = [spawn.Process(target=write_and_tell, args=(root, j, seed + n)) for n, j in enumerate(journals)]
    for writer in writers:
        writer.start()
    looks = 0
    without_caches = {**TINY, "storage": {**TINY["storage"], "caching": NO_CACHES}}
    with (
        MemStore(root, settings=TINY, read_only=True) as cached,
        MemStore(root, settings=without_caches, read_only=True) as bare,
    ):
        while any(writer.is_alive() for writer in writers):
            acknowledged = noted(journals)
            for store in (cached, bare):
                for agent in AGENTS:
                    look(store, agent, acknowledged[agent], chance)
            looks += 1
        for writer in writers:
            writer.join(JOIN_S)
        assert [writer.exitcode for writer in writers] == [0, 0, 0]
        assert looks > 5
        for store in (cached, bare):
            assert_exactly(store, noted(journals))
    with MemStore(root, settings=TINY) as store:
        store.drain()
        assert_exactly(store, noted(journals))
        assert lane_files(root) == []


# -- fork


def in_a_process_of_its_own(scenario: Callable[[str], None], root: str) -> None:
    """Forking needs a process whose threads are all ours."""
    run_all([spawn.Process(target=scenario, args=(root,))])


def forked(body: Callable[[], None]) -> int:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # the parent has threads; that is the point
        pid = os.fork()
    if pid == 0:
        try:
            body()
            os._exit(0)
        except BaseException:  # noqa: BLE001 - the parent is told by the exit code
            traceback.print_exc()
        finally:
            os._exit(1)
    return pid


def reap(pid: int) -> None:
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 0


def use_in_parent_and_children(root: str) -> None:
    store = MemStore(root, settings=QUIET)
    ids = [store.append(agent_id="a", content=i) for i in range(5)]
    store.agent("a").recent(3)
    (own,) = lane_files(root)
    told, tell = os.pipe()

    def child() -> None:
        assert set(ids) <= {r.memory_id for r in store.agent("a").range()}
        mine = [store.append(agent_id="a", content=f"child {i}") for i in range(20)]
        mine += store.append_many({"agent_id": "a", "content": i} for i in range(20))
        assert set(mine) <= {r.memory_id for r in store.agent("a").range()}
        os.write(tell, "".join(f"{i}\n" for i in mine).encode())

    for number in range(3):
        before = lane_files(root)
        reap(forked(child))
        born = set(lane_files(root)) - set(before)
        assert len(born) == 1, "the child writes a lane of its own"
        ids.append(store.append(agent_id="a", content=f"parent {number}"))
        assert own in lane_files(root), "the parent's lane is still open and its own"
    os.close(tell)
    with open(told, encoding="utf-8") as file:
        ids += file.read().split()
    assert_exactly(store, {"a": ids})
    assert store.drain(timeout_s=10).pending == []
    assert_exactly(store, {"a": ids})
    store.close()
    with MemStore(root, settings=QUIET) as again:
        assert_exactly(again, {"a": ids})


def fork_while_threads_append(root: str) -> None:
    store = MemStore(root, settings=TINY)
    stop = threading.Event()
    ids: list[list[str]] = [[], [], []]

    def append(mine: list[str]) -> None:
        while not stop.is_set():
            mine.append(store.append(agent_id="a", content="p" * 200))
            store.agent("a").recent(5)

    threads = [threading.Thread(target=append, args=(mine,)) for mine in ids]
    for thread in threads:
        thread.start()
    told, tell = os.pipe()

    def child() -> None:
        mine = [store.append(agent_id="a", content=f"child {i}") for i in range(5)]
        os.write(tell, "".join(f"{i}\n" for i in mine).encode())
        assert set(mine) <= {r.memory_id for r in store.agent("a").range()}
        store.close()

    for _ in range(10):
        reap(forked(child))
    stop.set()
    for thread in threads:
        thread.join()
    os.close(tell)
    with open(told, encoding="utf-8") as file:
        everything = [*flat(ids), *file.read().split()]
    assert_exactly(store, {"a": everything})
    store.close()
    with MemStore(root, settings=QUIET) as again:
        again.drain()
        assert_exactly(again, {"a": everything})


def use_multiprocessing_fork(root: str) -> None:
    store = MemStore(root, settings=QUIET)
    ids = [store.append(agent_id="a", content="parent")]
    context = multiprocessing.get_context("fork")
    queue = context.SimpleQueue()

    def work(number: int) -> None:
        queue.put([store.append(agent_id="a", content=[number, i]) for i in range(10)])

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        workers = [context.Process(target=work, args=(number,)) for number in range(4)]
        for worker in workers:
            worker.start()
    for _ in workers:
        ids += queue.get()
    for worker in workers:
        worker.join(JOIN_S)
        assert worker.exitcode == 0
    ids.append(store.append(agent_id="a", content="parent again"))
    assert_exactly(store, {"a": ids})
    store.close()
    with MemStore(root, settings=QUIET) as again:
        again.drain()
        assert_exactly(again, {"a": ids})


def close_in_the_child_only(root: str) -> None:
    """The child's close touches nothing of the parent's."""
    store = MemStore(root, settings=QUIET)
    ids = [store.append(agent_id="a", content=1)]
    reap(forked(store.close))
    ids.append(store.append(agent_id="a", content=2))
    assert len(lane_files(root)) == 1
    with MemStore(root, settings=QUIET) as other:  # the parent's lane is still locked
        assert other.drain(timeout_s=0).pending != [] or len(lane_files(root)) == 0
    ids.append(store.append(agent_id="a", content=3))
    assert_exactly(store, {"a": ids})
    store.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform cannot fork")
@pytest.mark.kill
@pytest.mark.parametrize(
    "scenario",
    [use_in_parent_and_children, fork_while_threads_append, use_multiprocessing_fork, close_in_the_child_only],
)
def test_store_that_was_used_before_a_fork_works_on_both_sides(tmp_path: Any, scenario: Callable[[str], None]) -> None:
    in_a_process_of_its_own(scenario, str(tmp_path / "store"))


# -- agents that move meanwhile


def test_reader_follows_an_agent_that_is_pinned_back_and_forth(tmp_path: Any) -> None:
    """STORE.json gets the inode and the size of its last version but one again; that must not look like no change."""
    root = str(tmp_path / "store")
    with MemStore(root, settings=QUIET) as mover, MemStore(root, settings=QUIET, read_only=True) as reader:
        ids = [mover.append(agent_id="a", content=1)]
        mover.drain()
        for number in range(30):
            mover.pin("a", f"shard_00{number % 2}")
            assert_exactly(reader, {"a": ids})
            if number % 7 == 0:
                ids.append(mover.append(agent_id="a", content=number))
                mover.drain()
