"""Makes the golden store of the current format version: run once per version, by hand, and commit what it writes.

python tests/golden/make_store.py tests/golden/v1
"""

import shutil
import sys
import tempfile
from pathlib import Path

from memstore import MemStore
from memstore.clock import ManualClock

NOW_US = 1_736_951_400_000_000  # 2025-01-15T14:30:00Z
AGENTS = ["bot", "Agent Smith/7"]


def records(start, stop, day):
    return [
        {
            "agent_id": AGENTS[n % 2],
            "memory_type": ("ERROR", "GOAL", "INTERACTION")[n % 3],
            "importance": ("LOW", "CRITICAL")[n % 2],
            "content": {"n": n, "text": "é\n" * (n % 5)},
            "tags": [f"t{n % 4}"],
            "timestamp_utc": f"{day}T10:{n % 60:02d}:00.{n:06d}Z",
        }
        for n in range(start, stop)
    ]


def main(target):
    target = Path(target)
    shutil.rmtree(target, ignore_errors=True)
    with tempfile.TemporaryDirectory() as work:
        root = Path(work) / "store"
        settings = {"storage.ballast_bytes": 0, "storage.shards": 2, "merging.background": False}
        with MemStore(root, settings=settings, clock=ManualClock(NOW_US)) as store:
            store.append_many(records(0, 40, "2025-01-14"))
            store.drain()
            store.append_many(records(40, 60, "2025-01-15"))
            store.append_many(records(60, 70, "2025-01-14"))
            store.drain()
            store.pin("bot", "shard_001")
            store.import_many([{**records(70, 71, "2025-01-13")[0], "source_id": "old-70"}])
        # merging is off, so closing left a sealed lane; the next one is copied while it is open
        with MemStore(root, settings=settings, clock=ManualClock(NOW_US)) as store:
            store.append_many(records(71, 80, "2025-01-15"))
            shutil.copytree(root, target / "store")
            with (target / "expected.ndjson").open("wb") as out:
                for agent in AGENTS:
                    for line in store.agent(agent).lines():
                        out.write(line + b"\n")


if __name__ == "__main__":
    main(sys.argv[1])
