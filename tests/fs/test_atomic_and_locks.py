"""Files that are replaced whole, and locks that exclude."""

import os
import threading

import pytest

from memstore.errors import LockedError, StorageFullError
from memstore.fs.atomic import make_directories, read_file, replace_file
from memstore.fs.handles import ReadHandles
from memstore.fs.local import LocalStorage
from memstore.fs.lock import locked, try_lock_file


def test_a_replaced_file_is_whole_and_leaves_nothing_behind(tmp_path):
    storage = LocalStorage()
    path = str(tmp_path / "S")
    replace_file(storage, path, b"one")
    replace_file(storage, path, b"two")
    assert (tmp_path / "S").read_bytes() == b"two"
    assert os.listdir(tmp_path) == ["S"]


def test_a_small_file_is_read_whole_or_is_not_there(tmp_path):
    storage = LocalStorage()
    assert read_file(storage, str(tmp_path / "S")) is None
    for content in (b"", b"one", b"x" * 100_000):
        replace_file(storage, str(tmp_path / "S"), content)
        assert read_file(storage, str(tmp_path / "S")) == content


def test_a_failed_replacement_keeps_the_old_content(tmp_path):
    class Full(LocalStorage):
        def rename(self, source, target):
            raise StorageFullError("no space")

    path = str(tmp_path / "S")
    replace_file(LocalStorage(), path, b"one")
    with pytest.raises(StorageFullError):
        replace_file(Full(), path, b"two")
    assert (tmp_path / "S").read_bytes() == b"one"
    assert os.listdir(tmp_path) == ["S"]


def test_directories_are_made_with_their_parents(tmp_path):
    make_directories(LocalStorage(), str(tmp_path / "a" / "b" / "c"))
    make_directories(LocalStorage(), str(tmp_path / "a" / "b" / "c"))
    assert (tmp_path / "a" / "b" / "c").is_dir()


def test_a_lock_that_is_held_too_long_is_reported(tmp_path):
    storage = LocalStorage()
    path = str(tmp_path / "merge")
    with locked(storage, path), pytest.raises(LockedError, match="merge"), locked(storage, path, timeout_s=0.02):
        pass
    assert try_lock_file(storage, path) is not None


def test_a_waiter_gets_the_lock_when_it_is_released(tmp_path):
    storage = LocalStorage()
    path = str(tmp_path / "merge")
    holding, release, got = threading.Event(), threading.Event(), threading.Event()

    def hold():
        with locked(storage, path):
            holding.set()
            release.wait()

    def wait():
        with locked(storage, path):
            got.set()

    threads = [threading.Thread(target=hold), threading.Thread(target=wait)]
    threads[0].start()
    holding.wait()
    threads[1].start()
    assert not got.is_set()
    release.set()
    assert got.wait(10)
    for thread in threads:
        thread.join()


def test_read_handles_are_few_and_shared(tmp_path):
    for name in "abc":
        (tmp_path / name).write_bytes(name.encode())
    handles = ReadHandles(LocalStorage(), files_max=2)
    first = handles.get(str(tmp_path / "a"))
    assert handles.get(str(tmp_path / "a")) is first
    handles.get(str(tmp_path / "b"))
    handles.get(str(tmp_path / "c"))
    assert first.read(0, 1) == b"a"  # dropped, and still readable for who holds it
    assert handles.get(str(tmp_path / "a")) is not first
    with pytest.raises(FileNotFoundError):
        handles.get(str(tmp_path / "absent"))
