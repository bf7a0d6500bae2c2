"""RocksDB through rocksdict: one write batch each, raw bytes; ids sort by agent and time, so one key serves all.

https://github.com/facebook/rocksdb/wiki/WAL-Performance: ``WriteOptions.sync`` syncs the log before a write returns.
https://github.com/facebook/rocksdb/wiki/Setup-Options-and-Basic-Tuning: bloom filter of 10 bits a key, blocks of
16 KiB, index and filter blocks in the cache, ``bytes_per_sync`` of 1 MiB.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import orjson

from benchmarks.peers.peer import Peer, Reach, Stored, load
from memstore.record import MemoryRecord, decode_record

ROCKSDB_MISSING = None if importlib.util.find_spec("rocksdict") else "missing: rocksdict is not installed"


class RocksdbPeer(Peer):
    """RocksDB's default column family."""

    name = "rocksdb"
    packages = ("rocksdict",)
    reaches: ClassVar[dict[Reach, str]] = {
        "fsync": "WriteOptions.sync: the log is synced before a write batch returns",
        "os": "the default: the log is written and not synced",
    }

    def __init__(self, directory: str, *, reach: Reach = "fsync", searchable: bool = False) -> None:
        super().__init__(directory, reach=reach, searchable=searchable)
        self._module: Any = load("rocksdict")
        self._database = self._module.Rdict(directory, self._options())
        self._write = self._module.WriteOptions()
        self._write.sync = reach == "fsync"

    def _options(self) -> Any:
        options = self._module.Options(raw_mode=True)
        options.create_if_missing(True)
        options.set_bytes_per_sync(1 << 20)
        table = self._module.BlockBasedOptions()
        table.set_bloom_filter(10, False)
        table.set_block_size(16 << 10)
        table.set_cache_index_and_filter_blocks(True)
        table.set_pin_l0_filter_and_index_blocks_in_cache(True)
        table.set_block_cache(self._module.Cache(256 << 20))
        options.set_block_based_table_factory(table)
        return options

    def write(self, records: Sequence[Stored]) -> list[str]:
        """One write batch."""
        group = self._module.WriteBatch(raw_mode=True)
        for record in records:
            group.put(record["memory_id"].encode(), orjson.dumps(record))
        self._database.write(group, self._write)
        return [record["memory_id"] for record in records]

    def get(self, memory_id: str) -> MemoryRecord | None:
        """By key."""
        line = self._database.get(memory_id.encode())
        return None if line is None else decode_record(line)

    def recent(self, agent_id: str, limit: int) -> list[MemoryRecord]:
        """Backwards from the agent's last key."""
        return [decode_record(line) for line in self._newest(agent_id.encode() + b"_", limit)]

    def _newest(self, prefix: bytes, limit: int) -> Iterator[bytes]:
        found = self._database.iter()
        found.seek_for_prev(prefix + b"\xff")
        while limit and found.valid() and found.key().startswith(prefix):
            yield found.value()
            found.prev()
            limit -= 1

    def count(self) -> int:
        """All keys."""
        return sum(1 for _ in self._database.keys())  # noqa: SIM118 - it is no dict

    def settle(self) -> None:
        """Memory tables to disk, and one compaction over all."""
        self._database.flush()
        self._database.compact_range(None, None)

    def close(self) -> None:
        """Close the database."""
        self._database.close()
