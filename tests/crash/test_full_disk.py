"""A file system that is really full: nothing acknowledged is lost, and the store works again when space returns (P7).

A small tmpfs, whose writes fail as they are made, and a small ext4 on a loop device, which promises space that it has
not got until the sync.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
from support import assert_exactly

from memstore import MemStore, MemstoreError, StorageError, StorageFullError

SIZE_BYTES = 32 * 1024 * 1024
SETTINGS: dict[str, Any] = {
    "storage.ballast_bytes": 0,
    "storage.shards": 2,
    "storage.lifecycle.reserve_bytes": 0,
    "merging.background": False,
}
BODY = "b" * 3000


def run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)


@pytest.fixture(params=["tmpfs", "ext4"])
def volume(request: pytest.FixtureRequest, tmp_path: Any) -> Iterator[str]:
    """A directory that is a small file system of its own."""
    if os.geteuid() != 0:
        pytest.skip("needs root, to mount a small file system")
    directory = str(tmp_path / "volume")
    os.makedirs(directory)
    try:
        if request.param == "tmpfs":
            run("mount", "-t", "tmpfs", "-o", f"size={SIZE_BYTES}", "tmpfs", directory)
        else:
            if shutil.which("mkfs.ext4") is None:
                pytest.skip("needs mkfs.ext4: apt-get install e2fsprogs")
            image = str(tmp_path / "image")
            with open(image, "wb") as file:
                file.truncate(SIZE_BYTES)
            run("mkfs.ext4", "-q", "-m", "0", "-b", "1024", "-J", "size=1", image)
            run("mount", "-o", "loop", image, directory)
    except subprocess.CalledProcessError as error:
        pytest.skip(f"cannot mount a {request.param} here: {error.stderr.decode().strip()[:100]}")
    yield directory
    run("umount", "--lazy", directory)


def fill_up(volume: str) -> str:
    """Take all the space there is; the path of what takes it."""
    path = os.path.join(volume, "somebody-elses-file")
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    try:
        for size in (65536, 4096, 512):
            with contextlib.suppress(OSError):
                while True:
                    os.write(file, bytes(size))
        with contextlib.suppress(OSError):
            os.fsync(file)
    finally:
        os.close(file)
    return path


def append_until_full(store: MemStore, kept: dict[str, list[str]]) -> None:
    """Append to two agents, one at a time and in batches, until it is refused in both ways."""
    for step in range(4000):
        agent = ("a", "b")[step % 2]
        try:
            kept[agent].append(store.append(agent_id=agent, content=[step, BODY]))
        except StorageFullError:
            break
    with pytest.raises(StorageFullError):
        for step in range(2000):
            ids = store.append_many([{"agent_id": "a", "content": [step, n, BODY]} for n in range(5)])
            kept["a"] += ids


def test_a_disk_that_is_really_full_loses_nothing_and_the_store_works_again(volume: str) -> None:
    root = os.path.join(volume, "store")
    kept: dict[str, list[str]] = {"a": [], "b": []}
    with MemStore(root, settings=SETTINGS) as store:
        kept["a"].append(store.append(agent_id="a", content="first"))
        kept["b"].append(store.append(agent_id="b", content="first"))
        filler = fill_up(volume)
        append_until_full(store, kept)
        assert_exactly(store, kept)
        with contextlib.suppress(StorageError):  # there is no room for it
            store.drain()
        assert_exactly(store, kept)
        with contextlib.suppress(MemstoreError):
            store.maintain()
        assert_exactly(store, kept)
        os.unlink(filler)
        kept["b"].append(store.append(agent_id="b", content="again"))
        assert store.drain().pending == []
        assert_exactly(store, kept)
    with MemStore(root, settings=SETTINGS) as store:
        assert_exactly(store, kept)


def test_a_disk_that_fills_while_it_is_merged_and_packed_loses_nothing(
    volume: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody asks for room to finish, as if somebody else had taken it since."""
    monkeypatch.setattr("memstore.engine.merge.RESERVE_BYTES", -(1 << 40))
    root = os.path.join(volume, "store")
    kept: dict[str, list[str]] = {"a": [], "b": []}
    with MemStore(root, settings=SETTINGS) as store:
        for step in range(200):
            agent = ("a", "b")[step % 2]
            day = f"2025-0{1 + step % 3}-1{step % 9}T10:00:00Z"
            kept[agent].append(store.append(agent_id=agent, content=[step, BODY], timestamp=day))
        filler = fill_up(volume)
        for room in (0, 20_000, 60_000, 200_000, 500_000):
            os.truncate(filler, max(os.path.getsize(filler) - room, 0))
            with contextlib.suppress(MemstoreError):
                store.drain()
            assert_exactly(store, kept)
            with contextlib.suppress(MemstoreError):
                store.maintain()
            assert_exactly(store, kept)
        os.unlink(filler)
        assert store.drain().pending == []
        assert store.maintain().failed == []
        assert_exactly(store, kept)
