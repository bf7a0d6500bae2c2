"""PostgreSQL through psycopg: COPY for batches, a prepared insert for single records, one transaction each.

https://www.postgresql.org/docs/15/populate.html: COPY in one transaction, a larger ``max_wal_size``;
https://www.postgresql.org/docs/15/wal-async-commit.html: ``synchronous_commit=off`` returns before the log is synced;
https://www.postgresql.org/docs/15/textsearch-tables.html: a generated ``tsvector`` column and a GIN index;
https://www.postgresql.org/docs/15/btree-gin.html: what is filtered by in the same index, which is four times as fast;
https://www.psycopg.org/psycopg3/docs/basic/copy.html and .../advanced/prepare.html.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import orjson

from benchmarks.peers.peer import MissingPeerError, Peer, Question, Reach, Stored, load
from benchmarks.peers.postgres_server import PostgresServer, server_version, where_served
from memstore.record import MemoryRecord, decode_record
from memstore.search.document import texts_of

_INSERT = "INSERT INTO memory VALUES (%s, %s, %s, %s, %s, %s)"
_CREATE = """
CREATE TABLE IF NOT EXISTS memory (
    memory_id text PRIMARY KEY, agent_id text, timestamp_utc text, memory_type text, line bytea, words text
)
"""


class PostgresPeer(Peer):
    """One table of a server that the first to open it starts."""

    name = "postgresql"
    packages = ("psycopg", "psycopg-binary")
    reaches: ClassVar[dict[Reach, str]] = {
        "fsync": "the default, fsync=on and synchronous_commit=on: the log is synced at every commit",
        "os": "synchronous_commit=off: the log is written and synced up to 0.6 s later",
    }
    searches = "a tsvector column (english) and a GIN index with the filters in it (btree_gin), best by ts_rank"
    served = True

    def __init__(self, directory: str, *, reach: Reach = "fsync", searchable: bool = False) -> None:
        super().__init__(directory, reach=reach, searchable=searchable)
        psycopg = load("psycopg")
        where = where_served(directory)
        self._server = PostgresServer(directory) if where is None else None
        try:
            self._connection: Any = psycopg.connect(**(where or where_served(directory) or {}), autocommit=True)
            self._connection.prepare_threshold = 0
            self._prepare()
        except BaseException:
            self._stop()
            raise

    def _prepare(self) -> None:
        run = self._connection.execute
        run(f"SET synchronous_commit = {'on' if self._reach == 'fsync' else 'off'}")
        if self._server is None:
            return
        run(_CREATE)
        run("CREATE INDEX IF NOT EXISTS memory_by_agent ON memory (agent_id, timestamp_utc)")
        if self._searchable:
            run(
                "ALTER TABLE memory ADD COLUMN found_by tsvector "
                "GENERATED ALWAYS AS (to_tsvector('english', words)) STORED"
            )
            run("CREATE EXTENSION btree_gin")
            run("CREATE INDEX memory_by_word ON memory USING gin (memory_type, agent_id, found_by)")

    @classmethod
    def version(cls) -> str:
        """Of the server.

        Raises:
            MissingPeerError: server or client is not installed.
        """
        super().version()
        try:
            return server_version()
        except OSError as error:
            raise MissingPeerError(str(error)) from error

    def write(self, records: Sequence[Stored]) -> list[str]:
        """One transaction."""
        if len(records) == 1:
            self._connection.execute(_INSERT, self._row(records[0]))
        else:
            columns = "memory_id, agent_id, timestamp_utc, memory_type, line, words"
            with (
                self._connection.transaction(),
                self._connection.cursor() as cursor,
                cursor.copy(f"COPY memory ({columns}) FROM STDIN (FORMAT binary)") as copy,
            ):
                copy.set_types(["text", "text", "text", "text", "bytea", "text"])
                for record in records:
                    copy.write_row(self._row(record))
        return [record["memory_id"] for record in records]

    def _row(self, record: Stored) -> tuple[Any, ...]:
        words = " ".join(texts_of(record)) if self._searchable else None
        return (
            record["memory_id"],
            record["agent_id"],
            record["timestamp_utc"],
            record["memory_type"],
            orjson.dumps(record),
            words,
        )

    def get(self, memory_id: str) -> MemoryRecord | None:
        """By primary key."""
        row = self._connection.execute(
            "SELECT line FROM memory WHERE memory_id = %s", (memory_id,), binary=True
        ).fetchone()
        return None if row is None else decode_record(bytes(row[0]))

    def recent(self, agent_id: str, limit: int) -> list[MemoryRecord]:
        """By the index."""
        rows = self._connection.execute(
            "SELECT line FROM memory WHERE agent_id = %s ORDER BY timestamp_utc DESC LIMIT %s",
            (agent_id, limit),
            binary=True,
        )
        return [decode_record(bytes(line)) for (line,) in rows]

    def search(self, question: Question, limit: int) -> list[MemoryRecord]:
        """By the GIN index, filtered and ranked."""
        conditions, values = ["found_by @@ query"], [" & ".join(question.words)]
        for column, value in (("memory_type", question.memory_type), ("agent_id", question.agent_id)):
            if value is not None:
                conditions.append(f"{column} = %s")
                values.append(value)
        rows = self._connection.execute(
            f"SELECT line FROM memory, to_tsquery('english', %s) query WHERE {' AND '.join(conditions)} "
            "ORDER BY ts_rank(found_by, query) DESC LIMIT %s",
            (*values, limit),
            binary=True,
        )
        return [decode_record(bytes(line)) for (line,) in rows]

    def count(self) -> int:
        """All rows."""
        return int(self._connection.execute("SELECT count(*) FROM memory").fetchone()[0])

    def settle(self) -> None:
        """Statistics for the planner, pending entries into the index, a checkpoint."""
        self._connection.execute("VACUUM ANALYZE memory")
        self._connection.execute("CHECKPOINT")

    def bytes_on_disk(self) -> int:
        """Of the table and its indexes; the log, which is used again and again, is left out."""
        return int(self._connection.execute("SELECT pg_total_relation_size('memory')").fetchone()[0])

    def close(self) -> None:
        """Close the connection, and stop the server if this started it."""
        self._connection.close()
        self._stop()

    def _stop(self) -> None:
        if self._server is not None:
            self._server.close()
