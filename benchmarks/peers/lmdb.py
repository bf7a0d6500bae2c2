"""LMDB: one write transaction a batch; ids sort by agent and time, so one key serves all.

https://lmdb.readthedocs.io/en/release/: commits are synced by default; ``sync=False`` leaves it to the operating
system. ``writemap`` is faster and lets a stray write of the process damage the database, so it stays off. A cursor's
``putmulti`` is the fast way to put many.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import orjson

from benchmarks.peers.peer import Peer, Reach, Stored, load
from memstore.record import MemoryRecord, decode_record

_MAP_BYTES = 16 << 30
"""Address space, not disk: the largest a database may grow."""


class LmdbPeer(Peer):
    """One unnamed database."""

    name = "lmdb"
    packages = ("lmdb",)
    reaches: ClassVar[dict[Reach, str]] = {
        "fsync": "the default, sync=True and metasync=True: synced at every commit",
        "os": "sync=False: the operating system decides when",
    }

    def __init__(self, directory: str, *, reach: Reach = "fsync", searchable: bool = False) -> None:
        super().__init__(directory, reach=reach, searchable=searchable)
        self._environment: Any = load("lmdb").open(directory, map_size=_MAP_BYTES, sync=reach == "fsync")

    def write(self, records: Sequence[Stored]) -> list[str]:
        """One transaction."""
        with self._environment.begin(write=True) as transaction, transaction.cursor() as cursor:
            cursor.putmulti([(record["memory_id"].encode(), orjson.dumps(record)) for record in records])
        return [record["memory_id"] for record in records]

    def get(self, memory_id: str) -> MemoryRecord | None:
        """By key."""
        with self._environment.begin() as transaction:
            line = transaction.get(memory_id.encode())
        return None if line is None else decode_record(line)

    def recent(self, agent_id: str, limit: int) -> list[MemoryRecord]:
        """Backwards from the agent's last key."""
        prefix = agent_id.encode() + b"_"
        found: list[MemoryRecord] = []
        with self._environment.begin() as transaction, transaction.cursor() as cursor:
            there = cursor.prev() if cursor.set_range(prefix + b"\xff") else cursor.last()
            while there and len(found) < limit and cursor.key().startswith(prefix):
                found.append(decode_record(cursor.value()))
                there = cursor.prev()
        return found

    def count(self) -> int:
        """All keys."""
        return int(self._environment.stat()["entries"])

    def close(self) -> None:
        """Close the environment."""
        self._environment.close()
