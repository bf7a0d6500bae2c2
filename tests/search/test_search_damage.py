"""A damaged or missing part of the index is noted, scanned instead and built again; nothing that is read writes."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from search_support import SEARCHING, all_ids, index_directories, index_files, reopened
from support import T0_US, flip

from memstore import CorruptionError, MemStore, ReadOnlyError, StorageError, StoreClosedError
from memstore.search.omissions import NAMED_MAX, Omissions
from memstore.search.state import IndexState
from memstore.store import repair
from memstore.timestamps import US_PER_DAY, iso_text

RECORDS = 60


@pytest.fixture(scope="module")
def made(tmp_path_factory: Any) -> Path:
    """A store of three months with an index, some of it deleted again."""
    root: Path = tmp_path_factory.mktemp("made") / "store"
    with MemStore(root, settings=SEARCHING, durability="os") as store:
        ids = store.append_many(
            {"agent_id": f"a{n % 3}", "content": f"word {n}", "timestamp_utc": iso_text(T0_US - n * US_PER_DAY)}
            for n in range(RECORDS + 3)
        )
        store.drain()
        store.index()
        store.forget(ids[::21])
        store.index()
    return root


@pytest.fixture
def root(made: Path, tmp_path: Any) -> str:
    return str(shutil.copytree(made, tmp_path / "store"))


def kinds(root: str) -> dict[str, str]:
    """A file of each kind, by its ending."""
    return {
        os.path.basename(path).partition(".")[2] or os.path.basename(path): path
        for path in index_files(root)
        if not os.path.basename(path).startswith(".")
    }


def flip_somewhere(path: str) -> None:
    flip(path, random.Random(path.rpartition(".")[2]).randrange(os.path.getsize(path)))


HARMS: dict[str, Callable[[str], None]] = {
    "flipped": flip_somewhere,
    "cut": lambda path: os.truncate(path, os.path.getsize(path) // 2),
    "emptied": lambda path: os.truncate(path, 0),
    "gone": os.unlink,
}


@pytest.mark.parametrize("harm", HARMS)
def test_every_kind_of_file_may_be_damaged(root: str, tmp_path: Any, harm: str) -> None:
    for kind, path in kinds(root).items():
        copy = str(tmp_path / f"{harm}-{kind}")
        shutil.copytree(root, copy)
        HARMS[harm](path.replace(root, copy))
        before = sorted(index_files(copy))
        with MemStore(copy, settings=SEARCHING, read_only=True) as reader:
            found = reader.search("word", facets=["agent"])
            assert found.total == RECORDS, kind
            assert sum(each.count for each in found.facets["agent"]) == RECORDS, kind
            assert len(all_ids(reader, "word", limit=50)) == RECORDS, kind
            assert found.notes, kind
        assert sorted(index_files(copy)) == before
        with MemStore(copy, settings=SEARCHING, durability="os") as store:
            assert store.search("word").total == RECORDS, kind
            assert store.index_status()["stale"], kind
            assert store.index()["built"], kind
            found = store.search("word")
            assert (found.total, found.notes, found.scanned.indexed) == (RECORDS, (), RECORDS), kind
        shutil.rmtree(copy)


def test_indexer_finds_damage_before_it_is_merged_into_files_that_verify(root: str) -> None:
    (path,) = [path for kind, path in kinds(root).items() if kind == "fast"]
    month = os.path.basename(os.path.dirname(path)).partition(".")[0]
    flip_somewhere(path)
    with MemStore(root, settings=SEARCHING, durability="os") as store:
        store.append_many(
            [{"agent_id": "new", "content": "word", "timestamp_utc": f"{month[:4]}-{month[4:]}-02T00:00:00Z"}]
        )
        assert store.index()["built"] == [month]
        assert len(all_ids(store, "word", limit=50)) == RECORDS + 1


def test_deletions_of_a_commit_that_a_power_cut_took_do_not_stand_in_the_way(root: str, tmp_path: Any) -> None:
    before = shutil.copytree(root, tmp_path / "before")
    with MemStore(root, settings=SEARCHING, durability="os") as store:
        gone = all_ids(store, "word", limit=50)[5]
        store.forget(gone)
        store.index()
    added = {os.path.basename(path) for path in index_files(root) if path.endswith(".del")}
    for path in index_files(root):  # the names of the new deletions are on the disk, and nothing else of that commit
        if path.endswith(".del"):
            shutil.copy(path, os.path.join(before, os.path.relpath(path, root)))
    with MemStore(before, settings=SEARCHING, durability="os") as store:
        store.forget(gone)
        report = store.index()
        assert report["built"] == [], "a month was built again"
        assert gone not in all_ids(store, "word", limit=100)
    assert added


def test_indexer_goes_on_with_other_months_where_one_cannot_be_opened(root: str) -> None:
    for path in kinds(root).values():
        if path.endswith("meta.json"):
            Path(path).write_text("{")
    with MemStore(root, settings=SEARCHING, durability="os") as store:
        store.append(agent_id="new", content="word")
        for day in ("2024-12-02", "2025-01-02", "2024-11-20"):
            store.append_many([{"agent_id": "new", "content": "word", "timestamp_utc": f"{day}T00:00:00Z"}])
        assert store.index()["finished"]
        assert len(all_ids(store, "word", limit=50)) == RECORDS + 4
        assert store.search("word").notes == ()


def test_directory_that_is_gone_is_built_again_in_the_background(root: str) -> None:
    gone = index_directories(root)[0]
    shutil.rmtree(os.path.join(root, "memory", "cache", "search", gone))
    with MemStore(root, settings={**SEARCHING, "search.background": True}, durability="os") as store:
        found = store.search("word")
        assert found.total == RECORDS
        assert any(gone[:6] in note for note in found.notes)
        thread = store._finder._opened()._thread
        assert thread is not None
        thread.join()
        found = store.search("word")
        assert (found.total, found.notes, found.scanned.indexed) == (RECORDS, (), RECORDS)


def test_partition_that_fails_while_it_is_searched_is_left_out(root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from memstore.search.collect import HitCollector
    from memstore.search.foreign import IndexFailedError

    collect, calls = HitCollector.collect, []

    def fail_once(*arguments: Any) -> None:
        calls.append(1)
        if len(calls) == 1:
            raise IndexFailedError("a segment cannot be read")
        collect(*arguments)

    with MemStore(root, settings=SEARCHING, durability="os") as store:
        monkeypatch.setattr(HitCollector, "collect", fail_once)
        found = store.search("word")
        assert found.total == RECORDS
        assert len(found.scanned.stale) == 1
        store.index()
        assert store.search("word").scanned.stale == ()


@pytest.mark.parametrize("settings", [{"search.language": "german"}, {"search.context_keys": ["x"]}])
def test_another_language_or_other_keys_build_the_index_anew(root: str, settings: dict[str, Any]) -> None:
    before = index_directories(root)
    with MemStore(root, settings={**SEARCHING, **settings}, durability="os") as store:
        assert store.search("word").total == RECORDS
        store.index()
        assert store.search("word").scanned.indexed == RECORDS
        assert not set(before) & set(index_directories(root))


def everything_below(root: str) -> dict[str, tuple[int, bytes]]:
    found = {}
    for directory, _, names in os.walk(root):
        for name in names:
            path = os.path.join(directory, name)
            found[path] = (os.stat(path).st_mtime_ns, Path(path).read_bytes())
    return found


@pytest.mark.parametrize("indexed", [True, False])
def test_reading_store_is_searched_without_a_write(root: str, indexed: bool) -> None:
    if not indexed:
        shutil.rmtree(os.path.join(root, "memory", "cache"))
        shutil.rmtree(os.path.join(root, "consumers"))
    before = everything_below(root)
    with MemStore(root, settings={**SEARCHING, "search.background": True}, read_only=True) as store:
        assert store.search("word", facets=["agent"]).total == RECORDS
        memory_id = store.search("word").records[0].memory_id
        assert store.similar(memory_id).total >= 0
        assert store.aggregate("word", by=["agent"]).total == RECORDS
        assert store.index_status()["ready"] is indexed
        with pytest.raises(ReadOnlyError):
            store.index()
    assert everything_below(root) == before


def test_closed_store_is_not_searched_and_closing_ends_what_goes_on(root: str) -> None:
    store = MemStore(root, settings={**SEARCHING, "search.background": True}, durability="os")
    store.append_many({"agent_id": "new", "content": "word " * 50} for _ in range(3000))
    store.search("word")
    thread = store._finder._opened()._thread
    store.close()
    assert thread is None or not thread.is_alive()
    for ask in (store.search, store.aggregate, store.index, store.index_status):
        with pytest.raises(StoreClosedError):
            ask()
    with MemStore(root, settings=SEARCHING, read_only=True) as reader:
        assert reader.search("word").total == RECORDS + 3000


def test_forked_child_searches_and_appends_while_its_parent_goes_on(root: str) -> None:
    with MemStore(root, settings=SEARCHING, durability="os") as store:
        store.append(agent_id="parent", content="word")
        assert store.search("word").total == RECORDS + 1
        read_end, write_end = os.pipe()
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                store.append(agent_id="child", content="word")
                totals = [store.search("word").total, store.search("", agent="child").total]
                code = 0 if totals == [RECORDS + 2, 1] else 2
                os.write(write_end, b".")
            finally:
                os._exit(code)
        assert os.read(read_end, 1) == b"."
        assert store.search("word").total == RECORDS + 2
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        assert store.index()["finished"]
        assert store.search("word").total == RECORDS + 2
        os.close(read_end)
        os.close(write_end)


def test_child_that_was_forked_from_an_indexing_process_does_not_hold_it_up(root: str) -> None:
    with MemStore(root, settings=SEARCHING, durability="os") as store:
        children: list[int] = []
        read_end, write_end = os.pipe()

        def fork_once(_done: int, _total: int) -> None:
            if not children:
                children.append(os.fork())
                if children[0] == 0:
                    os.close(write_end)
                    os.read(read_end, 1)  # until the parent is done
                    os._exit(0)

        store.index(rebuild=True, progress=fork_once)
        assert children
        before = index_directories(root)
        store.append_many([{"agent_id": "new", "content": "word", "timestamp_utc": iso_text(T0_US)}])
        assert store.index()["built"] == []
        assert index_directories(root) == before
        assert store.search("word").total == RECORDS + 1
        os.close(write_end)
        assert os.waitpid(children[0], 0)[1] == 0
        os.close(read_end)


def test_two_indexers_exclude_each_other(root: str) -> None:
    with MemStore(root, settings=SEARCHING, durability="os") as store:
        other = reopened(store)
        results: list[Any] = []

        def index_too(_done: int, _total: int) -> None:
            if not results:
                thread = threading.Thread(target=lambda: results.append(other._finder.index()))
                thread.start()
                thread.join()

        store.index(rebuild=True, progress=index_too)
        assert results == [None]
        other.close()


def test_a_store_that_nobody_searches_does_not_pay_for_it(tmp_path: Any) -> None:
    """Neither the import of tantivy nor a lane that waits."""
    script = (
        "import sys; from memstore import MemStore\n"
        "with MemStore(sys.argv[1], settings={'storage.ballast_bytes': 0}) as store:\n"
        "    memory_id = store.append(agent_id='a', content='word')\n"
        "    store.drain(); store.forget([memory_id]); store.append(agent_id='b', content='x'); store.drain()\n"
        "    store.erase(agent='b')\n"
        "print('tantivy' in sys.modules)"
    )
    root = str(tmp_path / "store")
    told = subprocess.run([sys.executable, "-c", script, root], capture_output=True, text=True, check=True)
    assert told.stdout.split() == ["False"]
    assert os.listdir(os.path.join(root, "lanes")) == []
    assert not os.path.exists(os.path.join(root, "memory", "cache", "search"))


@pytest.mark.parametrize("target", ["day file", "MANIFEST"])
def test_what_a_repair_brings_back_is_found_though_the_index_was_built_without_it(root: str, target: str) -> None:
    with MemStore(root, settings=SEARCHING) as store:
        ids = all_ids(store, "word")
    path = next(
        Path(root).glob("memory/shards/*/a0/*.jsonl" if target == "day file" else "memory/shards/*/a0/MANIFEST")
    )
    flip(str(path), os.path.getsize(path) // 2)
    with MemStore(root, settings=SEARCHING) as store:
        store.index(rebuild=True)
        assert len(all_ids(store, "word")) < len(ids)
        assert store.search("word").notes
    assert repair(root).is_clean
    with MemStore(root, settings=SEARCHING) as store:
        assert all_ids(store, "word") == ids
        store.index()
        assert all_ids(store, "word") == ids
        assert store.search("word").notes == ()
        assert store.index_status()["lacks"] == 0
        assert store.index_status()["ready"]


def day_file(root: str) -> str:
    return str(next(Path(root).glob("memory/shards/*/a0/*.jsonl")))


def without_index(root: str) -> None:
    shutil.rmtree(os.path.join(root, "memory", "cache"))
    shutil.rmtree(os.path.join(root, "consumers"))


def test_what_a_scan_had_to_leave_out_is_told_once_with_its_place(root: str) -> None:
    without_index(root)
    path = day_file(root)
    flip(path, os.path.getsize(path) // 2)
    with MemStore(root, settings=SEARCHING, read_only=True) as reader:
        found = reader.search("word")
        assert found.total < RECORDS
        (note,) = [each for each in found.notes if path in each]
        assert f"{RECORDS - found.total} record" in note
        assert f"bytes 0 to {os.path.getsize(path)} are damaged" in note
        assert [each for each in reader.aggregate("word", by=["agent"]).notes if path in each] == [note]
        assert not any(path in each for each in reader.search("word", agent="a1").notes)


def test_damage_that_several_scans_meet_is_told_once(root: str) -> None:
    path = str(next(Path(root).glob("memory/shards/*/a0/MANIFEST")))
    flip(path, os.path.getsize(path) // 2)
    for harmed in index_files(root):
        if harmed.endswith(".term"):
            os.truncate(harmed, 0)
    with MemStore(root, settings=SEARCHING, read_only=True) as reader:
        found = reader.search("word")
        assert len(found.scanned.stale) > 1
        assert found.total < RECORDS
        told = [each for each in found.notes if path in each]  # a line in the middle, and what was listed behind it
        assert told
        assert sorted(set(told)) == sorted(told)


def test_of_very_much_damage_a_part_is_named_and_the_rest_is_counted() -> None:
    left_out = Omissions()
    for number in range(NAMED_MAX + 7):
        for _ in range(2):
            left_out.add(CorruptionError("file", offset_bytes=number, length_bytes=1, reason="flipped", records=1))
    left_out.add(StorageError("the disk refused"))
    told = left_out.notes()
    assert len(told) == NAMED_MAX + 1
    assert told[0] == "left out: file: bytes 0 to 1 are damaged (flipped); 1 record affected"
    assert told[-1].startswith("left out: 8 more damaged ranges")


def test_an_index_that_was_built_without_what_was_damaged_says_so_until_it_is_built_anew(root: str) -> None:
    path = day_file(root)
    intact = Path(path).read_bytes()
    flip(path, os.path.getsize(path) // 2)
    with MemStore(root, settings=SEARCHING) as store:
        assert store.search("word").notes == ()  # the index was built of what was whole
        store.index(rebuild=True)
    with MemStore(root, settings=SEARCHING) as store:
        found = store.search("word")
        assert (found.total, found.scanned.scanned) == (RECORDS - 1, 0)
        (note,) = found.notes
        assert note.startswith("1 damaged piece of ")
        assert "`memstore check --full`" in note
        assert store.aggregate("word", by=["agent"]).notes == (note,)
        status = store.index_status()
        assert status["lacks"] == 1
        assert [each["lacks"] for each in status["partitions"]].count(1) == 1
        month = next(each["month"] for each in status["partitions"] if each["lacks"])
        at = (
            iso_text(T0_US)
            if iso_text(T0_US)[:7].replace("-", "") == month
            else f"{month[:4]}-{month[4:]}-02T00:00:00Z"
        )
        store.append_many([{"agent_id": "new", "content": "other", "timestamp_utc": at}])
        store.index()
        assert store.index_status()["lacks"] == 1  # more was put into that partition
        Path(path).write_bytes(intact)
        store.index(rebuild=[month])
        found = store.search("word")
        assert (found.total, found.notes) == (RECORDS, ())
        assert store.index_status()["lacks"] == 0


def test_an_agents_records_that_are_damaged_when_they_are_indexed_again_are_told_of(root: str) -> None:
    with MemStore(root, settings=SEARCHING) as store:
        store.undelete(agent="a0")
        path = day_file(root)
        flip(path, os.path.getsize(path) // 2)
        store.index()
        assert store.index_status()["lacks"] == 1
        assert store.index_status()["stale"] == []
        assert any(note.startswith("1 damaged piece of ") for note in store.search("word").notes)


def test_months_that_only_a_damaged_manifest_names_are_told_of(root: str) -> None:
    path = str(next(Path(root).glob("memory/shards/*/a0/MANIFEST")))
    flip(path, os.path.getsize(path) // 2)
    with MemStore(root, settings=SEARCHING) as store:
        store.index(rebuild=True)
        found = store.search("word")
        assert found.total < RECORDS
        assert any("when the months were listed" in note for note in found.notes)
        assert store.index_status()["lacks"]


def test_state_of_an_older_index_is_read_and_says_that_nothing_is_lacking(root: str) -> None:
    state = Path(root, "consumers", "search.json")
    assert b'"lacks":0' in state.read_bytes()
    entry = {"directory": "202501.1", "files": {}, "records": 1, "deleted": False, "opstamp": 1, "ahead": False}
    assert msgspec.convert({"partitions": {"202501": entry}}, IndexState).partitions["202501"].lacks == 0
