"""What runs under strace for ``test_injected_calls``: appends, merges, moves, until its story ends or it is killed.

``injected_story.py ROOT SEED``: ``ack AGENT ID`` lines go to standard output once the store has acknowledged; a line a
batch. Records are those of ``kill_zygote``, and so is the check of what is left.
"""

from __future__ import annotations

import contextlib
import os
import random
import sys

from kill_zygote import AGENTS
from lifecycle_zygote import SETTINGS

from memstore import MemStore, MemstoreError
from memstore.timestamps import US_PER_DAY

STEPS = 24


def main() -> None:
    """One story; what the store refuses is left out of it."""
    root, seed = sys.argv[1:]
    chance = random.Random(int(seed))
    with contextlib.suppress(MemstoreError):
        store = MemStore(root, settings=SETTINGS)
        for step in range(STEPS):
            with contextlib.suppress(MemstoreError):
                if step % 8 == 5:
                    store.drain(timeout_s=0)
                elif step % 8 == 7:
                    store.maintain(store._engine.clock.now_us() + chance.choice((0, 20, 80)) * US_PER_DAY)
                else:
                    size = chance.choice((1, 2, 9))
                    records = [
                        {
                            "agent_id": chance.choice(AGENTS),
                            "content": {"batch": f"{seed}-{step}", "size": size, "pad": "x" * chance.randrange(900)},
                        }
                        for _ in range(size)
                    ]
                    ids = store.append_many(records)
                    told = "".join(f"ack {r['agent_id']} {i}\n" for r, i in zip(records, ids, strict=True))
                    os.write(1, told.encode())
        store.close()


if __name__ == "__main__":
    main()
