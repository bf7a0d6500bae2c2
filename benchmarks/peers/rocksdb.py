"""RocksDB."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Iterable
from time import perf_counter
from typing import Any

import orjson

from benchmarks.workloads import Memory

ROCKSDB_MISSING = None if importlib.util.find_spec("rocksdict") else "missing: rocksdict is not installed"


class RocksdbPeer:
    """RocksDB through rocksdict: one synced write batch each, raw bytes."""

    def __init__(self, path: str) -> None:
        self._module: Any = importlib.import_module("rocksdict")
        self._database = self._module.Rdict(path, self._module.Options(raw_mode=True))
        self._write = self._module.WriteOptions()
        self._write.sync = True

    def fill(self, batches: Iterable[list[Memory]]) -> float:
        """Append batches durably; seconds."""
        make_batch = self._module.WriteBatch
        started = perf_counter()
        for number, batch in enumerate(batches):
            tail = b"%06x" % number
            group = make_batch(raw_mode=True)
            for memory in batch:
                group.put(memory.stored["memory_id"].encode() + tail, orjson.dumps(memory.stored))
            self._database.write(group, self._write)
        return perf_counter() - started

    def close(self) -> None:
        """Close the database."""
        self._database.close()
