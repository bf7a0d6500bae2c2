"""DuckDB: one table, records handed over as columns, a primary key.

https://duckdb.org/docs/current/data/insert: no loops of single inserts for bulk loads;
https://duckdb.org/docs/current/clients/python/data_ingestion: columns of a data frame or NumPy arrays are read as a
table. The full text extension is downloaded at run time, and its index does not follow inserts: words are found by a
scan, which is what DuckDB is fast at.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, ClassVar

import orjson

from benchmarks.peers.peer import Peer, Question, Reach, Stored, load
from memstore.record import MemoryRecord, decode_record

_COLUMNS = ("memory_id", "agent_id", "timestamp_utc", "memory_type")


class DuckdbPeer(Peer):
    """One database file."""

    name = "duckdb"
    packages = ("duckdb", "numpy")
    reaches: ClassVar[dict[Reach, str]] = {
        "fsync": "the default: the log is synced at every commit (no setting to leave it to the system that is safe)"
    }
    searches = "a scan with contains(): parts of words match, nothing is ranked"
    caveat = "made for analysis: single inserts and look-ups are not what it is for"

    def __init__(self, directory: str, *, reach: Reach = "fsync", searchable: bool = False) -> None:
        super().__init__(directory, reach=reach, searchable=searchable)
        self._numpy: Any = load("numpy")
        self._connection: Any = load("duckdb").connect(os.path.join(directory, "memory.duckdb"))
        self._connection.execute(
            "CREATE TABLE IF NOT EXISTS memory (memory_id VARCHAR PRIMARY KEY, agent_id VARCHAR, "
            "timestamp_utc VARCHAR, memory_type VARCHAR, line VARCHAR)"
        )

    def write(self, records: Sequence[Stored]) -> list[str]:
        """One statement, and with it one transaction: columns for a batch, values for one record."""
        if len(records) == 1:
            [record] = records
            values = [*(record[column] for column in _COLUMNS), orjson.dumps(record).decode()]
            self._connection.execute("INSERT INTO memory VALUES (?, ?, ?, ?, ?)", values)
            return [record["memory_id"]]
        array = self._numpy.array
        columns = {column: array([r[column] for r in records], dtype=object) for column in _COLUMNS}
        columns["line"] = array([orjson.dumps(r).decode() for r in records], dtype=object)
        self._connection.register("batch", columns)
        self._connection.execute("INSERT INTO memory SELECT * FROM batch")
        self._connection.unregister("batch")
        return [record["memory_id"] for record in records]

    def get(self, memory_id: str) -> MemoryRecord | None:
        """By primary key."""
        row = self._connection.execute("SELECT line FROM memory WHERE memory_id = ?", [memory_id]).fetchone()
        return None if row is None else decode_record(row[0])

    def recent(self, agent_id: str, limit: int) -> list[MemoryRecord]:
        """A scan of the agent's rows, the newest kept."""
        rows = self._connection.execute(
            "SELECT line FROM memory WHERE agent_id = ? ORDER BY timestamp_utc DESC LIMIT ?", [agent_id, limit]
        ).fetchall()
        return [decode_record(line) for (line,) in rows]

    def search(self, question: Question, limit: int) -> list[MemoryRecord]:
        """A scan."""
        conditions = ["contains(line, ?)"] * len(question.words)
        values: list[Any] = list(question.words)
        for column, value in (("memory_type", question.memory_type), ("agent_id", question.agent_id)):
            if value is not None:
                conditions.append(f"{column} = ?")
                values.append(value)
        rows = self._connection.execute(
            f"SELECT line FROM memory WHERE {' AND '.join(conditions)} LIMIT ?", [*values, limit]
        ).fetchall()
        return [decode_record(line) for (line,) in rows]

    def count(self) -> int:
        """All rows."""
        return int(self._connection.execute("SELECT count(*) FROM memory").fetchone()[0])

    def settle(self) -> None:
        """The log into the database."""
        self._connection.execute("CHECKPOINT")

    def close(self) -> None:
        """Close the database."""
        self._connection.close()
