"""Chroma, in the process: documents with a constant vector each, so that no model is measured.

https://cookbook.chromadb.dev/strategies/batching: at most ``max_batch_size`` a call;
https://cookbook.chromadb.dev/core/system_constraints: not safe for several writing processes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import orjson

from benchmarks.peers.peer import Peer, Question, Reach, Stored, load
from memstore.record import MemoryRecord, decode_record

_DIMENSIONS = 384
"""Of its default model, all-MiniLM-L6-v2."""


class ChromaPeer(Peer):
    """One collection of one PersistentClient."""

    name = "chroma"
    packages = ("chromadb",)
    reaches: ClassVar[dict[Reach, str]] = {
        "fsync": "the default: SQLite's rollback journal; vectors are written later, from a queue in SQLite"
    }
    searches = "where_document $contains: parts of words match, nothing is ranked"
    caveat = "a vector of 384 numbers beside each record; no order by time: an agent's records are sorted by who asks"

    def __init__(self, directory: str, *, reach: Reach = "fsync", searchable: bool = False) -> None:
        super().__init__(directory, reach=reach, searchable=searchable)
        module = load("chromadb")
        settings = load("chromadb.config").Settings(anonymized_telemetry=False)
        self._client: Any = module.PersistentClient(path=directory, settings=settings)
        self._collection: Any = self._client.get_or_create_collection("memory", embedding_function=None)
        self._vector = [1.0] + [0.0] * (_DIMENSIONS - 1)

    def write(self, records: Sequence[Stored]) -> list[str]:
        """One call, unless Chroma takes fewer at once."""
        each = self._client.get_max_batch_size()
        for start in range(0, len(records), each):
            part = records[start : start + each]
            self._collection.add(
                ids=[record["memory_id"] for record in part],
                documents=[orjson.dumps(record).decode() for record in part],
                embeddings=[self._vector] * len(part),
                metadatas=[
                    {key: record[key] for key in ("agent_id", "timestamp_utc", "memory_type")} for record in part
                ],
            )
        return [record["memory_id"] for record in records]

    def get(self, memory_id: str) -> MemoryRecord | None:
        """By id."""
        found = self._collection.get(ids=[memory_id], include=["documents"])["documents"]
        return decode_record(found[0]) if found else None

    def recent(self, agent_id: str, limit: int) -> list[MemoryRecord]:
        """Times of all the agent's records, sorted here; then the newest by id."""
        found = self._collection.get(where={"agent_id": agent_id}, include=["metadatas"])
        times = [str(metadata["timestamp_utc"]) for metadata in found["metadatas"]]
        newest = sorted(zip(times, found["ids"], strict=True), reverse=True)[:limit]
        ids = [memory_id for _, memory_id in newest]
        got = self._collection.get(ids=ids, include=["documents"])
        documents = dict(zip(got["ids"], got["documents"], strict=True))
        return [decode_record(documents[memory_id]) for memory_id in ids]

    def search(self, question: Question, limit: int) -> list[MemoryRecord]:
        """By parts of documents, and by metadata."""
        contains = [{"$contains": word} for word in question.words]
        wanted = {"memory_type": question.memory_type, "agent_id": question.agent_id}
        where = [{key: value} for key, value in wanted.items() if value is not None]
        found = self._collection.get(
            where=_all_of(where), where_document=_all_of(contains), limit=limit, include=["documents"]
        )
        return [decode_record(document) for document in found["documents"]]

    def count(self) -> int:
        """All records."""
        return int(self._collection.count())

    def close(self) -> None:
        """Let go of the client, which has no end of its own in every version."""
        close = getattr(self._client, "close", None)
        if close is not None:
            close()
        load("chromadb.api.shared_system_client").SharedSystemClient.clear_system_cache()


def _all_of(conditions: list[dict[str, str | None]] | list[dict[str, str]]) -> Any:
    if not conditions:
        return None
    return conditions[0] if len(conditions) == 1 else {"$and": conditions}
