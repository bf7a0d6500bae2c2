"""A storage that loses what was never synced, and nothing else."""

from __future__ import annotations

import gc
import threading

import pytest

from memstore.errors import StorageError, StorageFullError
from memstore.fs.atomic import make_directories, replace_file
from memstore.fs.storage import Storage
from memstore.testing.crashing import CrashingStorage, PowerCut
from memstore.testing.storage_suite import StorageSuite

SEEDS = range(400)


class TestCrashingStorage(StorageSuite):
    @pytest.fixture
    def storage(self) -> Storage:
        return CrashingStorage()

    @pytest.fixture
    def root(self, storage: Storage) -> str:
        storage.make_directory("/root")
        return "/root"


class TestWithoutReuseOfInodes(TestCrashingStorage):
    @pytest.fixture
    def storage(self) -> Storage:
        return CrashingStorage(reuse_inodes=False)


class TestAfterACrash(TestCrashingStorage):
    @pytest.fixture
    def storage(self) -> Storage:
        return CrashingStorage().crash(0)


def durable_file(storage: CrashingStorage, path: str, data: bytes) -> None:
    file = storage.create(path)
    file.write(data, 0)
    file.sync_data()
    file.close()
    storage.sync_directory("/")


def outcomes(prepare: object, path: str = "/f") -> set[bytes | None]:
    """What a file may hold after a power cut; None where it is gone."""
    found: set[bytes | None] = set()
    for seed in SEEDS:
        storage = CrashingStorage()
        prepare(storage)  # type: ignore[operator]
        found.add(storage.crash(seed).files().get(path))
    return found


# -- bytes


def test_synced_bytes_and_names_are_never_lost() -> None:
    assert outcomes(lambda storage: durable_file(storage, "/f", b"x" * 10_000)) == {b"x" * 10_000}


def test_unsynced_bytes_may_be_there_wholly_in_part_or_not_at_all() -> None:
    def prepare(storage: CrashingStorage) -> None:
        durable_file(storage, "/f", b"abc")
        storage.open_update("/f").write(b"defghi", 3)

    found = outcomes(prepare)
    assert {b"abc", b"abcdefghi", b"abcdef\0\0\0", b"abcde\0\0\0\0"} <= found
    assert b"abc\0\0\0\0\0\0" in found  # the length is there, the data is not
    assert all(each is not None and each.startswith(b"abc") and len(each) <= 9 for each in found)


def test_pages_of_one_write_may_be_lost_in_any_order() -> None:
    def prepare(storage: CrashingStorage) -> None:
        durable_file(storage, "/f", b"")
        storage.open_update("/f").write(b"a" * 4096 + b"b" * 4096 + b"c" * 4096, 0)

    whole = {tuple(bytes([letter]) * 4096 in (content or b"") for letter in b"abc") for content in outcomes(prepare)}
    assert len(whole) == 8


def test_a_later_write_may_survive_an_earlier_one_but_not_within_a_sector() -> None:
    def prepare(storage: CrashingStorage, *, second: int) -> None:
        durable_file(storage, "/f", b"." * 600)
        file = storage.open_update("/f")
        file.write(b"1", 0)
        file.write(b"2", second)

    def seen(second: int) -> set[tuple[bool, bool]]:
        found = outcomes(lambda storage: prepare(storage, second=second))
        return {(b"1" in (content or b""), b"2" in (content or b"")) for content in found}

    assert seen(second=599) == {(False, False), (True, False), (False, True), (True, True)}
    assert seen(second=300) == {(False, False), (True, False), (True, True)}


def test_a_cut_may_be_undone_with_zeros_in_its_page() -> None:
    def prepare(storage: CrashingStorage) -> None:
        durable_file(storage, "/f", b"x" * 5000)
        storage.open_update("/f").truncate(10)

    found = outcomes(prepare)
    assert {b"x" * 10, b"x" * 5000, b"x" * 10 + bytes(4086) + b"x" * 904} <= found
    assert all(content is not None and content[:10] + content[4096:] in {b"x" * 10, b"x" * 914} for content in found)


def test_a_sync_of_one_file_says_nothing_of_another() -> None:
    def prepare(storage: CrashingStorage) -> None:
        durable_file(storage, "/f", b"")
        durable_file(storage, "/g", b"")
        f, g = storage.open_update("/f"), storage.open_update("/g")
        f.write(b"f", 0)
        g.write(b"g", 0)
        g.sync_data()

    assert b"" in outcomes(prepare)
    assert outcomes(prepare, "/g") == {b"g"}


# -- names


def test_a_file_whose_directory_was_not_synced_may_be_gone_with_all_its_synced_bytes() -> None:
    def prepare(storage: CrashingStorage) -> None:
        file = storage.create("/f")
        file.write(b"x", 0)
        file.sync_data()

    assert outcomes(prepare) == {None, b"x"}


def test_a_name_may_be_durable_before_the_bytes_are() -> None:
    def prepare(storage: CrashingStorage) -> None:
        storage.create("/f").write(b"x", 0)
        storage.sync_directory("/")

    assert outcomes(prepare) == {b"", b"\0", b"x"}


def test_a_rename_leaves_the_old_name_or_the_new_and_never_neither() -> None:
    seen = set()
    for seed in SEEDS:
        storage = CrashingStorage()
        storage.make_directory("/d")
        storage.sync_directory("/")
        durable_file(storage, "/old", b"x")
        storage.rename("/old", "/d/new")
        seen.add(tuple(storage.crash(seed).files()))
    assert seen == {("/old",), ("/d/new",)}


def test_a_rename_over_a_file_leaves_one_of_the_two_whole() -> None:
    def prepare(storage: CrashingStorage) -> None:
        durable_file(storage, "/f", b"before")
        durable_file(storage, "/g", b"after")
        storage.rename("/g", "/f")

    assert outcomes(prepare) == {b"before", b"after"}


def test_a_sync_of_either_directory_makes_a_rename_between_them_durable() -> None:
    for synced in ("/a", "/b"):
        for seed in SEEDS:
            storage = CrashingStorage()
            for name in ("/a", "/b"):
                storage.make_directory(name)
            storage.sync_directory("/")
            storage.create("/a/f").close()
            storage.rename("/a/f", "/b/f")
            storage.sync_directory(synced)
            assert list(storage.crash(seed).files()) == ["/b/f"]


def test_changes_of_two_directories_are_lost_apart() -> None:
    seen = set()
    for seed in SEEDS:
        storage = CrashingStorage()
        for name in ("/a", "/b"):
            storage.make_directory(name)
        storage.sync_directory("/")
        storage.create("/a/1").close()
        storage.create("/b/2").close()
        seen.add(tuple(storage.crash(seed).files()))
    assert seen == {(), ("/a/1",), ("/b/2",), ("/a/1", "/b/2")}


def test_two_names_of_a_file_are_lost_and_kept_apart() -> None:
    seen = set()
    for seed in SEEDS:
        storage = CrashingStorage()
        durable_file(storage, "/f", b"x")
        storage.link("/f", "/g")
        storage.unlink("/f")
        found = storage.crash(seed)
        seen.add(tuple(found.files()))
        assert len({found.identify(path) for path in found.files()}) <= 1
        assert set(found.files().values()) <= {b"x"}
    assert seen == {(), ("/f",), ("/g",), ("/f", "/g")}


def test_what_is_written_under_one_name_is_read_under_the_other_after_a_power_cut_too() -> None:
    storage = CrashingStorage()
    durable_file(storage, "/f", b"before")
    storage.link("/f", "/g")
    storage.sync_directory("/")
    found = storage.crash(0)
    found.open_write("/f").write(b"after!", 0)
    assert found.open_read("/g").read(0, 6) == b"after!"
    found.unlink("/f")
    assert found.open_read("/g").read(0, 6) == b"after!"


def test_an_unlink_may_be_undone_until_its_directory_is_synced() -> None:
    def unlink(storage: CrashingStorage) -> None:
        durable_file(storage, "/f", b"x")
        storage.unlink("/f")

    def unlink_and_sync(storage: CrashingStorage) -> None:
        unlink(storage)
        storage.sync_directory("/")

    assert outcomes(unlink) == {None, b"x"}
    assert outcomes(unlink_and_sync) == {None}


def test_a_synced_file_in_a_directory_that_never_was_is_gone() -> None:
    seen = set()
    for seed in SEEDS:
        storage = CrashingStorage()
        storage.make_directory("/d")
        file = storage.create("/d/f")
        file.sync_data()
        storage.sync_directory("/d")
        seen.add(tuple(storage.crash(seed).files()))
    assert seen == {(), ("/d/f",)}


def test_a_sync_of_a_file_system_covers_everything_on_it_and_no_other() -> None:
    lost = False
    for seed in SEEDS:
        storage = CrashingStorage(mounts=["/mnt/two"])
        make_directories(storage, "/a/b")
        make_directories(storage, "/mnt/two/c")
        storage.sync_directory("/mnt/two")
        for path in ("/a/b/f", "/mnt/two/c/f"):
            storage.create(path).write(b"x" * 9000, 0)
        directory = storage.open_directory("/a")
        directory.sync_file_system()
        files = storage.crash(seed).files()
        assert files["/a/b/f"] == b"x" * 9000
        lost |= files.get("/mnt/two/c/f") != b"x" * 9000
    assert lost


def test_file_systems_have_devices_and_nothing_is_renamed_between_them() -> None:
    storage = CrashingStorage(mounts=["/mnt/two"])
    storage.create("/f").close()
    one, two = storage.identify("/f"), storage.identify("/mnt/two")
    assert one is not None
    assert two is not None
    assert one.device != two.device
    with pytest.raises(StorageError, match="cross-device"):
        storage.rename("/f", "/mnt/two/f")


def test_replacing_a_file_leaves_the_old_content_or_the_new_at_every_call() -> None:
    for call in range(1, 8):
        for seed in range(60):
            storage = CrashingStorage()
            durable_file(storage, "/f", b"before" * 1000)
            storage.power.at_call(call)
            done = False
            try:
                replace_file(storage, "/f", b"after" * 1000)
                done = True
            except PowerCut:
                pass
            found = storage.crash(seed).files()["/f"]
            assert found in {b"after" * 1000} | (set() if done else {b"before" * 1000})


# -- inodes


def test_an_inode_number_is_used_again_once_nobody_has_the_file_open() -> None:
    storage = CrashingStorage()
    first = storage.create("/f")
    number = first.identity().inode
    storage.unlink("/f")
    assert storage.create("/g").identity().inode != number
    first.close()
    again = storage.create("/h").identity()
    assert again.inode == number
    assert again.changed_ns > first_change(storage)


def first_change(storage: CrashingStorage) -> int:
    identity = storage.identify("/g")
    assert identity is not None
    return identity.changed_ns


def test_inode_numbers_are_never_used_again_where_that_was_asked_for() -> None:
    storage = CrashingStorage(reuse_inodes=False)
    numbers = set()
    for _ in range(5):
        numbers.add(storage.create("/f").identity().inode)
        storage.unlink("/f")
    assert len(numbers) == 5


def test_a_file_is_not_on_disk_before_the_one_whose_inode_it_got_is_gone() -> None:
    for seed in SEEDS:
        storage = CrashingStorage()
        durable_file(storage, "/f", b"old")
        storage.unlink("/f")
        storage.create("/g").close()
        found = storage.crash(seed)
        assert set(found.files()) != {"/f", "/g"}
        numbers = [identity.inode for path in found.files() if (identity := found.identify(path)) is not None]
        fresh = found.create("/new").identity().inode
        assert fresh not in numbers


def test_changes_of_one_tick_share_a_time_of_change() -> None:
    storage = CrashingStorage(changes_per_tick=1000)
    file = storage.create("/f")
    before = file.identity().changed_ns
    file.write(b"x", 0)
    assert file.identity().changed_ns == before


# -- power


def test_the_same_seed_finds_the_same_machine() -> None:
    def run(seed: int) -> dict[str, bytes]:
        storage = CrashingStorage()
        durable_file(storage, "/f", b"x" * 10_000)
        for number in range(20):
            storage.create(f"/{number}").write(bytes([number]) * 6000, 0)
        storage.open_update("/f").write(b"y" * 9000, 500)
        return storage.crash(seed).files()

    assert run(5) == run(5)
    assert len({str(run(seed)) for seed in range(20)}) > 10


def test_without_power_every_call_of_every_thread_raises() -> None:
    storage = CrashingStorage()
    file = storage.create("/f")
    storage.power.at_call(2)
    file.write(b"a", 0)
    with pytest.raises(PowerCut, match="write /f"):
        file.write(b"b", 1)
    met: list[BaseException] = []

    def look() -> None:
        try:
            storage.identify("/f")
        except PowerCut as cut:
            met.append(cut)

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert len(met) == 1
    for call in (
        lambda: file.read(0, 1),
        file.identity,
        file.sync_data,
        file.try_lock,
        lambda: storage.open_read("/f"),
    ):
        with pytest.raises(PowerCut):
            call()
    file.close()


def test_what_a_crash_finds_is_alive_and_the_machine_before_it_dead() -> None:
    storage = CrashingStorage()
    durable_file(storage, "/f", b"x")
    held = storage.open_update("/f")
    assert held.try_lock()
    found = storage.crash(1)
    with pytest.raises(PowerCut):
        storage.list_directory("/")
    assert found.open_update("/f").try_lock()
    assert found.crash(2).files() == {"/f": b"x"}


def test_calls_that_change_something_are_counted_by_kind() -> None:
    storage = CrashingStorage()
    durable_file(storage, "/f", b"x")
    storage.open_read("/f").read(0, 1)
    storage.open_write("/f").close()
    storage.identify("/f")
    assert storage.power.calls == 4
    assert storage.power.counts == {"create": 1, "write": 1, "sync_data": 1, "sync_directory": 1}
    assert storage.power.last_call == ("sync_directory", "/")
    storage.open_write("/g").close()
    assert storage.power.counts["open_write"] == 1


def test_a_descriptor_that_is_forgotten_is_closed_and_gives_its_lock_back() -> None:
    storage = CrashingStorage()
    file = storage.create("/f")
    assert file.try_lock()
    other = storage.open_update("/f")
    assert not other.try_lock()
    del file
    gc.collect()
    assert other.try_lock()
    other.close()
    with pytest.raises(StorageError, match="bad file descriptor"):
        other.read(0, 1)


# -- faults


def test_a_call_is_refused_by_number_kind_and_path() -> None:
    storage = CrashingStorage()
    storage.power.fail("write", call=2, path="/f*")
    f, g = storage.create("/f"), storage.create("/g")
    f.write(b"1", 0)
    g.write(b"1", 0)
    with pytest.raises(StorageError, match="injected"):
        f.write(b"2", 1)
    f.write(b"3", 1)
    assert f.read(0, 9) == b"13"
    storage.power.fail(error=StorageFullError)
    with pytest.raises(StorageFullError):
        storage.make_directory("/d")
    storage.make_directory("/d")


@pytest.mark.parametrize("whole", [False, True], ids=["fdatasync", "syncfs"])
def test_after_a_failed_sync_the_next_one_lies_until_the_page_is_written_again(whole: bool) -> None:
    storage = CrashingStorage()
    durable_file(storage, "/f", b"." * 9000)
    file = storage.open_update("/f")
    file.write(b"lost", 0)
    file.write(b"lost", 5000)
    sync = storage.open_directory("/").sync_file_system if whole else file.sync_data
    storage.power.fail_sync()
    with pytest.raises(StorageError):
        sync()
    sync()
    assert file.read(0, 4) == file.read(5000, 4) == b"lost"
    file.write(b"!", 5004)
    sync()
    found = storage.crash(0).files()["/f"]
    assert found[:6] == b"......"
    assert found[5000:5006] == b"lost!."


def test_a_drive_that_lies_about_syncs_loses_what_it_said_was_safe() -> None:
    def prepare(storage: CrashingStorage) -> None:
        storage.power.ignores_sync = lambda kind, path: kind == "sync_data"
        durable_file(storage, "/f", b"x")

    assert b"" in outcomes(prepare)


def test_a_full_disk_takes_what_fits_and_gives_room_back_with_the_last_descriptor() -> None:
    storage = CrashingStorage(capacity_bytes=10)
    file = storage.create("/f")
    with pytest.raises(StorageFullError, match="only 10 of 12"):
        file.write(b"x" * 12, 0)
    assert file.read(0, 20) == b"x" * 10
    file.write(b"y" * 5, 0)
    assert storage.free_bytes("/") == 0
    with pytest.raises(StorageFullError):
        storage.allocate("/g", 1)
    storage.unlink("/f")
    assert storage.free_bytes("/") == 0
    file.close()
    assert storage.free_bytes("/") == 10


def test_a_flipped_bit_stays_flipped() -> None:
    storage = CrashingStorage()
    durable_file(storage, "/f", b"abc")
    storage.flip("/f", 1, 0)
    assert storage.open_read("/f").read(0, 3) == b"acc"
    assert storage.crash(0).files()["/f"] == b"acc"


# -- what a file system refuses


def test_refusals_are_typed_as_those_of_the_real_disk() -> None:
    storage = CrashingStorage()
    storage.make_directory("/d")
    storage.create("/d/f").close()
    for refused in (
        lambda: storage.unlink("/d"),
        lambda: storage.open_update("/d"),
        lambda: storage.remove_directory("/d"),
        lambda: storage.list_directory("/d/f"),
        lambda: storage.open_read("/d/f/g"),
        lambda: storage.rename("/d/f", "/d"),
        lambda: storage.open_read("/d").read(0, 1),
        lambda: storage.open_read("/d/f").write(b"x", 0),
    ):
        with pytest.raises(StorageError):
            refused()
    for missing in (lambda: storage.open_read("/no"), lambda: storage.create("/no/f"), lambda: storage.unlink("/no")):
        with pytest.raises(FileNotFoundError, match="/no"):
            missing()
    assert storage.identify("/d/f/g") is None
    assert not storage.is_writable("/no")
