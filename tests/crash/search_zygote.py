"""Roles for the search's kill tests, forked by ``kill_zygote``: writers, an indexer, a searcher that compares."""

from __future__ import annotations

import contextlib
import itertools
import os
import random
from typing import Any

from kill_zygote import AGENTS, main
from support import TINY

from memstore import LockedError, MemStore
from memstore.clock import WallClock
from memstore.timestamps import iso_text

SETTINGS: dict[str, Any] = {**TINY, "search.background": False}
CLOCK = WallClock()
DAY_US = 86_400_000_000


def write(root: str, seed: int, acks: int) -> None:
    """Append to several months for ever; each acknowledged id is told."""
    chance = random.Random(seed)
    store = MemStore(root, settings=SETTINGS, durability="os")
    for number in itertools.count():
        records = [
            {
                "agent_id": chance.choice(AGENTS),
                "content": {"batch": f"{seed}-{number}", "text": "needle in hay"},
                "timestamp_utc": iso_text(CLOCK.now_us() - chance.choice([0, 0, 35, 70]) * DAY_US),
            }
            for _ in range(chance.randrange(1, 8))
        ]
        ids = store.append_many(records)
        line = "".join(f"ack {r['agent_id']} {i}\n" for r, i in zip(records, ids, strict=True))
        os.write(acks, line.encode())


def index(root: str, seed: int, acks: int) -> None:
    """Index and drain for ever, rebuilding a month now and then; says that it has begun."""
    chance = random.Random(seed)
    store = MemStore(root, settings=SETTINGS, durability="os")
    os.write(acks, b"began x x\n")
    while True:
        with contextlib.suppress(LockedError):
            store.index(rebuild=chance.random() < 0.1)
        if chance.random() < 0.3:
            with contextlib.suppress(LockedError):
                store.drain(timeout_s=0.02)


if __name__ == "__main__":
    main({"writer": write, "indexer": index})
