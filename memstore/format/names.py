"""Every file name and directory of a store (docs/FORMAT.md, "Directory tree"). All paths come from here."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import Literal

STORE_FILE = "STORE.json"
MANIFEST = "MANIFEST"
SHARD_LOCK = ".lock"
LANE_SUFFIX = ".lane"
KEPT_SUFFIX = ".kept"
"""A lane that is merged and cannot go: part of it is damaged and waits for repair."""
MERGED_SUFFIX = ".merged"
"""A lane that is merged, so that no read of records looks at it, and waits for a consumer."""
SEAL_MARK = "SEAL"
BACKUP_LIST = "BACKUP.json"
"""The list of a point of a backup, written last: without it the directory is no point."""
CONSUMER_SUFFIX = ".json"
INCOMING_DIRECTORY = ".incoming"
TRASH_DIRECTORY = ".trash"

Tier = Literal["hot", "warm", "cold"]

_LANE = re.compile(r"([0-9a-f]{8})-([0-9a-f]{32})\.(lane|kept|merged)")
_REPLICA = re.compile(r"memstore-([0-9a-f]{32})-replica")
_DAY_FILE = re.compile(r"(\d{8})\.(\d+)\.jsonl")
_WARM_FILE = re.compile(r"(\d{8})-(\d{8})\.(\d+)\.jsonl\.zst")
_COLD_FILE = re.compile(r"(\d{6})\.(\d+)\.jsonl\.zst")


def shard_name(index: int) -> str:
    """``shard_007``: its directory and its name."""
    return f"shard_{index:03d}"


def lane_name(writer_number: int, token: str) -> str:
    """``{writer number}-{128 random bits}.lane``; a name never seen twice."""
    return f"{writer_number:08x}-{token}{LANE_SUFFIX}"


def is_lane_name(name: str) -> bool:
    """Whether a name in ``lanes/`` is that of a lane that may hold what no file does (open, sealed or kept)."""
    match = _LANE.fullmatch(name)
    return match is not None and match[3] != "merged"


def is_merged_lane_name(name: str) -> bool:
    """Whether a name in ``lanes/`` is that of a lane that only waits for a consumer."""
    match = _LANE.fullmatch(name)
    return match is not None and match[3] == "merged"


def lane_token(name: str) -> str:
    """The 32 hex digits by which a MANIFEST cites a lane; the same for ``.lane``, ``.kept`` and ``.merged``."""
    match = _LANE.fullmatch(name)
    assert match is not None, name
    return match[2]


def replica_root(volume: str, store_id: str) -> str:
    """Root of a store's second copy on another volume."""
    return os.path.join(volume, f"memstore-{store_id}-replica")


def parse_replica_name(name: str) -> str | None:
    """The id of the store of which a directory of this name is the second copy, or None for any other name."""
    match = _REPLICA.fullmatch(name)
    return None if match is None else match[1]


def day_file_name(day: str, version: int) -> str:
    """``20250115.1.jsonl``."""
    return f"{day}.{version}.jsonl"


def parse_day_file_name(name: str) -> tuple[str, int] | None:
    """``(day, version)`` of a day file's name, or None for any other name."""
    match = _DAY_FILE.fullmatch(name)
    return None if match is None else (match[1], int(match[2]))


def warm_file_name(first_day: str, last_day: str, version: int) -> str:
    """``20250106-20250108.4.jsonl.zst``; one day is written ``20250106-20250106``."""
    return f"{first_day}-{last_day}.{version}.jsonl.zst"


def cold_file_name(month: str, version: int) -> str:
    """``202411.2.jsonl.zst``."""
    return f"{month}.{version}.jsonl.zst"


def parse_warm_file_name(name: str) -> tuple[str, str, int] | None:
    """``(first day, last day, version)`` of a warm file's name, or None for any other name."""
    match = _WARM_FILE.fullmatch(name)
    return None if match is None else (match[1], match[2], int(match[3]))


def parse_cold_file_name(name: str) -> tuple[str, int] | None:
    """``(month, version)`` of a cold file's name, or None for any other name."""
    match = _COLD_FILE.fullmatch(name)
    return None if match is None else (match[1], int(match[2]))


def tier_of(name: str) -> Tier | None:
    """The tier of an agent's file, which its name says, or None for any other name."""
    if parse_day_file_name(name) is not None:
        return "hot"
    if parse_warm_file_name(name) is not None:
        return "warm"
    return None if parse_cold_file_name(name) is None else "cold"


def file_version(name: str) -> int | None:
    """The version in the name of a day file, warm file or cold file, or None for any other name."""
    parsed = parse_day_file_name(name) or parse_warm_file_name(name) or parse_cold_file_name(name)
    return None if parsed is None else parsed[-1]


@dataclass(frozen=True, slots=True)
class StorePaths:
    """Paths below one store's root (absolute)."""

    root: str

    @property
    def store_file(self) -> str:
        """Identity, ring, writer numbers; replaced atomically."""
        return os.path.join(self.root, STORE_FILE)

    @property
    def lanes(self) -> str:
        """Write-ahead logs, one per writing process."""
        return os.path.join(self.root, "lanes")

    @property
    def seal_mark(self) -> str:
        """Replaced by a drain; writers that see it change seal their lane."""
        return os.path.join(self.lanes, SEAL_MARK)

    @property
    def locks(self) -> str:
        """Lock files; nothing else opens them."""
        return os.path.join(self.root, "locks")

    def lock(self, name: str) -> str:
        """``locks/merge``, ``locks/store``, ``locks/import``, ``locks/replica``."""
        return os.path.join(self.locks, name)

    @property
    def shards(self) -> str:
        """Where shards lie that have no volume of their own."""
        return os.path.join(self.root, "memory", "shards")

    @property
    def archive(self) -> str:
        """Where cold files lie, a directory for each agent, unless STORE.json names another volume."""
        return os.path.join(self.root, "memory", "archive")

    @property
    def forgotten(self) -> str:
        """Append-only: every act that made records disappear. Its size tells readers that their caches are stale."""
        return os.path.join(self.root, "FORGOTTEN")

    @property
    def consumers(self) -> str:
        """How far each consumer of the lanes is, a file for each."""
        return os.path.join(self.root, "consumers")

    def consumer(self, name: str) -> str:
        """A consumer's file; replaced atomically."""
        return os.path.join(self.consumers, f"{name}{CONSUMER_SUFFIX}")

    @property
    def search(self) -> str:
        """The search index, a directory for each version of a month; derived, can always be built again."""
        return os.path.join(self.root, "memory", "cache", "search")

    @property
    def holds(self) -> str:
        """Legal holds; replaced atomically."""
        return os.path.join(self.root, "HOLDS.json")

    @property
    def lifecycle_state(self) -> str:
        """When maintenance last ran, by which clock; replaced atomically."""
        return os.path.join(self.root, "LIFECYCLE.json")

    @property
    def schedule(self) -> str:
        """When each job of the scheduler last ran; replaced atomically; lost without harm."""
        return os.path.join(self.root, "SCHEDULE.json")

    @property
    def scrub(self) -> str:
        """How far the slow check has come, and what the last one found; replaced atomically; lost without harm."""
        return os.path.join(self.root, "SCRUB.json")

    @property
    def quarantine(self) -> str:
        """What a repair has set aside; counts for nothing."""
        return os.path.join(self.root, "quarantine")

    @property
    def runtime(self) -> str:
        """What running processes say about themselves."""
        return os.path.join(self.root, "logs", "runtime")

    @property
    def heartbeat(self) -> str:
        """The daemon's sign of life; there while it runs."""
        return os.path.join(self.runtime, "heartbeat.json")

    @property
    def reads(self) -> str:
        """When files were last read, a file for each agent; lost without harm."""
        return os.path.join(self.root, "reads")

    @property
    def recovery_log(self) -> str:
        """Torn tails that were cut off, kept aside."""
        return os.path.join(self.root, "logs", "recovery")

    @property
    def backup_list(self) -> str:
        """There in a backup: what it holds. A store has none."""
        return os.path.join(self.root, BACKUP_LIST)

    @property
    def ballast(self) -> str:
        """A reserve that is given up when the disk is full."""
        return os.path.join(self.root, "ballast")
