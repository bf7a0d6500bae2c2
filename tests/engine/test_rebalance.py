"""Shards are added, agents pinned and moved, while reads and writes go on, and whatever is killed is resumed."""

import os
import shutil
import tempfile
import threading

import pytest

from memstore import MemStore, NotFoundError
from memstore.engine.engine import Engine
from memstore.errors import StorageError
from memstore.fs.local import LocalStorage

AGENTS = [f"agent_{n:03d}" for n in range(60)]
SETTINGS = {"storage.ballast_bytes": 0, "storage.shards": 3}


def filled(root):
    store = MemStore(root, settings=SETTINGS)
    store.append_many([{"agent_id": a, "content": n} for a in AGENTS for n in range(3)])
    store.drain()
    return store


def everything(store):
    return {a: [r.content for r in store.agent(a).range()] for a in AGENTS}


EXPECTED = {a: [0, 1, 2] for a in AGENTS}


def test_a_new_shard_takes_its_share_and_nothing_else_moves(tmp_path):
    with filled(tmp_path) as store:
        before = {s["name"]: s["agents"] for s in store.shards()}
        report = store.add_shard()
        after = {s["name"]: s["agents"] for s in store.shards()}
        assert report["shard"] == "shard_003"
        assert after["shard_003"] == report["moved"] > 0
        assert sum(after.values()) == len(AGENTS) == sum(before.values())
        assert all(after[name] <= count for name, count in before.items())
        assert all(s["misplaced"] == 0 for s in store.shards())
        assert everything(store) == EXPECTED
    with MemStore(tmp_path) as store:
        assert everything(store) == EXPECTED


def test_another_process_that_was_open_finds_moved_agents(tmp_path):
    with filled(tmp_path) as store, MemStore(tmp_path) as other:
        ids = [r.memory_id for a in AGENTS for r in other.agent(a).range()]
        store.add_shard()
        assert everything(other) == EXPECTED
        assert all(other.get_many(ids))
        other.append_many([{"agent_id": a, "content": 3} for a in AGENTS])
        other.drain()
        assert all(store.agent(a).count() == 4 for a in AGENTS)
        assert all(s["misplaced"] == 0 for s in store.shards())


def test_a_pinned_agent_moves_to_its_shard_and_back(tmp_path):
    with filled(tmp_path) as store:
        home = next(s["name"] for s in store.shards() if os.path.isdir(os.path.join(s["path"], AGENTS[0])))
        target = next(s["name"] for s in store.shards() if s["name"] != home)
        assert store.pin(AGENTS[0], target)["moved"] == 1
        assert store.pin(AGENTS[0], target)["moved"] == 0
        (shard,) = [s for s in store.shards() if s["name"] == target]
        assert shard["pinned"] == [AGENTS[0]]
        assert os.path.isdir(os.path.join(shard["path"], AGENTS[0]))
        assert everything(store) == EXPECTED
        assert store.pin(AGENTS[0], None)["moved"] == 1
        with pytest.raises(NotFoundError, match="shard_000"):
            store.pin(AGENTS[0], "shard_099")
        store.pin("not_there_yet", target)
        store.append(agent_id="not_there_yet", content=1)
        store.drain()
        assert os.path.isdir(os.path.join(shard["path"], "not_there_yet"))


def test_shards_lie_on_the_volumes_they_were_given(tmp_path):
    volumes = [tmp_path / "v1", tmp_path / "v2"]
    for volume in volumes:
        volume.mkdir()
    with MemStore(tmp_path / "s", settings={**SETTINGS, "storage.volumes": [str(v) for v in volumes]}) as store:
        store.append_many([{"agent_id": a, "content": 0} for a in AGENTS])
        store.drain()
        assert sorted(p.name for v in volumes for p in v.glob("memstore-*/shard_*")) == [
            "shard_000",
            "shard_001",
            "shard_002",
        ]
        assert store.stats()["bytes_on_disk"] > 0
    with pytest.raises(NotFoundError, match="absent"):
        MemStore(tmp_path / "t", settings={"storage.volumes": [str(tmp_path / "absent")]})


def test_a_move_to_another_volume_copies_and_keeps_the_original_in_the_trash(tmp_path, monkeypatch):
    (tmp_path / "v").mkdir()
    with filled(tmp_path / "s") as store:
        monkeypatch.setattr("memstore.engine.rebalance._device", lambda storage, path: hash(path.split("/shard_")[0]))
        report = store.add_shard(str(tmp_path / "v"))
        assert report["moved"] > 0
        assert len(list((tmp_path / "v").glob("memstore-*/shard_003/agent_*"))) == report["moved"]
        assert len(list(tmp_path.glob("s/memory/shards/*/.trash/agent_*"))) == report["moved"]
        assert everything(store) == EXPECTED
        with pytest.raises(NotFoundError):
            store.add_shard(str(tmp_path / "absent"))


class Failing(LocalStorage):
    """Fails the n-th of the calls that a move is made of, as a killed process does; everything after it fails too."""

    def __init__(self, fail_at):
        self.calls = 0
        self.fail_at = fail_at

    def _count(self):
        self.calls += 1
        if self.fail_at is not None and self.calls >= self.fail_at:
            raise StorageError("stopped here")

    def rename(self, source, target):
        self._count()
        super().rename(source, target)
        self._count()

    def sync_directory(self, path):
        self._count()
        super().sync_directory(path)

    def create(self, path):
        self._count()
        return super().create(path)

    def make_directory(self, path):
        self._count()
        super().make_directory(path)


@pytest.mark.parametrize("across_volumes", [False, True])
def test_a_move_that_is_stopped_at_any_call_is_resumed_and_hides_nothing(tmp_path, monkeypatch, across_volumes):
    if across_volumes:
        monkeypatch.setattr("memstore.engine.rebalance._device", lambda storage, path: hash(path))
    with filled(tmp_path) as settled:
        fail_at = 1
        stopped = True
        while stopped:
            storage = Failing(fail_at)
            engine = Engine(
                storage,
                str(tmp_path),
                settings=settled.settings,
                clock=settled._engine.clock,
                read_only=False,
                create=False,
            )
            try:
                engine.rebalancer.add_shard(None)
                stopped = False
            except StorageError:
                pass
            engine.close()
            assert everything(settled) == EXPECTED, fail_at
            with MemStore(tmp_path) as other:
                assert everything(other) == EXPECTED, fail_at
            fail_at += 7  # a share of the calls, every kind of them
        with MemStore(tmp_path) as other:
            other.append_many([{"agent_id": a, "content": 3} for a in AGENTS])
            other.drain()
            assert all(s["misplaced"] == 0 for s in other.shards())
            assert {a: c[-1] for a, c in everything(other).items()} == dict.fromkeys(AGENTS, 3)


def test_reads_and_writes_go_on_while_agents_move(tmp_path):
    with filled(tmp_path) as store, MemStore(tmp_path, settings=SETTINGS) as mover:
        stop = threading.Event()
        problems = []
        written = dict.fromkeys(AGENTS, 3)

        def work():
            while not stop.is_set():
                for agent in AGENTS[:20]:
                    store.append(agent_id=agent, content=written[agent])
                    written[agent] += 1
                    seen = [r.content for r in store.agent(agent).range()]
                    if seen != list(range(written[agent])):
                        problems.append((agent, seen))

        thread = threading.Thread(target=work)
        thread.start()
        try:
            for _ in range(3):
                mover.add_shard()
        finally:
            stop.set()
            thread.join()
        assert problems == []
        assert all(store.agent(a).count() == n for a, n in written.items())


def test_an_agent_on_a_volume_that_is_not_mounted_does_not_seem_empty(tmp_path):
    volume = tmp_path / "v"
    volume.mkdir()
    with MemStore(tmp_path / "s", settings={**SETTINGS, "storage.volumes": [str(volume)]}) as store:
        store.append_many([{"agent_id": a, "content": 0} for a in AGENTS])
    volume.rename(tmp_path / "unmounted")
    with MemStore(tmp_path / "s") as store:
        store.append(agent_id=AGENTS[0], content=1)  # durable in its lane, wherever its shard is
        for ask in (store.agents, store.stats, store.shards, store.agent(AGENTS[0]).count, store.drain):
            with pytest.raises(StorageError, match="mount its volume"):
                ask()
        (tmp_path / "unmounted").rename(volume)
        assert store.agent(AGENTS[0]).count() == 2


def test_agents_move_to_a_real_second_volume_and_back(tmp_path):
    if not os.path.isdir("/dev/shm"):
        pytest.skip("there is no /dev/shm to be a second volume")
    volume = tempfile.mkdtemp(prefix="memstore-volume-", dir="/dev/shm")
    try:
        if os.stat(volume).st_dev == os.stat(tmp_path).st_dev:
            pytest.skip("/dev/shm and the temporary directory are one file system here")
        with filled(tmp_path) as store, MemStore(tmp_path, settings=SETTINGS) as other:
            report = store.add_shard(volume)
            assert report["moved"] > 0
            assert everything(store) == everything(other) == EXPECTED
            moved = [name for name in os.listdir(store.shards()[-1]["path"]) if name in AGENTS]
            assert len(moved) == report["moved"]
            other.append_many([{"agent_id": a, "content": 3} for a in AGENTS])
            other.drain()
            assert store.pin(moved[0], "shard_000")["moved"] == 1
            assert everything(store) == everything(other) == {a: [0, 1, 2, 3] for a in AGENTS}
        with MemStore(tmp_path) as store:
            assert everything(store) == {a: [0, 1, 2, 3] for a in AGENTS}
    finally:
        shutil.rmtree(volume)
