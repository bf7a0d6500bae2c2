"""diskcache: one transaction a batch, no eviction.

https://grantjenks.com/docs/diskcache/tutorial.html: ``transact`` makes many writes one; the setting
``sqlite_synchronous`` is NORMAL unless asked; ``cull_limit`` 0 and ``eviction_policy`` none keep everything.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import orjson

from benchmarks.peers.peer import Peer, Reach, Stored, UnsupportedError, load
from memstore.record import MemoryRecord, decode_record

_FULL, _NORMAL = 2, 1


class DiskCachePeer(Peer):
    """One `diskcache.Cache`."""

    name = "diskcache"
    packages = ("diskcache",)
    reaches: ClassVar[dict[Reach, str]] = {
        "fsync": "WAL, sqlite_synchronous=2 (FULL): the log is synced at every commit",
        "os": "the default, WAL and sqlite_synchronous=1 (NORMAL): the log is synced at checkpoints only",
    }
    caveat = "a cache: keys only, no question by agent or time"

    def __init__(self, directory: str, *, reach: Reach = "fsync", searchable: bool = False) -> None:
        super().__init__(directory, reach=reach, searchable=searchable)
        self._cache: Any = load("diskcache").Cache(
            directory,
            eviction_policy="none",
            cull_limit=0,
            sqlite_synchronous=_FULL if reach == "fsync" else _NORMAL,
        )

    def write(self, records: Sequence[Stored]) -> list[str]:
        """One transaction."""
        with self._cache.transact():
            for record in records:
                self._cache.set(record["memory_id"], orjson.dumps(record))
        return [record["memory_id"] for record in records]

    def get(self, memory_id: str) -> MemoryRecord | None:
        """By key."""
        line = self._cache.get(memory_id)
        return None if line is None else decode_record(line)

    def recent(self, agent_id: str, limit: int) -> Sequence[Any]:  # noqa: ARG002 - it has keys only
        """Not to be had."""
        raise UnsupportedError("no question by agent or time")

    def count(self) -> int:
        """All keys."""
        return len(self._cache)

    def close(self) -> None:
        """Close the cache."""
        self._cache.close()
