"""kill -9 of the indexer and of writers at random moments: all that was acknowledged is found, once (DESIGN 8)."""

from __future__ import annotations

import os
import random
import shutil
import time
from collections.abc import Iterator
from typing import Any

import pytest
from search_support import SEARCHING, all_ids, index_directories
from test_kill import START_WAIT_S, Zygote

from memstore import MemStore

ROUNDS = int(os.environ.get("SEARCH_KILL_ROUNDS", "100"))
ROUNDS_PER_STORE = 10


@pytest.fixture
def zygote() -> Iterator[Zygote]:
    made = Zygote("search_zygote.py")
    yield made
    made.close()


def check(store: MemStore, acked: dict[str, list[str]], told: str) -> None:
    """The index and the store agree; what was acknowledged is there once."""
    there = [record.memory_id for agent in store.agents() for record in store.agent(agent).range()]
    found = all_ids(store, "needle", limit=1000)
    assert sorted(found) == sorted(there), f"{told}: {len(found)} found, {len(there)} there"
    missing = {i for ids in acked.values() for i in ids} - set(found)
    assert not missing, f"{told}: {len(missing)} acknowledged records are not found, such as {min(missing)}"
    facet = store.search("needle", facets=["agent"]).facets["agent"]
    assert sum(each.count for each in facet) == len(there), told


def play_round(zygote: Zygote, chance: random.Random, root: str) -> None:
    """A writer and an indexer; the indexer is killed twice, in the end both are."""
    writer = zygote.spawn("writer", chance.randrange(2**40), root)
    for _ in range(2):
        zygote.told.clear()
        indexer = zygote.spawn("indexer", chance.randrange(2**40), root)
        deadline = time.monotonic() + START_WAIT_S
        while not zygote.told["began"] and time.monotonic() < deadline:
            zygote.listen(0.05)
        until = time.monotonic() + chance.random() * 0.15
        while (left := until - time.monotonic()) > 0:
            zygote.listen(left)
        zygote.kill(indexer)
    zygote.kill(writer)
    while zygote.listen(0):
        pass


@pytest.mark.kill
def test_every_acknowledged_record_is_found_once_after_the_indexer_is_killed(zygote: Zygote, tmp_path: Any) -> None:
    seed = int(os.environ.get("KILL_SEED", "0")) or random.SystemRandom().randrange(1, 2**32)
    chance = random.Random(seed)
    root = ""
    for number in range(ROUNDS // 2):
        told = f"round {number} of KILL_SEED={seed}"
        if number % ROUNDS_PER_STORE == 0:
            if root:
                shutil.rmtree(root)
            root = str(tmp_path / f"store-{number}")
            MemStore(root, settings=SEARCHING).close()
            zygote.acked.clear()
        play_round(zygote, chance, root)
        with MemStore(root, settings=SEARCHING, read_only=True) as store:
            check(store, zygote.acked, told)
        if number % 3 == 2:
            with MemStore(root, settings=SEARCHING, durability="os") as store:
                assert store.index()["finished"], told
                check(store, zygote.acked, f"{told}, indexed")
                status = store.index_status()
                assert status["stale"] == [], told
                assert len(index_directories(root)) == len(status["partitions"]), told
                store.drain()
                store.index()
                assert store.index_status()["behind_bytes"] == 0, told
                assert not [name for name in os.listdir(os.path.join(root, "lanes")) if name.endswith(".merged")]
                check(store, zygote.acked, f"{told}, drained")
