"""A store that has a file of every kind: what the tests of check and repair damage."""

from __future__ import annotations

import os
import shutil
from typing import Any

from lifecycle_support import DAY_S, LIVELY, at, iso, lines_of
from support import lane_files

from memstore import MemStore
from memstore.clock import ManualClock

AGENTS = ("a", "b.B")
SETTINGS: dict[str, Any] = {
    **LIVELY,
    "storage.retention.rules": [{"memory_type": "PERFORMANCE", "keep_days": 20}],
    "storage.lifecycle.deduplication_enabled": True,
}


def clock_of_rich_store() -> ManualClock:
    """The time at which `rich_store` leaves a store."""
    return ManualClock(at(23))


def open_rich(root: str, **options: Any) -> MemStore:
    """The store, a moment after it was left."""
    return MemStore(root, settings=SETTINGS, clock=clock_of_rich_store(), **options)


def records(
    agent: str, first: int, last: int, *, memory_type: str = "INTERACTION", each: int = 3
) -> list[dict[str, Any]]:
    """Some records a day, half of them with a content that repeats."""
    return [
        {
            "agent_id": agent,
            "memory_type": memory_type,
            "content": {"state": "all is well " * 6} if n % 2 else f"{agent} {day} {n} " + "w" * 200,
            "timestamp_utc": iso(day + (n + 1) / 24),
        }
        for day in range(first, last)
        for n in range(each)
    ]


def rich_store(root: str) -> dict[str, dict[str, bytes]]:
    """Make the store; the lines that reads give, by agent and id.

    Cold, warm and hot files with repeats and late records; the trash of retention; tombstones; a hold; FORGOTTEN with
    an erasure that is done; notes of reads; a sealed lane, and one that is open as a killed writer leaves it.
    """
    clock = ManualClock(at(0))
    with MemStore(root, settings=SETTINGS, clock=clock) as store:
        for agent in AGENTS:
            store.append_many(records(agent, -70, -60) + records(agent, -20, -8))
            store.append_many(records(agent, -20, -16, memory_type="PERFORMANCE"))
        store.append_many(records("gone", -20, -18))
        assert not store.maintain().failed
        store.erase(agent="gone")
        clock.advance(22 * DAY_S)
        assert not store.maintain().failed
        clock.advance(DAY_S)
        for agent in AGENTS:
            store.append_many(records(agent, 18, 22))
            store.drain()
            store.append_many(records(agent, 19, 23))
            store.drain()
        store.append_many(records("b.B", -15, -14))  # late ones
        store.drain()
        store.add_hold("case", agent="a", since=iso(-70), until=iso(-69))
        for agent in AGENTS:
            ids = [record.memory_id for record in store.agent(agent).range()]
            store.forget([ids[-1], ids[40], ids[20]])
        _leave_lane(store, root, "sealed")
    os.makedirs(os.path.join(root, "lanes", "aside"), exist_ok=True)
    (sealed,) = lane_files(root, ".aside-sealed")
    with MemStore(root, settings=SETTINGS, clock=clock) as store:
        _leave_lane(store, root, "open")
    (opened,) = lane_files(root, ".aside-open")
    for path in (sealed, opened):
        os.rename(path, path.rpartition(".aside-")[0])
    os.rmdir(os.path.join(root, "lanes", "aside"))
    with open_rich(root, read_only=True) as store:
        return {
            agent: lines_of(store, agent, [record.memory_id for record in store.agent(agent).range()])
            for agent in (*AGENTS, "new")
        }


def _leave_lane(store: MemStore, root: str, how: str) -> None:
    """Write a lane and put a copy of it aside, as it is when its process dies."""
    for number in range(4):
        store.append_many(
            {"agent_id": agent, "content": f"{how} {number} {n} " + "l" * 100, "timestamp_utc": iso(22 + n / 24)}
            for agent in (*AGENTS, "new")
            for n in range(3)
        )
    (path,) = [path for path in lane_files(root) if os.path.getsize(path)]
    if how == "sealed":
        from memstore.wal.seal import seal_lane

        engine = store._engine
        lane = engine._committer.release_lane()
        seal_lane(engine.storage, engine.paths, lane.file, at_us=engine.clock.now_us(), own=True)
        lane.close()
    shutil.copyfile(path, f"{path}.aside-{how}")
    os.unlink(path)


def files_of(root: str) -> list[str]:
    """Paths of all files that hold anything, but for locks."""
    found = [
        os.path.join(directory, name)
        for directory, _, names in os.walk(root)
        if os.path.basename(directory) != "locks"
        for name in names
        if name != ".lock"
    ]
    return sorted(path for path in found if os.path.getsize(path))
