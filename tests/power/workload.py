"""What runs on the disk that loses its power: one process does whatever a store can do, and notes each answer.

``workload.py ROOT NOTES SEED``: notes go to another disk, a line each: the time (CLOCK_MONOTONIC, nanoseconds) at which
the store had answered, what it did, and the ids. A batch is one line.
"""

from __future__ import annotations

import contextlib
import os
import random
import sys
import time

from memstore import MemStore
from memstore.timestamps import US_PER_DAY

AGENTS = ("first", "Second.Agent", "third")
STEPS = 90
DEEDS = ("one", "batch", "merge", "maintain", "index", "forget", "erase")
HOW_OFTEN = (8, 6, 3, 2, 1, 1, 0.5)
SETTINGS = {
    "storage.ballast_bytes": 0,
    "storage.shards": 2,
    "storage.lifecycle.reserve_bytes": 0,
    "storage.lifecycle.warm_frame_bytes": 4096,
    "storage.lifecycle.cold_frame_bytes": 8192,
    "storage.lifecycle.keep_read_days": 0,
    "merging.background": False,
    "merging.file_syncs_max": 4,
    "search.background": False,
    "writing.lane_bytes_max": 65536,
    "writing.commit_bytes_max": 65536,
}


def main() -> None:
    """Work through one story."""
    root, notes_path, seed = sys.argv[1:]
    chance = random.Random(int(seed))
    notes = os.open(notes_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    ids: list[str] = []

    def note(what: str, which: list[str]) -> None:
        os.write(notes, f"{time.monotonic_ns()} {what} {' '.join(which)}\n".encode())

    store = MemStore(root, settings=SETTINGS)
    for step in range(STEPS):
        what = chance.choices(DEEDS, HOW_OFTEN)[0]
        if what == "one":
            memory_id = store.append(agent_id=chance.choice(AGENTS), content=[step, "x" * chance.randrange(3000)])
            note("has", [memory_id])
            ids.append(memory_id)
        elif what == "batch":
            batch = [
                {
                    "agent_id": chance.choice(AGENTS),
                    "content": [step, "y" * chance.randrange(900)],
                    "timestamp_utc": f"2025-0{chance.randrange(1, 4)}-1{chance.randrange(5)}T10:00:00Z",
                }
                for _ in range(chance.randrange(2, 12))
            ]
            given = store.append_many(batch)
            note("has", given)
            ids += given
        elif what == "merge":
            store.drain()
        elif what == "index":
            store.index()
        elif what == "maintain":
            store.maintain(time.time_ns() // 1000 + chance.choice((0, 20, 80)) * US_PER_DAY)
        elif ids:
            gone = chance.sample(ids, min(len(ids), 2))
            note("goes", gone)
            with contextlib.suppress(ValueError):
                store.forget(gone) if what == "forget" else store.erase(ids=gone)
            note("gone", gone)
            ids = [memory_id for memory_id in ids if memory_id not in gone]
    store.close()


if __name__ == "__main__":
    main()
