"""The OpenAI Agents SDK's SQLiteSession: one session an agent, ``add_items`` of what belongs to it.

https://openai.github.io/openai-agents-python/sessions/: a session is a conversation in a SQLite file; ``add_items``
adds several at once, ``get_items(limit)`` gives the latest, the oldest of them first. WAL is set by the SDK;
``synchronous`` is SQLite's default, FULL.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar

from benchmarks.peers.peer import Peer, Reach, Stored, UnsupportedError, load


class AgentsSessionPeer(Peer):
    """Sessions in one file. One worker thread, so that each session keeps one connection."""

    name = "agents SQLiteSession"
    packages = ("openai-agents",)
    reaches: ClassVar[dict[Reach, str]] = {
        "fsync": "WAL, synchronous=FULL (SQLite's default): the log is synced at every commit"
    }
    caveat = "a transaction for each agent of a batch, for a call belongs to one session; no look-up by id, no words"

    def __init__(self, directory: str, *, reach: Reach = "fsync", searchable: bool = False) -> None:
        super().__init__(directory, reach=reach, searchable=searchable)
        self._make: Any = load("agents").SQLiteSession
        self._path = os.path.join(directory, "conversations.db")
        self._sessions: dict[str, Any] = {}
        self._runner = asyncio.Runner()
        self._runner.get_loop().set_default_executor(ThreadPoolExecutor(1))
        self._session("first")  # makes the tables

    def _session(self, agent_id: str) -> Any:
        found = self._sessions.get(agent_id)
        if found is None:
            found = self._sessions[agent_id] = self._make(agent_id, self._path)
        return found

    def write(self, records: Sequence[Stored]) -> list[str]:
        """One transaction for each agent among them."""
        of_agent = defaultdict(list)
        for record in records:
            of_agent[record["agent_id"]].append(record)
        self._runner.run(self._add(of_agent))
        return [record["memory_id"] for record in records]

    async def _add(self, of_agent: dict[str, list[Stored]]) -> None:
        for agent_id, records in of_agent.items():
            await self._session(agent_id).add_items(records)

    def get(self, memory_id: str) -> Any:  # noqa: ARG002 - it has no ids
        """Not to be had."""
        raise UnsupportedError("no look-up by id")

    def recent(self, agent_id: str, limit: int) -> list[dict[str, Any]]:
        """The latest items."""
        found: list[dict[str, Any]] = self._runner.run(self._session(agent_id).get_items(limit))
        return found[::-1]

    def count(self) -> int:
        """All messages, asked of SQLite: the SDK counts one session only."""
        connection = sqlite3.connect(self._path)
        try:
            return int(connection.execute("SELECT count(*) FROM agent_messages").fetchone()[0])
        finally:
            connection.close()

    def close(self) -> None:
        """Close all sessions; the last connection takes the log into the database."""
        for session in self._sessions.values():
            session.close()
        self._runner.close()
