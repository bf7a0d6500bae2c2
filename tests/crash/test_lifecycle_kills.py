"""kill -9 of those who write, maintain and forget, at random moments, while others read: nothing acknowledged is lost
or doubled, nothing forgotten comes back, and the next run finishes what was begun (P1, P5).
"""

from __future__ import annotations

import os
import random
import shutil
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from lifecycle_support import agent_files, assert_no_orphans, failures, real
from lifecycle_zygote import SETTINGS
from tally import KILLS, tally
from test_kill import START_WAIT_S, Zygote

from memstore import MemStore
from memstore.timestamps import US_PER_DAY

ROUNDS = int(os.environ.get("LIFECYCLE_KILL_ROUNDS", "24"))
ROUNDS_PER_STORE = 8
ROLES = ("writer", "writer", "keeper", "keeper", "forgetter", "reader")


@pytest.fixture
def zygote() -> Iterator[Zygote]:
    made = Zygote("lifecycle_zygote.py")
    yield made
    made.close()


def check(store: MemStore, zygote: Zygote, told: str) -> None:
    """What was acknowledged is there once unless somebody asked to forget it; what was forgotten is not."""
    batches: Counter[str] = Counter()
    sizes: dict[str, int] = {}
    asked, forgotten = zygote.told["forgets"], zygote.told["forgot"]
    for agent in store.agents():
        bot = store.agent(agent)
        found = list(bot.range())
        ids = [record.memory_id for record in found]
        assert ids == sorted(set(ids)), f"{told}: {agent} has doubled or unsorted records"
        missing = set(zygote.acked.get(agent, ())) - set(ids) - asked
        assert not missing, f"{told}: {agent} lost {len(missing)} acknowledged records, such as {min(missing)}"
        back = forgotten & set(ids)
        assert not back, f"{told}: {len(back)} forgotten records are back, such as {min(back)}"
        assert bot.count() == len(ids), told
        assert [record.memory_id for record in bot.recent(30)] == ids[-30:][::-1], told
        for record in found[:: max(len(found) // 5, 1)]:
            assert store.get(record.memory_id) == record, told
        for record in found:
            batches[record.content["batch"]] += 1
            sizes[record.content["batch"]] = record.content["size"]
    lost = {memory_id for memory_id in forgotten if store.get(memory_id) is not None}
    assert not lost, f"{told}: {min(lost)} was forgotten and can be had"
    torn = {batch: count for batch, count in batches.items() if count != sizes[batch]}
    assert not torn, f"{told}: batches that are neither whole nor absent: {torn}"


def play_round(zygote: Zygote, chance: random.Random, root: str) -> None:
    """All roles at once; some are killed and replaced on the way, all at the end."""
    running = {zygote.spawn(role, chance.randrange(2**40), root): role for role in ROLES}
    for _ in range(chance.randrange(2, 6)):
        before = sum(map(len, zygote.acked.values()))
        deadline = time.monotonic() + START_WAIT_S
        while sum(map(len, zygote.acked.values())) == before and time.monotonic() < deadline:
            zygote.listen(0.1)
        until = time.monotonic() + chance.random() * 0.25
        while (left := until - time.monotonic()) > 0:
            zygote.listen(left)
        victim = chance.choice([pid for pid, role in running.items() if role != "reader"])
        zygote.kill(victim)
        role = running.pop(victim)
        running[zygote.spawn(role, chance.randrange(2**40), root)] = role
    for pid in running:
        zygote.kill(pid)
    while zygote.listen(0):
        pass


@pytest.mark.kill
def test_nothing_is_lost_doubled_or_back_after_kill_9_of_who_moves_it(zygote: Zygote, tmp_path: Any) -> None:
    seed = int(os.environ.get("KILL_SEED", "0")) or random.SystemRandom().randrange(1, 2**32)
    chance = random.Random(seed)
    root = ""
    kills = 0
    tiers_seen: set[str] = set()
    for number in range(4 * ROUNDS):
        if number >= ROUNDS and {"warm", "cold"} <= tiers_seen:
            break  # chance has it that a short run may see no warm file
        told = f"round {number} of KILL_SEED={seed}"
        if number % ROUNDS_PER_STORE == 0:
            if root:
                shutil.rmtree(root)
            root = str(tmp_path / f"store-{number}")
            zygote.acked.clear()
            zygote.told.clear()
            MemStore(root, settings=SETTINGS).close()  # a reader makes none
        play_round(zygote, chance, root)
        tiers_seen |= {kind for kind, paths in agent_files(root).items() if paths}
        with MemStore(root, settings=SETTINGS, read_only=True) as store:
            check(store, zygote, told)
        if chance.random() < 0.4:
            with MemStore(root, settings=SETTINGS) as store:
                later = store._engine.clock.now_us() + chance.choice((0, 80)) * US_PER_DAY
                report = store.maintain(later)
                assert failures(report) == [], told
                check(store, zygote, f"{told}, maintained")
                assert real(store.plan(later)) == [], told
                assert_no_orphans(store, told=told)
            tiers_seen |= {kind for kind, paths in agent_files(root).items() if paths}
        tally(KILLS, zygote.kills - kills)
        kills = zygote.kills
    assert {"warm", "cold"} <= tiers_seen
