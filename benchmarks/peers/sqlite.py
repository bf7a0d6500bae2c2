"""SQLite: WAL, text primary key, one index over agent and time, one transaction a batch, prepared by Python's cache.

https://www.sqlite.org/wal.html: writers sync the WAL on every commit if ``synchronous`` is FULL, and omit this sync if
it is NORMAL. https://www.sqlite.org/fts5.html: a contentless table keeps no second copy of the text, ``rank`` is bm25,
``optimize`` merges the index into one. What is filtered by is columns of the index too, with column filters in the
query: five times as fast as joining first and filtering then.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable, Sequence
from typing import ClassVar

import orjson

from benchmarks.peers.peer import Peer, Question, Reach, Stored
from memstore.record import MemoryRecord, decode_record
from memstore.search.document import texts_of

_INSERT = "INSERT INTO memory VALUES (?, ?, ?, ?, ?)"
_CREATE = """
CREATE TABLE IF NOT EXISTS memory (
    memory_id TEXT PRIMARY KEY, agent_id TEXT, timestamp_utc TEXT, memory_type TEXT, line BLOB
)
"""
_CREATE_WORDS = (
    "CREATE VIRTUAL TABLE IF NOT EXISTS memory_words USING "
    "fts5(text, memory_type, agent, content='', tokenize='porter unicode61')"
)


class SqlitePeer(Peer):
    """Python's own SQLite."""

    name = "sqlite"
    reaches: ClassVar[dict[Reach, str]] = {
        "fsync": "WAL, synchronous=FULL: the log is synced at every commit",
        "os": "WAL, synchronous=NORMAL: the log is synced at checkpoints only",
    }
    searches = "FTS5, contentless, porter stemmer, filters as columns of the index, best by bm25"

    def __init__(self, directory: str, *, reach: Reach = "fsync", searchable: bool = False) -> None:
        super().__init__(directory, reach=reach, searchable=searchable)
        self._connection = sqlite3.connect(os.path.join(directory, "memory.db"), isolation_level=None)
        run = self._connection.execute
        run("PRAGMA journal_mode=WAL")
        run(f"PRAGMA synchronous={'FULL' if reach == 'fsync' else 'NORMAL'}")
        run(_CREATE)
        run("CREATE INDEX IF NOT EXISTS memory_by_agent ON memory (agent_id, timestamp_utc)")
        if searchable:
            run(_CREATE_WORDS)

    @classmethod
    def version(cls) -> str:
        """Of the library that Python was built with."""
        return sqlite3.sqlite_version

    def write(self, records: Sequence[Stored]) -> list[str]:
        """One transaction."""
        connection = self._connection
        connection.execute("BEGIN IMMEDIATE")
        try:
            connection.executemany(
                _INSERT,
                [
                    (r["memory_id"], r["agent_id"], r["timestamp_utc"], r["memory_type"], orjson.dumps(r))
                    for r in records
                ],
            )
            if self._searchable:
                [last] = connection.execute("SELECT max(rowid) FROM memory").fetchone()
                first = last - len(records) + 1
                connection.executemany(
                    "INSERT INTO memory_words (rowid, text, memory_type, agent) VALUES (?, ?, ?, ?)",
                    [
                        (first + index, " ".join(texts_of(r)), r["memory_type"], _one_word(r["agent_id"]))
                        for index, r in enumerate(records)
                    ],
                )
        except BaseException:
            connection.execute("ROLLBACK")
            raise
        connection.execute("COMMIT")
        return [record["memory_id"] for record in records]

    def load(self, rows: Iterable[tuple[str, str, str, bytes]]) -> None:
        """Take over records as they are: id, agent, time, line."""
        self._connection.execute("BEGIN IMMEDIATE")
        self._connection.executemany("INSERT INTO memory VALUES (?, ?, ?, NULL, ?)", rows)
        self._connection.execute("COMMIT")
        self.settle()

    def get(self, memory_id: str) -> MemoryRecord | None:
        """By primary key, decoded as memstore decodes it."""
        row = self._connection.execute("SELECT line FROM memory WHERE memory_id = ?", (memory_id,)).fetchone()
        return None if row is None else decode_record(row[0])

    def recent(self, agent_id: str, limit: int) -> list[MemoryRecord]:
        """By the index."""
        rows = self._connection.execute(
            "SELECT line FROM memory WHERE agent_id = ? ORDER BY timestamp_utc DESC LIMIT ?", (agent_id, limit)
        )
        return [decode_record(line) for (line,) in rows]

    def search(self, question: Question, limit: int) -> list[MemoryRecord]:
        """FTS5, and then the rows."""
        wanted = [f"text : {word}" for word in question.words]
        if question.memory_type is not None:
            wanted.append(f"memory_type : {question.memory_type}")
        if question.agent_id is not None:
            wanted.append(f"agent : {_one_word(question.agent_id)}")
        rows = self._connection.execute(
            "SELECT line FROM memory_words JOIN memory ON memory.rowid = memory_words.rowid "
            "WHERE memory_words MATCH ? ORDER BY memory_words.rank LIMIT ?",
            (" AND ".join(wanted), limit),
        )
        return [decode_record(line) for (line,) in rows]

    def count(self) -> int:
        """All rows."""
        [found] = self._connection.execute("SELECT count(*) FROM memory").fetchone()
        return int(found)

    def settle(self) -> None:
        """The index into one, and the log into the database."""
        if self._searchable:
            self._connection.execute("INSERT INTO memory_words (memory_words) VALUES ('optimize')")
        self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def close(self) -> None:
        """Close the database."""
        self._connection.close()


def _one_word(agent_id: str) -> str:
    return agent_id.replace("_", "")
