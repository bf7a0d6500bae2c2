"""A store of an older version becomes one of the current, whatever stops it on the way; a newer one is refused."""

import shutil
from pathlib import Path

import pytest
from support import make_engine, put

from memstore import MemStore, StorageError, VersionError, restore
from memstore.format.checked import decode_checked, encode_checked
from memstore.format.version import FORMAT_VERSION
from memstore.fs.local import LocalStorage
from memstore.testing.faulty import CHANGING_KINDS, FaultyStorage

HERE = Path(__file__).parent
VERSIONS = sorted(p.name for p in HERE.iterdir() if (p / "expected.ndjson").exists())
AGENTS = ["bot", "Agent Smith/7"]
QUIET = {"storage.ballast_bytes": 0, "merging.background": False, "storage.lifecycle.reserve_bytes": 0}


@pytest.fixture(params=VERSIONS)
def golden(request, tmp_path):
    """A copy of a golden store, and the lines that it holds."""
    shutil.copytree(HERE / request.param / "store", tmp_path / "store")
    return tmp_path / "store", (HERE / request.param / "expected.ndjson").read_bytes().splitlines()


def everything(root):
    with MemStore(root, read_only=True) as store:
        return [line for agent in AGENTS for line in store.agent(agent).lines()]


def version_of(root):
    return decode_checked((root / "STORE.json").read_bytes().rstrip(b"\n"))[1]["version"]


def test_a_first_write_that_is_cut_off_anywhere_leaves_every_record_and_an_old_or_a_new_store(golden, tmp_path):
    root, expected = golden
    first = version_of(root)
    storage = FaultyStorage(LocalStorage())
    seen = set()
    number = 0
    while True:
        copy = tmp_path / f"copy{number}"
        shutil.copytree(root, copy)
        fault = storage.fail(*CHANGING_KINDS, after=number)
        try:
            engine = make_engine(copy, storage)
            put(engine, "new", "x")
            engine.drain(timeout_s=5)
            engine.close()
        except StorageError:
            pass
        struck = fault.times == 0
        storage.disarm()
        assert everything(copy) == expected, number
        seen.add(version_of(copy))
        with MemStore(copy, settings=QUIET) as store:  # what was cut off goes on
            store.append(agent_id="new", content="y")
            store.drain()
        assert everything(copy) == expected, number
        assert version_of(copy) == FORMAT_VERSION
        shutil.rmtree(copy)
        number += 1
        if not struck:
            break
    assert number > 10
    assert seen == {first, FORMAT_VERSION}


def test_an_old_store_is_backed_up_and_restored_byte_for_byte(golden, tmp_path):
    root, expected = golden
    with MemStore(root, settings=QUIET) as store:
        point = store.backup(tmp_path / "backups")
        assert store.verify_backup(tmp_path / "backups", compare=True).is_good
    assert everything(point.path) == expected
    assert restore(tmp_path / "backups", tmp_path / "restored").is_complete
    assert everything(tmp_path / "restored") == expected
    with MemStore(tmp_path / "restored", settings=QUIET) as store:
        store.drain()
    assert everything(tmp_path / "restored") == expected


@pytest.mark.parametrize("name", ["lane", "MANIFEST"])
def test_a_file_of_a_newer_version_in_a_store_is_refused_by_name(golden, name):
    root, _ = golden
    pattern = "lanes/*.lane" if name == "lane" else "memory/shards/*/bot/MANIFEST"
    path = next(root.glob(pattern))
    head, _, rest = path.read_bytes().partition(b"\n")
    kind, value = decode_checked(head)
    path.write_bytes(encode_checked(kind, {**value, "version": FORMAT_VERSION + 1}) + rest)
    with MemStore(root, read_only=True) as store, pytest.raises(VersionError, match="upgrade memstore") as refused:
        list(store.agent("bot").lines())
    assert path.name in str(refused.value)


def test_a_point_of_a_store_of_a_newer_version_is_not_restored(golden, tmp_path):
    root, _ = golden
    with MemStore(root, settings=QUIET) as store:
        point = store.backup(tmp_path / "backups")
    path = Path(point.path) / "BACKUP.json"
    head, _, rest = path.read_bytes().partition(b"\n")
    kind, value = decode_checked(head)
    path.write_bytes(encode_checked(kind, {**value, "format": FORMAT_VERSION + 1}) + rest)
    with pytest.raises(VersionError, match="upgrade memstore"):
        restore(tmp_path / "backups", tmp_path / "restored")
    assert not (tmp_path / "restored").exists()
