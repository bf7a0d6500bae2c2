"""Stores whose records are old enough to be tiered."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from time import perf_counter, process_time
from typing import Literal, Self

from benchmarks.aside import put_aside
from memstore import MemStore
from memstore.clock import ManualClock
from memstore.config import LifecycleSettings
from memstore.demo.generator import Plan
from memstore.lifecycle.maintain_report import MaintainReport
from memstore.timestamps import US_PER_DAY, day_start_us

PackedTier = Literal["warm", "cold"]
LINE_BYTES_MEAN = 4056
"""What the generator's records come to."""
END_US = day_start_us("20250116")
"""All generated records are of the days before."""
_DEFAULTS = LifecycleSettings()
LEVEL: dict[PackedTier, int] = {"warm": _DEFAULTS.warm_level, "cold": _DEFAULTS.cold_level}
FRAME_BYTES: dict[PackedTier, int] = {"warm": _DEFAULTS.warm_frame_bytes, "cold": _DEFAULTS.cold_frame_bytes}


@dataclass(frozen=True, slots=True)
class Spent:
    """Seconds of wall and of all threads' processors."""

    wall_s: float
    cpu_s: float


class Stopwatch:
    """``with Stopwatch() as watch: ...``, then ``watch.spent``."""

    def __enter__(self) -> Self:
        self._began = perf_counter(), process_time()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.spent = Spent(perf_counter() - self._began[0], process_time() - self._began[1])


def fill(root: str, *, size_bytes: int, agents: int = 1, days: int = 1, shuffled: bool = False, drains: int = 1) -> int:
    """Day files of the seeded generator's records.

    Args:
        root: of a new store.
        size_bytes: of all lines, about.
        agents: over how many agents they spread, unevenly.
        days: over how many days before `END_US`.
        shuffled: append them in no order of time.
        drains: merge so often, evenly; with ``shuffled`` so many runs overlap from end to end.

    Returns:
        How many records.
    """
    records = max(size_bytes // LINE_BYTES_MEAN, agents)
    plan = Plan(seed=7, agents=agents, records=records, days=days, now_us=END_US)
    order = [(agent, index) for agent in range(agents) for index in range(plan.count_of(agent))]
    if shuffled:
        random.Random(7).shuffle(order)
    step = min(2000, -(-records // drains))
    with MemStore(root, durability="os") as store:
        for start in range(0, records, step):
            store.append_many([plan.record(*place) for place in order[start : start + step]])
            if drains > 1:
                store.drain()
        assert not store.drain().pending
    return records


def day_files(root: str) -> list[str]:
    """Paths of a store's day files, in order of shard, agent and day."""
    return [
        os.path.join(directory, name)
        for directory, _, names in sorted(os.walk(os.path.join(root, "memory", "shards")))
        for name in sorted(names)
        if _is_hot(name)
    ]


def hot_lines(root: str) -> list[bytes]:
    """The content of each day file of a store whose files are all hot."""
    found = []
    for path in day_files(root):
        with open(path, "rb") as file:
            found.append(file.read())
    return found


def tier_all(
    root: str, tier: PackedTier, *, settings: Mapping[str, object] | None = None
) -> tuple[Spent, MaintainReport]:
    """Tier all of a store's day files, as if they were old enough; what it took."""
    newest = max(name for _, _, names in os.walk(os.path.join(root, "memory")) for name in names if _is_hot(name))
    clock = ManualClock(day_start_us(newest[:8]) + (20 if tier == "warm" else 120) * US_PER_DAY)
    # Reading keeps nothing where it is, and no month is too old to be warm.
    lifecycle = {"keep_read_days": 0, "warm_storage_days": 100_000 if tier == "warm" else 30, **(settings or {})}
    with MemStore(root, clock=clock, durability="os", settings={"storage": {"lifecycle": lifecycle}}) as store:
        with Stopwatch() as watch:
            report = store.maintain(trust_clock=True, parts=["tiers"])
        assert not report.failed, report.failed
        (hot, *_) = store.tiers()["tiers"]
        assert not hot["files"], report.as_dict()
    return watch.spent, report


def tier_old(root: str) -> MaintainReport:
    """Tier what is old enough today, which the generator's records are, and leave the rest."""
    with MemStore(root, durability="os") as store:
        report = store.maintain(trust_clock=True, parts=["tiers"])
    assert not report.failed, report.failed
    return report


def _is_hot(name: str) -> bool:
    return name.endswith(".jsonl") and name[:8].isdigit()


def copied(source: str, target: str) -> str:
    """A fresh copy of a store, in the page cache and on disk."""
    put_aside(target)
    shutil.copytree(source, target)
    os.sync()
    return target


def bytes_of_tier(root: str, tier: PackedTier) -> tuple[int, int]:
    """Bytes of all files of a tier: as they are, and as the disk allocates them."""
    apparent = allocated = 0
    for directory, _, names in os.walk(os.path.join(root, "memory")):
        for name in names:
            if name.endswith(".jsonl.zst") and ("-" in name) == (tier == "warm"):
                status = os.stat(os.path.join(directory, name))
                apparent += status.st_size
                allocated += status.st_blocks * 512
    return apparent, allocated
