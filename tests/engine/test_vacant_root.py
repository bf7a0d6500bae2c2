from __future__ import annotations

import os
import shutil

import pytest

from memstore import CorruptionError, MemStore, NotFoundError, UsageError


def _without_store_file(root, *, merged: bool) -> None:
    with MemStore(root) as store:
        store.append(agent_id="bot", content=1)
        if merged:
            store.drain()
    os.remove(root / "STORE.json")


@pytest.mark.parametrize("merged", [True, False])
@pytest.mark.parametrize("options", [{}, {"create": False}, {"read_only": True}])
def test_a_store_that_lost_its_store_file_is_not_taken_for_a_place_to_make_one(tmp_path, merged, options):
    root = tmp_path / "store"
    _without_store_file(root, merged=merged)
    with pytest.raises(CorruptionError, match=r"STORE\.json: it is missing.*memstore repair --plan"):
        MemStore(root, **options)
    assert not (root / "STORE.json").exists()


def test_it_is_told_by_its_agents_alone(tmp_path):
    root = tmp_path / "store"
    _without_store_file(root, merged=True)
    shutil.rmtree(root / "lanes")
    shutil.rmtree(root / "locks")
    with pytest.raises(CorruptionError):
        MemStore(root)


def test_what_a_killed_creator_left_becomes_a_store(tmp_path):
    root = tmp_path / "store"
    for directory in ("lanes", "locks", "memory/shards/shard_000"):
        (root / directory).mkdir(parents=True)
    (root / "locks" / "store").touch()
    with pytest.raises(NotFoundError):
        MemStore(root, create=False)
    with MemStore(root) as store:
        assert store.agents() == []


def test_other_things_are_no_store_to_a_reader_and_no_place_for_one_to_a_writer(tmp_path):
    (tmp_path / "notes.txt").touch()
    with pytest.raises(NotFoundError, match="holds no store"):
        MemStore(tmp_path, create=False)
    with pytest.raises(UsageError, match="not empty"):
        MemStore(tmp_path)
