"""One record by its id, among many of its time."""

from __future__ import annotations

from typing import Any

import pytest
from support import QUIET

from memstore import MemStore
from memstore.engine.piece_reader import PieceReader

UNCACHED = {**QUIET, "storage": {**QUIET["storage"], "caching": {"recent_memories_mb": 0}}}
SAME_TIME = "2025-01-15T14:30:00Z"


def batch(count: int) -> list[dict[str, Any]]:
    return [{"agent_id": "a", "content": "x" * 1000, "timestamp_utc": SAME_TIME} for _ in range(count)]


@pytest.fixture
def tried(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """The pieces that were looked through."""
    pieces: list[object] = []
    find = PieceReader.find

    def counted(self: PieceReader, manifest: Any, piece: Any, needle: bytes) -> bytes | None:
        pieces.append(piece)
        return find(self, manifest, piece, needle)

    monkeypatch.setattr(PieceReader, "find", counted)
    return pieces


@pytest.mark.parametrize("tier", ["hot", "cold"])
def test_a_record_among_thousands_of_its_time_is_found_in_the_first_piece_that_is_tried(
    tmp_path: Any, tried: list[object], tier: str
) -> None:
    with MemStore(str(tmp_path / "store"), settings=UNCACHED) as store:
        ids = store.append_many(batch(4000))
        store.drain()
        if tier == "cold":
            store.maintain()
        assert {row["tier"] for row in store.tiers()["tiers"] if row["records"]} == {tier}
        for memory_id in ids[::137]:
            del tried[:]
            record = store.get(memory_id)
            assert record is not None
            assert record.memory_id == memory_id
            assert len(tried) == 1


def test_records_of_one_time_in_several_runs_are_all_found(tmp_path: Any) -> None:
    with MemStore(str(tmp_path / "store"), settings=UNCACHED) as store:
        ids = []
        for _ in range(3):
            ids += store.append_many(batch(200))
            store.drain()
        for memory_id in ids[::7]:
            record = store.get(memory_id)
            assert record is not None
            assert record.memory_id == memory_id
        store.forget([ids[300]])
        assert store.get(ids[300]) is None


def test_a_few_records_of_an_agent_are_found_in_files_and_lanes_alike(tmp_path: Any, tried: list[object]) -> None:
    with MemStore(str(tmp_path / "store"), settings=UNCACHED) as store:
        ids = [store.append(agent_id="a", content="x", timestamp=f"2025-01-{day:02}T12:00:00Z") for day in range(1, 20)]
        store.drain()
        ids.append(store.append(agent_id="a", content="in a lane"))
        forgotten = ids[5]
        store.forget([forgotten])
        wanted = [ids[2], forgotten, ids[17]]
        del tried[:]
        assert [each is not None and each.memory_id for each in store.get_many(wanted)] == [ids[2], False, ids[17]]
        assert len(tried) == 2  # not through all the days between them
        found = store.get_many([ids[-1], ids[0]])
        assert [each is not None and each.memory_id for each in found] == [ids[-1], ids[0]]
