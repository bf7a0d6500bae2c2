"""What is forgotten stays forgotten when the second copy is all that is left, from its acknowledgement on."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from replica_support import copied, copy_state, give_copy, open_copy
from support import QUIET, assert_exactly, files_named, flip, make_engine, put

from memstore import MemStore, StorageError
from memstore.engine.engine import Engine
from memstore.filters import build_filter
from memstore.fs.local import LocalStorage
from memstore.lifecycle.lifecycle import Lifecycle
from memstore.replica.copy_agent import AgentCopier
from memstore.replica.replicator import Replicator
from memstore.replica.setup import promote
from memstore.testing.faulty import FaultyStorage

EVERYTHING = build_filter(now_us=0)


@pytest.fixture
def root(tmp_path: Path) -> str:
    return str(tmp_path / "store")


@pytest.fixture
def volume(tmp_path: Path) -> str:
    path = tmp_path / "second"
    path.mkdir()
    return str(path)


@pytest.fixture
def storage() -> FaultyStorage:
    return FaultyStorage(LocalStorage())


def ids_of(engine: Engine, agent: str) -> list[str]:
    found = engine.reader.lines(agent, EVERYTHING, newest_first=False, on_damage="raise")
    return [line[14 : line.index(b'"', 14)].decode() for line, _ in found]


def forget(engine: Engine, memory_id: str) -> None:
    Lifecycle(engine).forgetter.forget([memory_id])


@pytest.mark.parametrize("where", ["files of both", "lanes of both", "files of the store, lanes of the copy"])
def test_a_forgotten_record_stays_forgotten_when_the_copy_becomes_the_store(root: str, volume: str, where: str) -> None:
    with MemStore(root, settings=QUIET) as store:
        path = store.add_replica(volume)["path"]
        ids = [store.append(agent_id="a", content=n) for n in range(6)]
        if where != "lanes of both":
            store.drain()
        if where == "files of both":
            store.sync_replica()
        assert store.forget(ids[2]).hidden == [ids[2]]
        store.forget(ids[4])
        left = [ids[n] for n in (0, 1, 3, 5)]
        assert copy_state(store._engine) == "ok"
        with MemStore(path, settings=QUIET) as copy:
            assert_exactly(copy, {"a": left})
    os.rename(root, f"{root}.lost")
    promote(LocalStorage(), path)
    with MemStore(path, settings=QUIET) as copy:
        assert_exactly(copy, {"a": left})
        assert copy.drain().pending == []
        assert_exactly(copy, {"a": left})
        assert copy.check(full=True).is_clean
        assert copy.undelete(ids=[ids[2]]).records == 1
        assert_exactly(copy, {"a": sorted([*left, ids[2]])})


def test_what_an_undelete_brought_back_is_back_in_the_copy(root: str, volume: str) -> None:
    with MemStore(root, settings=QUIET) as store:
        path = store.add_replica(volume)["path"]
        ids = [store.append(agent_id="a", content=n) for n in range(3)]
        store.forget(ids)
        store.undelete(ids=ids[:1])
        store.undelete(agent="a")
        with MemStore(path, settings=QUIET) as copy:
            assert_exactly(copy, {"a": ids})


def test_the_copys_notes_of_what_was_forgotten_are_those_of_the_store(root: str, volume: str) -> None:
    with MemStore(root, settings=QUIET) as store:
        path = store.add_replica(volume)["path"]
        ids = [store.append(agent_id="a", content=n) for n in range(3)]
        for memory_id in ids[:2]:
            store.forget(memory_id)
            ours, theirs = (Path(where, "FORGOTTEN").read_bytes() for where in (root, path))
            assert ours == theirs
        store.drain()
        store.sync_replica()
        assert Path(path, "FORGOTTEN").read_bytes() == ours
        with MemStore(path, settings=QUIET) as copy:
            assert copy.check(full=True).is_clean


def test_readers_of_the_copy_do_not_give_a_forgotten_record_from_their_caches(root: str, volume: str) -> None:
    with MemStore(root, settings=QUIET) as store:
        path = store.add_replica(volume)["path"]
        ids = [store.append(agent_id="a", content=n) for n in range(3)]
        with MemStore(path, settings=QUIET) as copy:
            assert copy.get(ids[1]) is not None
            assert len(copy.agent("a").recent(5)) == 3
            store.forget(ids[1])
            assert copy.get(ids[1]) is None
            assert len(copy.agent("a").recent(5)) == 2


def test_the_next_pass_leaves_what_is_the_same_alone(root: str, volume: str) -> None:
    with MemStore(root, settings=QUIET) as store:
        ids = [store.append(agent_id="a", content=n) for n in range(3)]
        path = store.add_replica(volume)["path"]
        store.forget(ids[1])
        (manifest,) = files_named(path, "a/MANIFEST")
        before = os.stat(manifest).st_ino
        report = store._replicator.run()
        assert report is not None
        assert report.copied is not None
        assert (report.copied.changed, report.copied.failed) == (0, [])
        assert os.stat(manifest).st_ino == before


@pytest.mark.parametrize("kind", ["write", "sync_data", "open_write"])
def test_a_copy_that_cannot_hide_it_is_noted_as_behind_before_it_is_acknowledged(
    root: str, volume: str, storage: FaultyStorage, kind: str
) -> None:
    engine = make_engine(root, storage)
    path = give_copy(engine, volume)
    ids = [put(engine, "a", n) for n in range(3)]
    engine.drain(timeout_s=0)
    copied(engine)
    storage.fail(kind, path=f"{path}/memory/*", times=100)
    forget(engine, ids[1])
    assert copy_state(engine) == "behind"
    assert ids_of(engine, "a") == [ids[0], ids[2]]
    storage.disarm()
    copied(engine)
    assert ids_of(open_copy(path), "a") == [ids[0], ids[2]]
    engine.close()


def test_nothing_is_acknowledged_where_neither_can_be_noted(root: str, volume: str, storage: FaultyStorage) -> None:
    engine = make_engine(root, storage)
    path = give_copy(engine, volume)
    ids = [put(engine, "a", n) for n in range(3)]
    storage.fail("write", path=f"{path}/memory/*", times=100)
    storage.fail("create", path=f"{root}/.tmp-*", times=100)
    with pytest.raises(StorageError):
        forget(engine, ids[1])
    assert copy_state(engine) == "ok"
    storage.disarm()
    forget(engine, ids[2])
    copied(engine)
    assert ids_of(open_copy(path), "a") == ids[:1]
    engine.close()


def test_a_copy_that_is_away_is_behind_and_hides_it_when_it_joins(root: str, volume: str) -> None:
    with MemStore(root, settings=QUIET) as store:
        path = store.add_replica(volume)["path"]
        ids = [store.append(agent_id="a", content=n) for n in range(3)]
        store.drain()
        store.sync_replica()
        os.rename(volume, f"{volume}.away")
        store.forget(ids[1])
        assert copy_state(store._engine) == "behind"
        os.rename(f"{volume}.away", volume)
        assert store.sync_replica()["state"] == "ok"
        with MemStore(path, settings=QUIET) as copy:
            assert_exactly(copy, {"a": [ids[0], ids[2]]})


def test_a_copy_whose_manifest_is_damaged_is_behind_and_mended_when_it_joins(root: str, volume: str) -> None:
    with MemStore(root, settings=QUIET) as store:
        ids = [store.append(agent_id="a", content=n) for n in range(3)]
        path = store.add_replica(volume)["path"]
        flip(files_named(path, "a/MANIFEST")[0], 30)
        store.forget(ids[1])
        assert copy_state(store._engine) == "behind"
        assert store.sync_replica()["state"] == "ok"
        with MemStore(path, settings=QUIET) as copy:
            assert_exactly(copy, {"a": [ids[0], ids[2]]})


def test_a_pass_that_has_read_a_manifest_before_does_not_undo_it(
    root: str, volume: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = make_engine(root)
    path = give_copy(engine, volume)
    ids = [put(engine, "a", n) for n in range(4)]
    engine.drain(timeout_s=0)
    finish = AgentCopier.finish
    forgotten = iter(ids[1:2])

    def and_meanwhile(self, hides_the_same):
        for memory_id in forgotten:  # once, between the staging and the renaming
            forget(engine, memory_id)
        return finish(self, hides_the_same)

    monkeypatch.setattr(AgentCopier, "finish", and_meanwhile)
    report = Replicator(engine).run()
    assert report is not None
    assert report.waiting == ()
    assert ids_of(open_copy(path), "a") == [ids[0], *ids[2:]]
    assert copy_state(engine) == "ok"
    engine.close()
