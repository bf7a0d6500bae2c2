"""Looking up: SQLite's select by primary key, decoded as memstore decodes."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable

from memstore.record import MemoryRecord, decode_record


class SelectByKey:
    """A table of lines by id in WAL mode, and nothing else.

    Args:
        path: of a new database.
        rows: ids and lines.
    """

    def __init__(self, path: str, rows: Iterable[tuple[str, bytes]]) -> None:
        self._connection = sqlite3.connect(path, isolation_level=None)
        run = self._connection.execute
        run("PRAGMA journal_mode=WAL")
        run("CREATE TABLE memory (memory_id TEXT PRIMARY KEY, line BLOB)")
        run("BEGIN IMMEDIATE")
        self._connection.executemany("INSERT INTO memory VALUES (?, ?)", rows)
        run("COMMIT")
        run("PRAGMA wal_checkpoint(TRUNCATE)")

    def get(self, memory_id: str) -> MemoryRecord | None:
        """One record."""
        row = self._connection.execute("SELECT line FROM memory WHERE memory_id = ?", (memory_id,)).fetchone()
        return None if row is None else decode_record(row[0])

    def close(self) -> None:
        """Close the database."""
        self._connection.close()
