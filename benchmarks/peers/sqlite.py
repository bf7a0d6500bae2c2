"""SQLite."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from time import perf_counter

import orjson

from benchmarks.workloads import Memory
from memstore.record import MemoryRecord, decode_record


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
