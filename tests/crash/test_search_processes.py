"""Search beside writers, an indexer, merges and moves, each a process of its own: never behind, nothing twice."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import random
from multiprocessing.process import BaseProcess
from typing import Any

import pytest
from search_support import all_ids
from support import TINY

from memstore import LockedError, MemStore
from memstore.clock import WallClock
from memstore.timestamps import US_PER_DAY, iso_text

spawn = multiprocessing.get_context("spawn")
JOIN_S = 180.0
WRITERS, BATCHES = 4, 40
AGENTS = ["a", "B.b", "c"]
SETTINGS: dict[str, Any] = {
    "storage": {**TINY["storage"], "lifecycle": {"reserve_bytes": 0}},
    "writing": TINY["writing"],
    "merging": TINY["merging"],
    "search": {"background": False},
}


def write(root: str, journal: str, seed: int) -> None:
    """Append; how many are begun and how many are acknowledged is noted in a file."""
    chance = random.Random(seed)
    notes = os.open(journal, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    clock = WallClock()
    with MemStore(root, settings=SETTINGS, durability="os") as store:
        for _ in range(BATCHES):
            records = [
                {
                    "agent_id": chance.choice(AGENTS),
                    "content": "needle",
                    "timestamp_utc": iso_text(clock.now_us() - chance.choice([0, 0, 5, 20, 50]) * US_PER_DAY),
                }
                for _ in range(chance.choice([1, 1, 4, 9]))
            ]
            os.write(notes, f"begun {len(records)}\n".encode())
            ids = store.append_many(records)
            os.write(notes, f"acked {len(ids)}\n".encode())
    os.close(notes)


def index(root: str, done: Any) -> None:
    with MemStore(root, settings=SETTINGS, durability="os") as store:
        while not done.is_set():
            with contextlib.suppress(LockedError):
                store.index()
            with contextlib.suppress(LockedError):
                store.index(rebuild=True)


def move(root: str, done: Any) -> None:
    with MemStore(root, settings=SETTINGS, durability="os") as store:
        while not done.is_set():
            with contextlib.suppress(LockedError):
                store.drain(timeout_s=0.2)
                store.maintain()


def noted(journals: list[str], word: str) -> int:
    total = 0
    for journal in journals:
        with contextlib.suppress(FileNotFoundError), open(journal, encoding="utf-8") as file:
            total += sum(int(line.split()[1]) for line in file if line.startswith(word) and line.endswith("\n"))
    return total


def search(root: str, journals: list[str], done: Any, read_only: bool) -> None:
    with MemStore(root, settings=SETTINGS, read_only=read_only, durability="os") as store:
        rounds = 0
        while not done.is_set() or rounds < 3:
            rounds += 1
            least = noted(journals, "acked")
            found = store.search("needle", facets=["agent"], limit=5)
            most = noted(journals, "begun")
            counts = sum(each.count for each in found.facets.get("agent", []))
            assert least <= found.total <= most, f"{found.total} found, {least} acknowledged, {most} begun: {found}"
            assert least <= counts <= most, (least, counts, most)
            least = noted(journals, "acked")
            sums = store.aggregate("needle", by=["agent"])
            most = noted(journals, "begun")
            assert least <= sums.total <= most, (least, sums, most)
            assert sum(row.count for row in sums.rows) >= least


@pytest.mark.kill
def test_a_search_finds_what_any_process_has_been_told_is_stored_while_all_of_them_work(tmp_path: Any) -> None:
    seed = int(os.environ.get("KILL_SEED", "0")) or random.SystemRandom().randrange(1, 2**32)
    print(f"KILL_SEED={seed}")
    root = str(tmp_path / "store")
    MemStore(root, settings=SETTINGS).close()
    journals = [str(tmp_path / f"journal-{number}") for number in range(WRITERS)]
    done = spawn.Event()
    writers: list[BaseProcess] = [
        spawn.Process(target=write, args=(root, journal, seed + n)) for n, journal in enumerate(journals)
    ]
    others: list[BaseProcess] = [
        spawn.Process(target=index, args=(root, done)),
        spawn.Process(target=move, args=(root, done)),
        spawn.Process(target=search, args=(root, journals, done, False)),
        spawn.Process(target=search, args=(root, journals, done, True)),
    ]
    for process in (*writers, *others):
        process.start()
    for process in writers:
        process.join(JOIN_S)
    done.set()
    for process in others:
        process.join(JOIN_S)
    codes = [process.exitcode for process in (*writers, *others)]
    assert codes == [0] * len(codes), "a process failed; see its traceback above"
    with MemStore(root, settings=SETTINGS) as store:
        there = [record.memory_id for agent in store.agents() for record in store.agent(agent).range()]
        assert len(there) == noted(journals, "acked")
        assert sorted(all_ids(store, "needle", limit=500)) == sorted(there)
        store.index()
        assert sorted(all_ids(store, "needle", limit=500)) == sorted(there)
        assert store.index_status()["records"] == len(there)
