"""memstore, asked as its peers are."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, ClassVar

from benchmarks.peers.peer import Peer, Question, Reach, Stored, blocks
from benchmarks.workloads import Memory
from memstore import MemoryRecord, MemStore
from memstore import __version__ as memstore_version
from memstore.format.names import StorePaths


class MemstorePeer(Peer):
    """One store. It gives ids and times itself, so it is handed records without them.

    Args:
        settings: of the store, beside durability.
        read_only: nothing is written, and several may have it open.
    """

    name = "memstore"
    reaches: ClassVar[dict[Reach, str]] = {
        "fsync": "the default: fdatasync before append returns",
        "os": 'durability="os": written, not synced',
    }
    searches = "its index of words, best by bm25, with the number of all hits"

    def __init__(
        self,
        directory: str,
        *,
        reach: Reach = "fsync",
        searchable: bool = False,
        settings: dict[str, Any] | None = None,
        read_only: bool = False,
    ) -> None:
        super().__init__(directory, reach=reach, searchable=searchable)
        self.root = os.path.join(directory, "store")
        chosen = {"read_only": True} if read_only else {"durability": reach}
        self._store = MemStore(self.root, settings=settings or {}, **chosen)

    @staticmethod
    def form(memories: Sequence[Memory]) -> list[Stored]:
        """Without id and time, which the store gives."""
        return [memory.fields for memory in memories]

    @classmethod
    def version(cls) -> str:
        """Of this source."""
        return memstore_version

    def write(self, records: Sequence[Stored]) -> Sequence[str]:
        """One commit."""
        if len(records) == 1:
            return [self._store.append(**records[0])]
        return self._store.append_many(records)

    def get(self, memory_id: str) -> MemoryRecord | None:
        """By id."""
        return self._store.get(memory_id)

    def recent(self, agent_id: str, limit: int) -> list[MemoryRecord]:
        """The newest."""
        return self._store.agent(agent_id).recent(limit)

    def search(self, question: Question, limit: int) -> list[MemoryRecord]:
        """Best first."""
        filters: dict[str, Any] = {"memory_type": question.memory_type, "agent": question.agent_id}
        given = {key: value for key, value in filters.items() if value is not None}
        found = self._store.search(" AND ".join(question.words), limit=limit, highlight=False, **given)
        return [hit.record for hit in found.hits]

    def count(self) -> int:
        """All records."""
        return int(self._store.stats()["records"])

    def settle(self) -> None:
        """Merge all there is into day files, and index it where words are to be found."""
        self._store.drain()
        if self._searchable:
            self._store.index()

    def bytes_on_disk(self) -> int:
        """Without the ballast, a reserve for a full disk that does not grow with the store."""
        return blocks(self.root) - os.lstat(StorePaths(self.root).ballast).st_blocks * 512

    def close(self) -> None:
        """Close the store."""
        self._store.close()
