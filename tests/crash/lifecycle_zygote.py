"""Forks writers, maintainers, forgetters and readers for ``test_lifecycle_kills``; speaks as ``kill_zygote`` does.

A forgetter writes ``forgets AGENT ID`` before it asks and ``forgot AGENT ID`` once the store has acknowledged. A reader
dies, with a traceback, when an answer contradicts an earlier one.
"""

from __future__ import annotations

import contextlib
import os
import random
import zlib
from typing import Any

import kill_zygote
from kill_zygote import AGENTS
from support import TINY

from memstore import LockedError, MemStore
from memstore.timestamps import US_PER_DAY

SETTINGS: dict[str, Any] = {
    **TINY,
    "storage": {
        **TINY["storage"],
        "lifecycle": {
            "reserve_bytes": 0,
            "warm_frame_bytes": 4096,
            "cold_frame_bytes": 8192,
            "warm_level": 1,
            "cold_level": 1,
            "keep_read_days": 0,
            "fold_after_days": 0,
            "deduplication_enabled": True,
        },
    },
}
AHEAD_DAYS = (0, 20, 80)
"""Today's records are hot, warm and cold by these moments; and what is written next is late."""


def may_be_forgotten(memory_id: str) -> bool:
    """Which records a forgetter may choose, so that readers know which must stay."""
    return zlib.crc32(memory_id.encode()) % 4 == 0


def keep(root: str, seed: int, acks: int) -> None:
    """Maintain for ever, for moments at which everything is to be moved."""
    chance = random.Random(seed)
    store = MemStore(root, settings=SETTINGS)
    while True:
        later = store._engine.clock.now_us() + chance.choice(AHEAD_DAYS) * US_PER_DAY
        report = store.maintain(later)
        for action, error in report.failed:
            # What a killed process has left is cleared up in the course of the next run.
            assert isinstance(error, LockedError) or "interrupted" in str(error) or "is there already" in str(error), (
                f"{action.sentence} {error!r}"
            )


def forget(root: str, seed: int, acks: int) -> None:
    """Forget some of what is there, for ever."""
    chance = random.Random(seed)
    store = MemStore(root, settings=SETTINGS)
    while True:
        agent = chance.choice(AGENTS)
        found = [
            record.memory_id
            for record in store.agent(agent).range()
            if may_be_forgotten(record.memory_id) and record.content["size"] == 1  # or batches would not be whole
        ]
        ids = chance.sample(found, min(len(found), chance.randrange(1, 4)))
        for memory_id in ids:
            os.write(acks, f"forgets {agent} {memory_id}\n".encode())
        with contextlib.suppress(LockedError):
            store.forget(ids)
            for memory_id in ids:
                os.write(acks, f"forgot {agent} {memory_id}\n".encode())


def read(root: str, seed: int, acks: int) -> None:
    """See that what was there once is there for ever, in every way to ask."""
    chance = random.Random(seed)
    store = MemStore(root, settings=SETTINGS, read_only=True)
    seen: dict[str, dict[str, bytes]] = {agent: {} for agent in AGENTS}
    while True:
        agent = chance.choice(AGENTS)
        bot = store.agent(agent)
        known = seen[agent]
        before = bot.count()
        lines = list(bot.lines(newest_first=chance.random() < 0.5))
        found = {line[len(b'{"memory_id":"') : line.index(b'"', 14)].decode(): line for line in lines}
        assert len(found) == len(lines), "doubled"
        lost = [i for i, line in known.items() if found.get(i) != line]
        assert not lost, f"{agent}: {len(lost)} lost or changed, such as {lost[0]}"
        known.update((i, line) for i, line in found.items() if not may_be_forgotten(i))
        forgettable = sum(map(may_be_forgotten, found))
        assert before <= len(found) + forgettable + 50, "count"
        for memory_id in chance.sample(list(known), min(5, len(known))):
            assert store._engine.reader.get_line(memory_id) == known[memory_id], memory_id
        newest = [r.memory_id for r in bot.recent(30)]
        assert newest == sorted(set(newest), reverse=True)


ROLES = {"writer": kill_zygote.write, "keeper": keep, "forgetter": forget, "reader": read}

if __name__ == "__main__":
    kill_zygote.main(ROLES)
