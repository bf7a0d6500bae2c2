"""Stores that several workloads read, each made when it is first asked for and kept to the end of the run."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cached_property

import orjson

from benchmarks.floors.read import Stretch
from benchmarks.searching import DAYS as SEARCHED_DAYS
from benchmarks.searching import fill_for_search
from benchmarks.sizes import Sizes
from benchmarks.tiers import PackedTier, copied, day_files, tier_all
from benchmarks.workloads import batches, memories
from memstore import MemStore
from memstore.timestamps import US_PER_DAY, day_start_us, iso_text

AGENTS = 20
DAYS = 10
"""All in one month, so that each agent has one cold file."""
FIRST_DAY = "20250110"
_BATCH = 4000
_POOL = 20_000

CACHES_OFF = {"recent_memories_mb": 0, "pattern_cache_mb": 0, "agent_stats_cache_mb": 0}
"""For ``storage.caching``: every read goes to the files."""


@dataclass(frozen=True, slots=True)
class Searched:
    """A store with its index: where it is, how many records, bytes of their lines."""

    root: str
    records: int
    bytes: int


class Library:
    """The same records in each tier, and a store to search.

    Args:
        directory: an empty one.
        sizes: how many records.
    """

    def __init__(self, directory: str, sizes: Sizes) -> None:
        self._directory = directory
        self._sizes = sizes

    @cached_property
    def hot(self) -> str:
        """All in day files."""
        root = os.path.join(self._directory, "hot")
        total = self._sizes.reads
        start_us, step_us = day_start_us(FIRST_DAY), DAYS * US_PER_DAY // total
        done = 0
        with MemStore(root, durability="os") as store:
            for batch in batches(memories(min(total, _POOL), agents=AGENTS), size=_BATCH, total=total):
                store.append_many(
                    {**memory.fields, "timestamp_utc": iso_text(start_us + (done + index) * step_us)}
                    for index, memory in enumerate(batch)
                )
                done += len(batch)
            assert not store.drain().pending
        return root

    @cached_property
    def warm(self) -> str:
        """All in warm files, one a day and agent."""
        return self._packed("warm")

    @cached_property
    def cold(self) -> str:
        """All in cold files, one an agent."""
        return self._packed("cold")

    @cached_property
    def paths(self) -> list[str]:
        """Of the day files of `hot`."""
        return day_files(self.hot)

    @cached_property
    def lines(self) -> dict[str, Stretch]:
        """Where in `paths` the line of each record is, by id."""
        found: dict[str, Stretch] = {}
        for number, path in enumerate(self.paths):
            offset = 0
            with open(path, "rb") as file:
                for line in file:
                    found[orjson.loads(line)["memory_id"]] = (number, offset, len(line))
                    offset += len(line)
        return found

    @cached_property
    def searched(self) -> Searched:
        """Forty days, indexed."""
        root = os.path.join(self._directory, "searched")
        # A few records a day and agent are enough: with fewer, files are what is measured.
        agents = max(self._sizes.searched // (25 * SEARCHED_DAYS), 10)
        size = fill_for_search(root, self._sizes.searched, agents=agents)
        with MemStore(root, settings={"search.background": False}) as store:
            store.index()
        return Searched(root, self._sizes.searched, size)

    def _packed(self, tier: PackedTier) -> str:
        root = copied(self.hot, os.path.join(self._directory, tier))
        tier_all(root, tier)
        return root
