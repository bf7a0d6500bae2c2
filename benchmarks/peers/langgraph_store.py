"""LangGraph's SqliteStore: one ``batch`` of ``PutOp`` each, one namespace an agent.

https://reference.langchain.com/python/langgraph.store/base/batch: several operations in one call;
https://reference.langchain.com/python/langgraph.store.sqlite: ``from_conn_string``, then ``setup``. WAL is set as its
sibling SqliteSaver sets it in the same file; ``synchronous`` is SQLite's default, FULL.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Sequence
from typing import Any, ClassVar

from benchmarks.peers.peer import Peer, Reach, Stored, agent_of, load

_VALUES_MAX = 32_000
"""SQLite takes so many bound values in a statement, and a put binds five."""


class LanggraphStorePeer(Peer):
    """One SqliteStore without an index of vectors."""

    name = "langgraph SqliteStore"
    packages = ("langgraph-checkpoint-sqlite",)
    reaches: ClassVar[dict[Reach, str]] = {
        "fsync": "WAL, synchronous=FULL (SQLite's default): the log is synced at every commit"
    }
    caveat = "newest first by a time in whole seconds: the order within a second is arbitrary; words only by vectors"

    def __init__(self, directory: str, *, reach: Reach = "fsync", searchable: bool = False) -> None:
        super().__init__(directory, reach=reach, searchable=searchable)
        module = load("langgraph.store.sqlite")
        self._put: Any = load("langgraph.store.base").PutOp
        self._connection = sqlite3.connect(
            os.path.join(directory, "store.db"), check_same_thread=False, isolation_level=None
        )
        self._connection.execute("PRAGMA journal_mode=WAL")
        self._store: Any = module.SqliteStore(self._connection)
        self._store.setup()

    def write(self, records: Sequence[Stored]) -> list[str]:
        """One transaction, unless it would bind more values than SQLite takes."""
        put, each = self._put, _VALUES_MAX // 5
        for start in range(0, len(records), each):
            self._store.batch(
                [
                    put(namespace=("memories", record["agent_id"]), key=record["memory_id"], value=record)
                    for record in records[start : start + each]
                ]
            )
        return [record["memory_id"] for record in records]

    def get(self, memory_id: str) -> dict[str, Any] | None:
        """By namespace and key."""
        found = self._store.get(("memories", agent_of(memory_id)), memory_id)
        return None if found is None else found.value

    def recent(self, agent_id: str, limit: int) -> list[dict[str, Any]]:
        """A search without a query: the last updated first."""
        return [found.value for found in self._store.search(("memories", agent_id), limit=limit)]

    def count(self) -> int:
        """All rows."""
        return int(self._connection.execute("SELECT count(*) FROM store").fetchone()[0])

    def settle(self) -> None:
        """The log into the database."""
        self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def close(self) -> None:
        """Close the database."""
        self._connection.close()
