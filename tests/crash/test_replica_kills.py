"""kill -9 of real processes, and a second volume that is a file system of its own: the copy alone has what was told.

The store's directory is out of the way when the copy is looked at. Where root may mount, the second volume is a small
tmpfs that is unmounted, filled up and mounted again.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import QUIET, assert_exactly, make_engine, put
from test_kill import Zygote, check, play_round, zygote  # noqa: F401 - a fixture

from memstore import MemStore
from memstore.engine.engine import Engine
from memstore.replica.replicator import Replicator

ROUNDS = int(os.environ.get("KILL_ROUNDS", "200")) // 10
ROUNDS_PER_STORE = 5


@pytest.mark.kill
def test_the_copy_alone_has_every_acknowledged_record_after_kill_9(zygote: Zygote, tmp_path: Path) -> None:  # noqa: F811
    seed = int(os.environ.get("KILL_SEED", "0")) or random.SystemRandom().randrange(1, 2**32)
    chance = random.Random(seed)
    root, second = tmp_path / "store", tmp_path / "second"
    looked = 0
    for number in range(ROUNDS):
        told = f"round {number} of KILL_SEED={seed}"
        if number % ROUNDS_PER_STORE == 0:
            shutil.rmtree(root, ignore_errors=True)
            shutil.rmtree(second, ignore_errors=True)
            second.mkdir()
            with MemStore(root, settings=QUIET) as store:
                path = store.add_replica(str(second))["path"]
            zygote.acked.clear()
        play_round(zygote, chance, str(root))
        with MemStore(root, settings=QUIET, read_only=True) as store:
            status = store.replica_status()
            assert status is not None
            check(store, zygote.acked, told)
        if status["state"] == "ok":
            looked += 1
            os.rename(root, f"{root}.lost")
            with MemStore(path, settings=QUIET) as copy:
                check(copy, zygote.acked, f"{told}, the copy")
            os.rename(f"{root}.lost", root)
        if chance.random() < 0.5:
            with MemStore(root, settings=QUIET) as store:
                assert store.drain().pending == [], told
                assert store.sync_replica()["state"] == "ok", told
            with MemStore(path, settings=QUIET) as copy:
                check(copy, zygote.acked, f"{told}, the copy after a pass")
    assert looked > ROUNDS // 2


@pytest.mark.kill
def test_a_copy_that_is_added_while_processes_write_has_all_they_were_told(zygote: Zygote, tmp_path: Path) -> None:  # noqa: F811
    root, second = tmp_path / "store", tmp_path / "second"
    second.mkdir()
    MemStore(root, settings=QUIET).close()
    writers = [zygote.spawn("writer", seed, str(root)) for seed in range(3)]
    while sum(map(len, zygote.acked.values())) < 30:
        zygote.listen(1)
    with MemStore(root, settings=QUIET) as store:
        status = store.add_replica(str(second))
        for _ in range(5):  # they look for the mark once a second, on a machine that may be busy
            if status["state"] == "ok":
                break
            status = store.sync_replica()
        assert status["state"] == "ok"
        before = sum(map(len, zygote.acked.values()))
        while sum(map(len, zygote.acked.values())) < before + 30:
            zygote.listen(1)
        for pid in writers:
            zygote.kill(pid)
        while zygote.listen(0):
            pass
    os.rename(root, f"{root}.lost")
    with MemStore(status["path"], settings=QUIET) as copy:
        check(copy, zygote.acked, "the copy")


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Path]:
    """A tmpfs of 4 MiB."""
    volume = tmp_path / "second"
    volume.mkdir()
    mount(volume)
    yield volume
    with contextlib.suppress(subprocess.CalledProcessError):
        unmount(volume)


def mount(volume: Path) -> None:
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m", "memstore-test", str(volume)],
        check=False,
        capture_output=True,
        text=True,
    )
    if done.returncode != 0:
        pytest.skip(f"no file system can be mounted here: {done.stderr.strip()}")


def unmount(volume: Path) -> None:
    subprocess.run(["umount", "-l", str(volume)], check=True, capture_output=True)


def state(engine: Engine) -> str:
    entry = engine.catalog.reload().store.replica
    assert entry is not None
    return entry.state


def test_a_second_volume_that_is_really_full_holds_nobody_up(tmp_path: Path, mounted: Path) -> None:
    with MemStore(tmp_path / "store", settings=QUIET) as store:
        path = store.add_replica(str(mounted))["path"]
        ids = [store.append(agent_id="a", content="x" * 1000)]
        with (mounted / "filler").open("wb", buffering=0) as filler, contextlib.suppress(OSError):
            while True:
                filler.write(bytes(4096))
        ids += [store.append(agent_id="a", content="y" * 20_000) for _ in range(3)]
        assert state(store._engine) == "behind"
        (mounted / "filler").unlink()
        assert store.sync_replica()["state"] == "ok"
        ids.append(store.append(agent_id="a", content="both"))
        with MemStore(path, settings=QUIET) as copy:
            assert_exactly(copy, {"a": ids})


def test_a_second_volume_that_is_unmounted_is_away_and_never_made_anew_at_its_mount_point(
    tmp_path: Path, mounted: Path
) -> None:
    engine = make_engine(tmp_path / "store")
    store_path = engine.paths.root
    with MemStore(store_path, settings=QUIET) as store:
        store.add_replica(str(mounted))
    put(engine, "a", "both")
    assert state(engine) == "ok"
    engine.close()
    unmount(mounted)
    with MemStore(store_path, settings=QUIET, read_only=True) as store:
        status = store.replica_status()
        assert status is not None
        assert status["state"] == "away"
        assert store.agent("a").count() == 1
    mount(mounted)  # an empty file system: its content is lost
    engine = make_engine(store_path)
    assert engine.alone is not None
    assert os.listdir(mounted) == []
    engine.close()
    forced = {**QUIET, "storage": {**QUIET["storage"], "force_alone": True}}
    with MemStore(store_path, settings=forced) as store:
        store.append(agent_id="a", content="alone")
        report = Replicator(store._engine).run()
        assert report is not None
        assert report.state == "behind"
        assert os.listdir(mounted) == []
        store.remove_replica()
        assert store.add_replica(str(mounted))["state"] == "ok"
        path = store.replica_status()["path"]  # type: ignore[index]
        with MemStore(path, settings=QUIET) as copy:
            assert copy.agent("a").count() == 2
