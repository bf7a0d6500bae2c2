"""What every storage must pass: one suite, subclassed per implementation.

::

    class TestLocalStorage(StorageSuite):
        @pytest.fixture
        def storage(self) -> Storage: ...
        @pytest.fixture
        def root(self, tmp_path) -> str: ...
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from memstore.errors import StorageError
from memstore.fs.storage import Storage


class StorageSuite:
    """Conformance tests of the storage protocol.

    A subclass gives the fixtures ``storage`` and ``root`` (an empty directory).
    """

    def test_written_bytes_are_read_back_at_their_offsets(self, storage: Storage, root: str) -> None:
        file = storage.create(os.path.join(root, "a"))
        file.write(b"hello world", 0)
        file.write(b"WORLD", 6)
        assert file.read(0, 100) == b"hello WORLD"
        assert file.read(6, 5) == b"WORLD"
        assert file.identity().size_bytes == 11

    def test_the_size_and_the_existence_of_a_file_are_those_of_now(self, storage: Storage, root: str) -> None:
        path = os.path.join(root, "a")
        assert not storage.exists(path)
        assert not storage.exists(os.path.join(path, "b"))
        writer = storage.create(path)
        reader = storage.open_read(path)
        assert storage.exists(path)
        assert reader.size_bytes() == 0
        writer.write(b"x" * 10, 0)
        assert (reader.size_bytes(), writer.size_bytes()) == (10, 10)
        writer.truncate(4)
        assert reader.size_bytes() == 4
        assert reader.read(0, 100) == b"x" * 4
        storage.unlink(path)
        assert not storage.exists(path)

    def test_a_read_is_short_only_at_the_end(self, storage: Storage, root: str) -> None:
        file = storage.create(os.path.join(root, "a"))
        file.write(b"x" * 300_000, 0)
        assert len(file.read(0, 300_000)) == 300_000
        assert file.read(299_990, 100) == b"x" * 10
        assert file.read(300_000, 1) == b""
        assert file.read(10**9, 1) == b""

    def test_a_write_behind_the_end_leaves_zeros_between(self, storage: Storage, root: str) -> None:
        file = storage.create(os.path.join(root, "a"))
        file.write(b"x", 4)
        assert file.read(0, 10) == b"\0\0\0\0x"

    def test_truncate_cuts_and_extends(self, storage: Storage, root: str) -> None:
        file = storage.create(os.path.join(root, "a"))
        file.write(b"hello", 0)
        file.truncate(2)
        assert file.read(0, 10) == b"he"
        file.truncate(4)
        assert file.read(0, 10) == b"he\0\0"

    def test_create_refuses_a_name_that_is_taken(self, storage: Storage, root: str) -> None:
        path = os.path.join(root, "a")
        storage.create(path).close()
        with _raises(FileExistsError):
            storage.create(path)

    def test_opening_what_is_not_there_says_so(self, storage: Storage, root: str) -> None:
        path = os.path.join(root, "absent")
        for opener in (storage.open_read, storage.open_update, storage.open_directory):
            with _raises(FileNotFoundError):
                opener(path)
        with _raises(FileNotFoundError):
            storage.unlink(path)
        with _raises(FileNotFoundError):
            storage.list_directory(path)
        assert storage.identify(path) is None

    def test_open_write_creates_and_never_truncates(self, storage: Storage, root: str) -> None:
        path = os.path.join(root, "a")
        storage.open_write(path).write(b"kept", 0)
        assert storage.open_write(path).read(0, 10) == b"kept"
        storage.open_update(path).write(b"K", 0)
        assert storage.open_read(path).read(0, 10) == b"Kept"

    def test_an_unlinked_file_stays_readable_through_its_handle(self, storage: Storage, root: str) -> None:
        path = os.path.join(root, "a")
        file = storage.create(path)
        file.write(b"still here", 0)
        storage.unlink(path)
        assert storage.identify(path) is None
        assert file.read(0, 100) == b"still here"

    def test_identity_tells_two_files_of_one_name_apart(self, storage: Storage, root: str) -> None:
        path = os.path.join(root, "a")
        first = storage.create(path)
        before = storage.identify(path)
        assert before == first.identity()
        other = storage.create(os.path.join(root, "b"))
        storage.rename(os.path.join(root, "b"), path)
        after = storage.identify(path)
        assert after == other.identity()
        assert after is not None
        assert before is not None
        assert after.inode != before.inode

    def test_rename_replaces_a_file(self, storage: Storage, root: str) -> None:
        old, new = os.path.join(root, "old"), os.path.join(root, "new")
        storage.create(old).write(b"old", 0)
        storage.create(new).write(b"new", 0)
        storage.rename(new, old)
        assert storage.open_read(old).read(0, 10) == b"new"
        assert storage.identify(new) is None

    def test_a_linked_file_has_two_names_where_links_are_possible(self, storage: Storage, root: str) -> None:
        first, second = os.path.join(root, "first"), os.path.join(root, "second")
        storage.create(first).write(b"x", 0)
        try:
            storage.link(first, second)
        except StorageError:
            assert storage.identify(second) is None
            return
        assert storage.identify(first) == storage.identify(second)
        with _raises(FileExistsError):
            storage.link(first, second)
        storage.unlink(first)
        assert storage.open_read(second).read(0, 1) == b"x"

    def test_a_renamed_directory_takes_its_files_along(self, storage: Storage, root: str) -> None:
        storage.make_directory(os.path.join(root, "d"))
        storage.create(os.path.join(root, "d", "f")).write(b"x", 0)
        storage.rename(os.path.join(root, "d"), os.path.join(root, "e"))
        assert storage.open_read(os.path.join(root, "e", "f")).read(0, 1) == b"x"

    def test_directories_list_their_entries(self, storage: Storage, root: str) -> None:
        storage.make_directory(os.path.join(root, "d"))
        storage.create(os.path.join(root, "f")).close()
        entries = {e.name: e.is_directory for e in storage.list_directory(root)}
        assert entries == {"d": True, "f": False}
        with _raises(FileExistsError):
            storage.make_directory(os.path.join(root, "d"))
        storage.remove_directory(os.path.join(root, "d"))
        assert [e.name for e in storage.list_directory(root)] == ["f"]

    def test_a_lock_excludes_another_descriptor_until_it_is_closed(self, storage: Storage, root: str) -> None:
        path = os.path.join(root, "lock")
        first, second = storage.open_write(path), storage.open_write(path)
        assert first.try_lock()
        assert not second.try_lock()
        first.close()
        assert second.try_lock()
        second.close()

    def test_syncs_of_files_directories_and_file_systems_succeed(self, storage: Storage, root: str) -> None:
        file = storage.create(os.path.join(root, "a"))
        file.write(b"x", 0)
        file.sync_data()
        storage.sync_directory(root)
        directory = storage.open_directory(root)
        directory.sync_file_system()
        directory.close()

    def test_allocated_space_is_the_files_own(self, storage: Storage, root: str) -> None:
        path = os.path.join(root, "ballast")
        storage.allocate(path, 65536)
        identity = storage.identify(path)
        assert identity is not None
        assert identity.size_bytes == 65536

    def test_free_space_and_file_system_are_known(self, storage: Storage, root: str) -> None:
        assert storage.free_bytes(root) > 0
        assert isinstance(storage.file_system_type(root), str)
        assert storage.is_writable(root)

    def test_close_may_be_called_twice(self, storage: Storage, root: str) -> None:
        file = storage.create(os.path.join(root, "a"))
        file.close()
        file.close()


@contextlib.contextmanager
def _raises(kind: type[Exception]) -> Iterator[None]:
    """``pytest.raises`` without pytest: this module is shipped, pytest is not."""
    try:
        yield
    except kind:
        return
    raise AssertionError(f"{kind.__name__} was not raised")
