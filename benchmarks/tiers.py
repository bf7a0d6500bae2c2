"""Stores whose records are old enough to be tiered, and zstd alone on the same lines."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from time import perf_counter, process_time
from typing import Literal, Self

import zstandard

from memstore import MemStore
from memstore.clock import ManualClock
from memstore.config import LifecycleSettings
from memstore.demo.generator import Plan
from memstore.lifecycle.manager import MaintainReport
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


def hot_lines(root: str) -> list[bytes]:
    """The content of each day file of a store whose files are all hot."""
    found = []
    for directory, _, names in sorted(os.walk(os.path.join(root, "memory", "shards"))):
        for name in sorted(names):
            if _is_hot(name):
                with open(os.path.join(directory, name), "rb") as file:
                    found.append(file.read())
    return found


def zstd_alone(files: list[bytes], tier: PackedTier) -> tuple[Spent, int]:
    """What compressing these lines takes in one thread, in frames and at the level of the tier, and their bytes."""
    level, size = LEVEL[tier], FRAME_BYTES[tier]
    compressor = zstandard.ZstdCompressor(level=level, write_checksum=True)
    packed = 0
    with Stopwatch() as watch:
        for data in files:
            for frame in _frames(data, size):
                packed += len(compressor.compress(frame))
    return watch.spent, packed


def zstd_program(root: str, tier: PackedTier) -> float:
    """Wall seconds that the ``zstd`` program takes to pack all day files of a store, each into one, and remove them.

    Nothing is synced, read back or counted, and what is left is no store.
    """
    paths = [
        os.path.join(directory, name)
        for directory, _, names in sorted(os.walk(os.path.join(root, "memory", "shards")))
        for name in sorted(names)
        if _is_hot(name)
    ]
    began = perf_counter()
    for first in range(0, len(paths), 1000):
        subprocess.run(["zstd", f"-{LEVEL[tier]}", "-q", "--rm", "--", *paths[first : first + 1000]], check=True)
    return perf_counter() - began


def _frames(data: bytes, size: int) -> Iterator[bytes]:
    start = 0
    while start < len(data):
        end = len(data)
        if end - start > size:
            end = (data.rfind(b"\n", start, start + size) + 1) or data.index(b"\n", start) + 1
        yield data[start:end]
        start = end


def zstd_solid_bytes(files: list[bytes], scratch: str) -> int:
    """Bytes of one ``zstd -19 --long=27`` of all of them: the limit of what any layout can reach."""
    path = os.path.join(scratch, "solid.ndjson")
    with open(path, "wb") as file:
        file.writelines(files)
    command = ["zstd", "-19", "--long=27", "-q", "-f", path, "-o", path + ".zst"]
    subprocess.run(command, check=True)
    return os.path.getsize(path + ".zst")


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


def _is_hot(name: str) -> bool:
    return name.endswith(".jsonl") and name[:8].isdigit()


def copied(source: str, target: str) -> str:
    """A fresh copy of a store, in the page cache and on disk."""
    shutil.rmtree(target, ignore_errors=True)
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
