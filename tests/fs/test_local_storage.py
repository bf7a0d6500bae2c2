"""The real disk passes the suite every storage must pass, and keeps its own promises."""

import errno
import os

import pytest

from memstore.errors import StorageError, StorageFullError
from memstore.fs.local import LocalFile, LocalStorage, storage_error
from memstore.fs.storage import Storage
from memstore.testing.storage_suite import StorageSuite


class TestLocalStorage(StorageSuite):
    @pytest.fixture
    def storage(self) -> Storage:
        return LocalStorage()

    @pytest.fixture
    def root(self, tmp_path) -> str:
        return str(tmp_path)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_no_space_is_told_apart_from_other_refusals(code):
    assert isinstance(storage_error("write", "/x", OSError(code, "full")), StorageFullError)
    other = storage_error("write", "/x", OSError(errno.EIO, "broken"))
    assert not isinstance(other, StorageFullError)
    assert "/x" in str(other)


def test_short_writes_are_continued(tmp_path, monkeypatch):
    file = LocalStorage().create(str(tmp_path / "a"))
    real = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda fd, data, offset: real(fd, bytes(data)[:3], offset))
    file.write(b"hello world", 0)
    assert file.read(0, 100) == b"hello world"


def test_a_write_that_takes_nothing_more_is_a_full_disk(tmp_path, monkeypatch):
    file = LocalStorage().create(str(tmp_path / "a"))
    real = os.pwrite
    calls = []

    def stalls(fd, data, offset):
        calls.append(offset)
        return real(fd, bytes(data)[:4], offset) if len(calls) == 1 else 0

    monkeypatch.setattr(os, "pwrite", stalls)
    with pytest.raises(StorageFullError, match="4 of 11"):
        file.write(b"hello world", 0)


def test_refused_system_calls_are_translated_with_their_path(tmp_path):
    storage = LocalStorage()
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageError, match="file"):
        storage.list_directory(str(tmp_path / "file"))


def test_a_forked_child_does_not_release_the_parents_lock(tmp_path):
    storage = LocalStorage()
    path = str(tmp_path / "lock")
    mine = storage.open_write(path)
    assert mine.try_lock()
    child = os.fork()
    if child == 0:
        mine.close()
        os._exit(0)
    os.waitpid(child, 0)
    other = storage.open_write(path)
    assert not other.try_lock()
    mine.close()
    assert other.try_lock()
    other.close()


def test_a_child_that_lives_on_does_not_keep_the_parents_lock(tmp_path):
    storage = LocalStorage()
    path = str(tmp_path / "lock")
    mine = storage.open_write(path)
    assert mine.try_lock()
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(write_end)
        os.read(read_end, 1)  # until the parent is done
        os._exit(0)
    os.close(read_end)
    mine.close()
    other = storage.open_write(path)
    assert other.try_lock()
    other.close()
    os.close(write_end)
    os.waitpid(child, 0)


def test_the_last_reference_closes_the_descriptor(tmp_path):
    file = LocalStorage().create(str(tmp_path / "a"))
    fd = file._fd
    os.fstat(fd)
    del file
    with pytest.raises(OSError):
        os.fstat(fd)
    assert LocalFile.__slots__
