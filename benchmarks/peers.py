"""What people would use instead, each as its own documentation says is safe and fast; the same records and batches.

A peer that is not installed says so in the report; it is never left out in silence.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import sqlite3
from collections.abc import Iterable
from time import perf_counter
from typing import Any

import orjson

from benchmarks.workloads import Memory
from memstore.record import MemoryRecord, decode_record

ROCKSDB_MISSING = None if importlib.util.find_spec("rocksdict") else "missing: rocksdict is not installed"


class SqlitePeer:
    """SQLite: WAL, ``synchronous=FULL``, text primary key, one index over agent and time; one transaction a batch."""

    def __init__(self, path: str) -> None:
        self._connection = sqlite3.connect(path, isolation_level=None)
        run = self._connection.execute
        run("PRAGMA journal_mode=WAL")
        run("PRAGMA synchronous=FULL")
        run("CREATE TABLE memory (memory_id TEXT PRIMARY KEY, agent_id TEXT, timestamp_utc TEXT, line BLOB)")
        run("CREATE INDEX memory_by_agent ON memory (agent_id, timestamp_utc)")

    def fill(self, batches: Iterable[list[Memory]], *, round_number: int = 0) -> float:
        """Append batches durably.

        Args:
            batches: the records.
            round_number: made part of the ids, which must be new.

        Returns:
            Seconds.
        """
        connection = self._connection
        started = perf_counter()
        for number, batch in enumerate(batches):
            tail = f"{round_number:04x}{number:06x}"
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany(
                "INSERT INTO memory VALUES (?, ?, ?, ?)",
                [
                    (
                        m.stored["memory_id"] + tail,
                        m.stored["agent_id"],
                        m.stored["timestamp_utc"],
                        orjson.dumps(m.stored),
                    )
                    for m in batch
                ],
            )
            connection.execute("COMMIT")
        return perf_counter() - started

    def load(self, rows: Iterable[tuple[str, str, str, bytes]]) -> None:
        """Take over records as they are: id, agent, time, line."""
        self._connection.execute("BEGIN IMMEDIATE")
        self._connection.executemany("INSERT INTO memory VALUES (?, ?, ?, ?)", rows)
        self._connection.execute("COMMIT")
        self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def get(self, memory_id: str) -> MemoryRecord | None:
        """One record by its primary key, decoded as memstore decodes it."""
        row = self._connection.execute("SELECT line FROM memory WHERE memory_id = ?", (memory_id,)).fetchone()
        return None if row is None else decode_record(row[0])

    def close(self) -> None:
        """Close the database."""
        self._connection.close()


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


def write_tree(root: str, files: Iterable[tuple[str, dict[str, Any]]]) -> int:
    """A tree with one JSON file per memory; how many bytes it has."""
    size = 0
    made: set[str] = set()
    for relative, content in files:
        path = os.path.join(root, relative)
        directory = os.path.dirname(path)
        if directory not in made:
            os.makedirs(directory, exist_ok=True)
            made.add(directory)
        data = json.dumps(content, indent=2)
        with open(path, "w", encoding="utf-8") as file:
            file.write(data)
        size += len(data)
    return size


def tree_recent_by_mtime(agent_directory: str, limit: int) -> list[dict[str, Any]]:
    """The newest memories of an agent as platforms with such trees read them: list and stat all, sort, parse."""
    found: list[tuple[float, str]] = []
    for directory, _, names in os.walk(agent_directory):
        for name in names:
            path = os.path.join(directory, name)
            found.append((os.stat(path).st_mtime, path))
    found.sort(reverse=True)
    memories = []
    for _, path in found[:limit]:
        with open(path, encoding="utf-8") as file:
            memories.append(json.load(file))
    return memories


def tree_recent_by_name(agent_directory: str, limit: int) -> list[Any]:
    """The same at its leanest: newest days first, names instead of times, raw reads and orjson."""
    memories: list[Any] = []
    for day in sorted(os.listdir(agent_directory), reverse=True):
        directory = f"{agent_directory}/{day}"
        for name in sorted(os.listdir(directory), reverse=True):
            descriptor = os.open(f"{directory}/{name}", os.O_RDONLY)
            try:
                memories.append(orjson.loads(os.read(descriptor, 1 << 20)))
            finally:
                os.close(descriptor)
            if len(memories) == limit:
                return memories
    return memories
