"""What tests of the engine share: tiny settings, engines on a chosen storage, and looks at a store from outside."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable
from typing import Any

from memstore import MemStore
from memstore.clock import Clock, WallClock
from memstore.config_load import load_settings
from memstore.engine.engine import Engine
from memstore.fs.local import LocalStorage
from memstore.fs.storage import Storage
from memstore.writing import append_batch, append_one

T0_US = 1_736_899_200_000_000
"""2025-01-15T00:00:00Z."""

QUIET: dict[str, Any] = {
    "storage": {"ballast_bytes": 0, "shards": 2},
    "merging": {"background": False},
}
"""Nothing is merged unless a test asks for it."""

TINY: dict[str, Any] = {
    "storage": {"ballast_bytes": 0, "shards": 2, "record_bytes_max": 65536},
    "writing": {
        "lane_bytes_max": 4096,
        "commit_bytes_max": 4096,
        "pending_bytes_max": 65536,
        "batch_bytes_max": 1 << 20,
        "waiting_bytes_max": 1 << 16,
        "lane_slices_max": 16,
    },
    "merging": {"lanes_max": 3, "waiting_bytes": 8192, "bytes_per_agent": 1024, "age_s": 0, "run_bytes_max": 2048},
}
"""Lanes seal and merge all the time."""

NO_CACHES = {"recent_memories_mb": 0, "pattern_cache_mb": 0, "agent_stats_cache_mb": 0}


def make_engine(
    root: str | os.PathLike[str],
    storage: Storage | None = None,
    *,
    settings: dict[str, Any] | None = None,
    clock: Clock | None = None,
    read_only: bool = False,
    create: bool = True,
) -> Engine:
    """An engine on any storage; the real one unless given."""
    loaded = load_settings(QUIET if settings is None else settings).settings
    return Engine(
        storage or LocalStorage(),
        os.path.abspath(root),
        settings=loaded,
        clock=clock or WallClock(),
        read_only=read_only,
        create=create,
    )


def put(engine: Engine, agent: str, content: Any, **fields: Any) -> str:
    """Append one record to an engine."""
    return append_one(engine, {"agent_id": agent, "content": content, **fields})


def put_many(engine: Engine, records: Iterable[dict[str, Any]]) -> list[str]:
    """Append one batch to an engine."""
    return append_batch(engine, list(records)).ids


def flat(lists: Iterable[Iterable[str]]) -> list[str]:
    """Everything in them, in order."""
    return [item for each in lists for item in each]


def lane_files(root: str | os.PathLike[str], suffix: str = ".lane") -> list[str]:
    """Paths of the lanes with that ending, sorted."""
    lanes = os.path.join(root, "lanes")
    return sorted(os.path.join(lanes, name) for name in os.listdir(lanes) if name.endswith(suffix))


def files_named(root: str | os.PathLike[str], ending: str) -> list[str]:
    """Paths of all files below shards whose path ends in ``/{ending}``, sorted."""
    found = [
        path
        for directory, _, names in os.walk(os.path.join(root, "memory"))
        if ".trash" not in directory
        for path in (os.path.join(directory, name) for name in names)
        if path.endswith(f"/{ending}")
    ]
    return sorted(found)


def flip(path: str, offset: int, mask: int = 0x01) -> None:
    """Flip bits of one byte; a negative offset counts from the end."""
    with open(path, "r+b") as file:
        file.seek(offset, os.SEEK_SET if offset >= 0 else os.SEEK_END)
        place = file.tell()
        byte = file.read(1)[0]
        file.seek(place)
        file.write(bytes([byte ^ mask]))


def assert_exactly(store: MemStore, expected: dict[str, Iterable[str]]) -> None:
    """Every id is there once, in ``get``, ``range`` of both directions, ``recent`` and ``count``, and no other is."""
    for agent, ids in expected.items():
        wanted = Counter(ids)
        bot = store.agent(agent)
        up = [record.memory_id for record in bot.range()]
        missing, doubled = wanted - Counter(up), Counter(up) - wanted
        assert not missing, f"{agent}: lost {sorted(missing)[:5]} ({sum(missing.values())} in all)"
        assert not doubled, f"{agent}: doubled or unknown {sorted(doubled)[:5]} ({sum(doubled.values())} in all)"
        assert up == sorted(up), f"{agent}: range is out of order"
        assert [record.memory_id for record in bot.range(newest_first=True)] == up[::-1]
        assert [record.memory_id for record in bot.recent(len(up) + 1)] == up[::-1]
        assert bot.count() == len(up)
        for memory_id in up[:: max(len(up) // 20, 1)]:
            record = store.get(memory_id)
            assert record is not None, memory_id
            assert record.memory_id == memory_id
