"""Makes the golden store of the current format version: run once per version, by hand, and commit what it writes.

python tests/golden/make_store.py tests/golden/v2

It holds everything that the version can write: all tiers, repeats, tombstones, a file in the trash, late records, a
MANIFEST that was compacted and one that was not, holds, lanes sealed and open. Later versions add to it and take
nothing away; the stores of earlier ones stay as they are.
"""

import shutil
import sys
import tempfile
from pathlib import Path

from memstore import MemStore
from memstore.clock import ManualClock

NOW_US = 1_736_951_400_000_000  # 2025-01-15T14:30:00Z
DAY_S = 86_400.0
AGENTS = ["bot", "Agent Smith/7"]
SETTINGS = {
    "storage.ballast_bytes": 0,
    "storage.shards": 2,
    "merging.background": False,
    "storage.lifecycle.reserve_bytes": 0,
    "storage.lifecycle.warm_frame_bytes": 4096,
    "storage.lifecycle.cold_frame_bytes": 4096,
    "storage.lifecycle.deduplication_enabled": True,
    "storage.lifecycle.keep_read_days": 0,
    "storage.retention.rules": [{"agent": "bot", "memory_type": "PLAN", "keep_days": 20}],
}


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


def states(day, agent="bot"):
    """What a machine reports again and again: in a cold file most of it is repeats."""
    return [
        {
            "agent_id": agent,
            "memory_type": "SYSTEM_STATE",
            "importance": "LOW",
            "content": {
                "state": ("idle", "busy")[n % 2],
                "source_id": "nested",
                "text": "all is well, as it was. " * 4,
            },
            "timestamp_utc": f"{day}T11:00:{n:02d}.000000Z",
            "source_id": f"state-{day}-{n}",
            "timestamp_local": f"{day}T12:00:{n:02d}+01:00",
        }
        for n in range(24)
    ]


def plans(day):
    """What a rule removes after 20 days."""
    return [{**each, "agent_id": "bot", "memory_type": "PLAN", "importance": "LOW"} for each in records(80, 90, day)]


def live_through_two_months(store, clock, root):
    store.append_many(records(0, 40, "2025-01-14"))
    store.drain()
    store.append_many(records(40, 60, "2025-01-15"))
    store.append_many(records(60, 70, "2025-01-14"))
    store.drain()
    store.pin("bot", "shard_001")
    forgotten = {**records(72, 73, "2025-01-13")[0], "source_id": "old-72"}
    store.import_many([{**records(70, 71, "2025-01-13")[0], "source_id": "old-70"}, forgotten])
    store.import_many(states("2025-01-12"))
    store.import_many(states("2025-01-13", "Agent Smith/7"))
    store.drain()
    store.forget(next(r.memory_id for r in store.agent("bot").range() if r.source_id == "old-72"))
    clock.advance(38 * DAY_S)  # February 22
    store.append_many([*plans("2025-02-20"), *records(100, 130, "2025-02-20"), *records(130, 160, "2025-02-21")])
    done(store.maintain(trust_clock=True))  # January goes cold, and what was forgotten of it for good
    clock.advance(10 * DAY_S)  # March 4
    done(store.maintain())
    store.append_many(records(160, 170, "2025-02-21"))  # late
    store.add_hold("case-7", agent="Agent Smith/7", memory_type="ERROR", since="2025-02-01", reason="a complaint")
    clock.advance(14 * DAY_S)  # March 18
    store.append_many(records(170, 180, "2025-03-17"))
    (directory,) = (root / "memory" / "shards").glob("*/agent-smith-7*")
    (directory / ".tmp-left").write_bytes(b"by a process that was killed")  # its clean-up compacts the MANIFEST
    done(store.maintain(parts={"tiers", "retention"}))


def done(report):
    assert not report.failed, report.failed


def main(target):
    target = Path(target)
    shutil.rmtree(target, ignore_errors=True)
    clock = ManualClock(NOW_US)
    with tempfile.TemporaryDirectory() as work:
        root = Path(work) / "store"
        with MemStore(root, settings=SETTINGS, clock=clock) as store:
            live_through_two_months(store, clock, root)
            store.append_many(records(180, 185, "2025-02-20"))  # late, and hot when the store is copied
            store.drain()
            cold = [r.memory_id for r in store.agent("bot").range(until="2025-01-31")]
            warm = [r.memory_id for r in store.agent("bot").range(since="2025-02-20", until="2025-02-21")]
            store.forget([cold[0], warm[3], warm[5]])  # cold[0] is the original of repeats
            store.undelete(ids=warm[5])
            store.append_many(records(185, 190, "2025-03-18"))
        # merging is off, so closing left a sealed lane; the next one is copied while it is open
        with MemStore(root, settings=SETTINGS, clock=clock) as store:
            store.append_many(records(71, 80, "2025-03-18"))
            shutil.copytree(root, target / "store")
            for empty in [path for path in (target / "store").rglob("*") if path.is_dir() and not any(path.iterdir())]:
                (empty / ".gitkeep").touch()  # git keeps no empty directories, and a shard's must be there
            with (target / "expected.ndjson").open("wb") as out:
                for agent in AGENTS:
                    for line in store.agent(agent).lines():
                        out.write(line + b"\n")


if __name__ == "__main__":
    main(sys.argv[1])
