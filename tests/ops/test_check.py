"""A check finds whatever is not as it was written, names its place, and finds nothing where all is well."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import threading
from collections.abc import Callable
from typing import Any

import orjson
import pytest
from rich_store import AGENTS, SETTINGS, files_of, open_rich
from support import T0_US, files_named, flip, lane_files, make_engine, put_many

from memstore import AsyncMemStore, CorruptionError, MemStore, NotFoundError, VersionError
from memstore.clock import WallClock
from memstore.codec.checksum import checksum
from memstore.format.checked import decode_checked, encode_checked
from memstore.format.lane import Slice, encode_commit
from memstore.format.lines import encode_line
from memstore.format.names import StorePaths, tier_of
from memstore.fs.local import LocalStorage
from memstore.ops.check import check_store
from memstore.ops.finding import Finding
from memstore.ops.ids_once import twice
from memstore.ops.reading_files import IdPiece, IdRun
from memstore.ops.report import FINDINGS_MAX, CheckReport
from memstore.testing.faulty import FaultyStorage
from memstore.timestamps import day_start_us, iso_and_id_stamp

Look = Callable[..., CheckReport]
SMALL_LANES = {"writing.commit_bytes_max": 4096, "writing.lane_bytes_max": 4096}


def damage(report: CheckReport) -> list[Finding]:
    return [finding for finding in report.findings if finding.severity == "damage"]


def only(report: CheckReport) -> Finding:
    (finding,) = damage(report)
    return finding


# -- nothing to find


@pytest.mark.parametrize("full", [False, True])
def test_a_store_with_a_file_of_every_kind_is_clean(look: Look, full: bool) -> None:
    report = look(full=full)
    assert report.is_clean
    assert report.findings == []
    assert (report.checked.agents, report.checked.lanes) == (2, 2)


def test_what_a_power_cut_left_of_an_agent_that_is_elsewhere_now_is_no_damage(look: Look, rich: str) -> None:
    with open_rich(rich) as store:
        store.add_shard()
    shards = os.path.join(rich, "memory", "shards")
    (home,) = [shard for shard in os.listdir(shards) if os.path.isdir(os.path.join(shards, shard, "a"))]
    (other,) = {"shard_000", "shard_001"} - {home}
    os.mkdir(os.path.join(shards, other, "a"))
    assert damage(look()) == []
    manifest = os.path.join(shards, home, "a", "MANIFEST")
    os.rename(manifest, os.path.join(rich, "MANIFEST"))
    assert {os.path.basename(os.path.dirname(os.path.dirname(f.path))) for f in damage(look())} == {home, other}


def test_an_empty_manifest_beside_nothing_but_an_archive_is_damage(look: Look, rich: str) -> None:
    (manifest,) = [path for path in files_named(rich, "MANIFEST") if "/a/" in path]
    for name in os.listdir(os.path.dirname(manifest)):
        path = os.path.join(os.path.dirname(manifest), name)
        shutil.rmtree(path) if os.path.isdir(path) else os.unlink(path)
    with open(manifest, "wb"):
        pass
    assert only(look()).path == manifest


def test_a_full_check_has_read_every_record_and_a_quick_one_counts_them(look: Look, rich: str, lines: Any) -> None:
    with open_rich(rich, read_only=True) as store:
        hidden = sum(len(store._engine.builder.manifest(agent).hidden.ids) for agent in AGENTS)
        trash = sum(
            each.packed.records for agent in AGENTS for each in store._engine.builder.manifest(agent).trash.values()
        )
    there = sum(map(len, lines.values())) + hidden
    assert look(full=False).checked.records == there
    assert look().checked.records == there + trash


def test_a_check_changes_nothing_and_takes_no_lock(look: Look, rich: str) -> None:
    def state() -> dict[str, tuple[int, int]]:
        found = {}
        for directory, _, names in os.walk(rich):
            for path in (directory, *(os.path.join(directory, name) for name in names)):
                status = os.stat(path)
                found[path] = (status.st_mtime_ns, status.st_size)
        return found

    before = state()
    assert look().is_clean
    assert state() == before


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_golden_stores_are_clean(version: str, look: Look) -> None:
    root = os.path.join(os.path.dirname(__file__), "..", "golden", version, "store")
    report = look(os.path.abspath(root))
    assert report.is_clean
    assert {finding.kind for finding in report.findings} <= {"unknown_name"}


def test_an_empty_store_is_clean_and_where_there_is_none_that_is_said(tmp_path: Any, look: Look) -> None:
    root = str(tmp_path / "other")
    MemStore(root).close()
    assert look(root).is_clean
    with pytest.raises(NotFoundError):
        look(str(tmp_path / "nothing"))


# -- every kind of file, every kind of damage

KINDS = {
    "STORE.json": "STORE.json",
    "HOLDS.json": "HOLDS.json",
    "LIFECYCLE.json": "LIFECYCLE.json",
    "FORGOTTEN": "FORGOTTEN",
    "reads": "/reads/",
    "lane": ".lane",
    "MANIFEST": "MANIFEST",
    "hot": ".jsonl",
    "warm": ".zst",
    "cold": ".zst",
    "trash": "/.trash/",
}


def of_kind(root: str, kind: str) -> list[str]:
    found = []
    for path in files_of(root):
        in_trash = "/.trash/" in path
        tier = tier_of(os.path.basename(path))
        if (
            (tier is not None and kind == tier and not in_trash)
            or (kind == "trash" and in_trash)
            or (tier is None and KINDS[kind] in path.removeprefix(root))
        ):
            found.append(path)
    assert found, kind
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_a_flipped_bit_is_found_and_its_range_named(rich: str, look: Look, kind: str) -> None:
    chance = random.Random(kind)
    for path in of_kind(rich, kind):
        size = os.path.getsize(path)
        for _ in range(int(os.environ.get("CHECK_FLIPS", "8"))):
            offset, mask = chance.randrange(size), 1 << chance.randrange(8)
            flip(path, offset, mask)
            report = look()
            here = [finding for finding in report.findings if finding.path == path]
            assert any(each.offset_bytes <= offset <= each.offset_bytes + each.length_bytes for each in here) or (
                offset == size - 1  # the line break behind a whole line
            ), (path, offset, mask, [finding.sentence for finding in report.findings])
            flip(path, offset, mask)
    assert look().findings == []


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in ("FORGOTTEN", "lane", "reads")])
def test_a_cut_file_is_found(rich: str, look: Look, kind: str) -> None:
    chance = random.Random(kind)
    for path in of_kind(rich, kind):
        with open(path, "rb") as file:
            whole = file.read()
        os.truncate(path, chance.randrange(len(whole) - 1))
        report = look()
        assert damage(report), path
        assert any(
            finding.path == path or os.path.dirname(finding.path) == os.path.dirname(path) for finding in damage(report)
        )
        with open(path, "wb") as file:
            file.write(whole)


@pytest.mark.parametrize("kind", ["hot", "warm", "cold", "trash", "MANIFEST", "STORE.json"])
def test_a_missing_file_is_found(rich: str, look: Look, kind: str) -> None:
    for full in (False, True):
        path = of_kind(rich, kind)[0]
        os.rename(path, path + ".aside")
        report = look(full=full)
        assert any(finding.path == path for finding in damage(report)), report.findings
        os.rename(path + ".aside", path)


@pytest.mark.parametrize("kind", ["lane", "hot", "warm", "cold", "trash", "MANIFEST"])
def test_swapped_pages_are_found(rich: str, look: Look, kind: str) -> None:
    path = of_kind(rich, kind)[-1]
    with open(path, "r+b") as file:
        data = bytearray(file.read())
        third = len(data) // 3
        data[:third], data[third : 2 * third] = data[third : 2 * third], data[:third]
        file.seek(0)
        file.write(data)
    assert any(finding.path == path for finding in damage(look()))


@pytest.mark.parametrize("kind", ["warm", "cold"])
def test_a_file_of_another_agent_under_the_name_of_ones_own_is_found(rich: str, look: Look, kind: str) -> None:
    mine, *_, other = of_kind(rich, kind)
    shutil.copyfile(other, mine)
    assert any(finding.path == mine for finding in damage(look()))
    assert any(finding.path == mine for finding in damage(look(full=False)))


def test_what_crashes_leave_is_told_as_a_note_and_the_store_is_clean_all_the_same(rich: str, look: Look) -> None:
    home = os.path.dirname(files_named(rich, "a/MANIFEST")[0])
    for name in (".tmp-0123", "20250101-20250102.99.jsonl.zst", "notes.txt"):
        with open(os.path.join(home, name), "wb") as file:
            file.write(b"x")
    with open(os.path.join(rich, "lanes", ".tmp-1"), "wb"), open(os.path.join(rich, ".tmp-2"), "wb"):
        pass
    with open(files_named(rich, "a/20250206.12.jsonl")[0], "ab") as file:
        file.write(b'{"memory_id":"a_2025')
    with open(files_named(rich, "a/MANIFEST")[0], "ab") as file:
        file.write(b'{"merge":{"id":"00')
    for full in (False, True):
        report = look(full=full)
        assert report.is_clean
        assert sorted(finding.kind for finding in report.findings) == [
            "day_file", "manifest", "orphan", "temporary", "temporary", "temporary", "unknown_name",
        ]  # fmt: skip
        assert all(finding.repair for finding in report.findings if finding.kind != "unknown_name")


def test_an_end_of_a_lane_that_is_still_being_written_is_no_damage(rich: str, look: Look) -> None:
    opened = lane_files(rich)[-1]
    with open(opened, "ab") as file:
        file.write(b'{"commit":{"at":1')
    (finding,) = look().findings
    assert (finding.severity, finding.path) == ("note", opened)
    assert look().is_clean


def test_bytes_behind_a_day_file_that_no_lane_has_are_damage(rich: str, look: Look) -> None:
    """A MANIFEST that lost its last lines, at a line's end: nothing in it is torn."""
    path = files_named(rich, "a/MANIFEST")[0]
    with open(path, "rb") as file:
        whole = file.readlines()
    merges = [number for number, line in enumerate(whole) if line.startswith(b'{"merge"')]
    with open(path, "wb") as file:
        file.writelines(whole[: merges[-1]])
    for full in (False, True):
        assert "day_file" in {finding.kind for finding in damage(look(full=full))}


# -- what no checksum shows


def rewrite_manifest(root: str, agent: str, change: Callable[[str, Any], Any]) -> None:
    """Write lines of a MANIFEST anew, each with a checksum that agrees."""
    (path,) = files_named(root, f"{agent}/MANIFEST")
    with open(path, "rb") as file:
        decoded = [decode_checked(line) for line in file.read().splitlines()]
    with open(path, "wb") as file:
        file.writelines(encode_checked(kind, change(kind, value) or value) for kind, value in decoded)


def packed_of(value: Any) -> list[Any]:
    return [*value.get("to", ()), *value.get("packed", ())]


@pytest.mark.parametrize("what", ["records", "t_max", "kinds", "all lines", "repeats"])
def test_an_index_that_says_other_than_the_records_is_found(rich: str, look: Look, what: str) -> None:
    def change(_kind: str, value: Any) -> None:
        for packed in packed_of(value):
            if what == "records":
                packed["frames"][0][2] += 1
                packed["kinds"][0][2] += 1
            elif what == "t_max":
                packed["frames"][-1][4] += 1
            elif what == "kinds":
                packed["kinds"][0][0] = "GOAL"
            elif what == "all lines":
                packed["xxh3"] = "0" * 16
            else:
                packed["repeats"] = packed.get("repeats", 0) + 1

    rewrite_manifest(rich, "a", change)
    assert look(full=False).is_clean
    assert {"packed_file", "manifest"} & {finding.kind for finding in damage(look())}


def test_blocks_that_leave_a_gap_and_kinds_that_do_not_add_up_are_found_by_a_quick_check(rich: str, look: Look) -> None:
    def change(kind: str, value: Any) -> None:
        if kind == "merge":
            value["chunks"][0]["offset"] += 7
        for packed in packed_of(value):
            packed["kinds"][0][2] += 1

    rewrite_manifest(rich, "a", change)
    reasons = " ".join(finding.reason for finding in damage(look(full=False)))
    assert "no line says what stands at" in reasons
    assert "do not add up" in reasons


def write_lane(root: str, agent: str, lines: list[bytes]) -> str:
    """A lane of one commit with these lines, whatever they are, and checksums that agree."""
    source = lane_files(root)[0]
    with open(source, "rb") as file:
        header = file.readline()
    body = b"".join(lines)
    start = day_start_us("20250301")
    slices = [Slice(agent, "20250301", 0, len(body), len(lines), start, start + len(lines) - 1, checksum(body))]
    path = os.path.join(root, "lanes", "0000ffff-" + "ab" * 16 + ".lane")
    with open(path, "wb") as file:
        file.write(header + encode_commit(at=T0_US, body_bytes=len(body), slices=slices) + body)
    return path


def line_at(number: int, agent: str = "a", body: bytes = b'{"agent_id":"a","content":1}', iso: str = "") -> bytes:
    given, stamp = iso_and_id_stamp(day_start_us("20250301") + number)
    return encode_line(agent, iso or given, stamp, f"{number:016x}", body)


def test_lines_that_are_no_records_are_found_though_their_checksums_agree(rich: str, look: Look) -> None:
    good = line_at(0)
    for bad, words in (
        (line_at(1, iso="2025-03-01T00:00:00.000002Z"), "its time is not that of its id"),
        (line_at(1, body=b'{"agent_id":"a","tags":7}'), "no record"),
        (line_at(1, body=b'{"agent_id":"a","content":"\xff"}'), "no record"),
        (line_at(1, body=b'{"agent_id":"other"}'), "names another agent"),
        (line_at(0), "one id stands in it twice"),
        (b"{}\n", "not laid out"),
    ):
        path = write_lane(rich, "a", [good, bad])
        finding = only(look())
        assert finding.path == path
        assert finding.records == 2
        assert words in finding.reason, (bad, finding.reason)
        assert look(full=False).is_clean
        os.unlink(path)


def test_a_record_that_stands_in_two_places_is_found(rich: str, look: Look) -> None:
    """A lane under a name of its own, whose slices are those of another that is still there."""
    source = lane_files(rich)[0]
    copy = os.path.join(rich, "lanes", "0000fffe-" + "cd" * 16 + ".lane")
    shutil.copyfile(source, copy)
    found = damage(look())
    assert {finding.kind for finding in found} == {"record"}
    assert len(found) == 24  # of two agents that have a MANIFEST; those of the third are in lanes only
    assert all(finding.records == 1 for finding in found)
    assert look(full=False).is_clean


def test_ids_are_compared_in_parts_where_they_are_too_many() -> None:
    def piece(name: str, numbers: range) -> IdRun:
        data = b"".join(b"%08d\n" % number for number in numbers)
        return IdRun((IdPiece(name, 0, len(data), len(numbers), numbers[0], numbers[-1], lambda: data),))

    runs = [piece("one", range(100)), piece("two", range(90, 190)), piece("three", range(190, 200))]
    expected = sorted((("one", "two", b"%08d" % number)) for number in range(90, 100))
    for at_once in (1, 7, 1000):
        found = sorted(
            (first.path, second.path, needle)
            for first, second, needle in twice(runs, needle_bytes=8, on_bytes=lambda _: None, ids_at_once=at_once)
        )
        assert found == expected


def test_an_agent_in_a_shard_where_nobody_looks_for_it_is_found(rich: str, look: Look) -> None:
    home = os.path.dirname(files_named(rich, "a/MANIFEST")[0])
    other = home.replace("shard_001", "shard_000")
    os.rename(home, other)
    for full in (False, True):
        finding = only(look(full=full))
        assert (finding.kind, finding.path, finding.agent) == ("misplaced", other, "a")


def test_an_agent_of_which_only_the_archive_is_left_is_found(rich: str, look: Look) -> None:
    shutil.rmtree(os.path.dirname(files_named(rich, "a/MANIFEST")[0]))
    for full in (False, True):
        finding = only(look(full=full))
        assert (finding.kind, finding.agent) == ("manifest", "a")
        assert finding.path == os.path.join(rich, "memory", "archive", "a")


def test_a_store_without_its_first_file_is_checked_by_its_directories(rich: str, look: Look) -> None:
    os.unlink(os.path.join(rich, "STORE.json"))
    flip(files_named(rich, "a/20250202.11.jsonl")[0], 30)
    assert [finding.kind for finding in damage(look())] == ["store_file", "day_file"]


# -- what could not be looked at


def test_lanes_whose_directory_has_gone_are_damage_and_every_agent_is_looked_at(rich: str, look: Look) -> None:
    """It may have been empty, and left out by a tool that copies trees; nobody can tell."""
    before = look(rich, full=True)
    shutil.rmtree(StorePaths(rich).lanes)
    for full in (False, True):
        report = look(rich, full=full)
        found = [each for each in report.findings if each.path == StorePaths(rich).lanes]
        assert [(each.kind, each.severity, each.repair) for each in found] == [
            ("lane", "damage", "make it anew, empty")
        ]
        assert "leave out what is empty" in found[0].reason
        assert report.checked.agents == before.checked.agents
    with open_rich(rich, read_only=True) as store:
        with pytest.raises(CorruptionError, match="the directory is missing"):
            store.agent("hot").recent(1)
        assert store.agents()
        assert list(store.agent(store.agents()[0]).lines(on_damage="skip"))


def test_a_volume_that_is_not_mounted_is_told_and_the_rest_is_checked(rich: str, look: Look) -> None:
    shard = os.path.join(rich, "memory", "shards", "shard_001")
    os.rename(shard, shard + ".away")
    report = look()
    assert (report.damaged, report.unread) == (0, 1)
    assert not report.is_clean
    assert report.findings[0].path == shard
    os.rename(shard + ".away", shard)
    archive = os.path.join(rich, "memory", "archive")
    os.rename(archive, archive + ".away")
    report = look()
    assert report.damaged == 0
    assert {finding.kind for finding in report.findings} == {"archive"}


def test_a_file_that_the_disk_refuses_is_told_and_the_rest_is_checked(rich: str) -> None:
    storage = FaultyStorage(LocalStorage())
    storage.fail("read", path="*/20250202.11.jsonl", times=-1)
    storage.fail("open_read", path="*/HOLDS.json", times=-1)
    report = check_store(storage, StorePaths(rich), clock=WallClock(), full=True)
    found = sorted((finding.severity, finding.kind) for finding in report.findings)
    assert found == [("damage", "day_file"), ("damage", "day_file"), ("unread", "unknown_name")]


def test_a_store_of_a_newer_memstore_is_refused(rich: str, look: Look) -> None:
    path = os.path.join(rich, "STORE.json")
    with open(path, "rb") as file:
        kind, value = decode_checked(file.read().rstrip(b"\n"))  # type: ignore[misc]
    with open(path, "wb") as file:
        file.write(encode_checked(kind, {**value, "version": 99}))
    with pytest.raises(VersionError):
        look()


# -- being told


def test_progress_goes_up_to_its_total_and_findings_come_as_they_are_made(rich: str, look: Look) -> None:
    flip(files_named(rich, "a/20250202.11.jsonl")[0], 30)
    told: list[Finding] = []
    for full in (False, True):
        steps: list[tuple[int, int]] = []
        report = look(full=full, progress=lambda *step, to=steps: to.append(step), on_finding=told.append)
        assert report.findings == told
        told.clear()
        done = [step[0] for step in steps]
        assert done == sorted(done)
        assert len({total for _, total in steps}) == 1
        assert 0.9 < done[-1] / steps[-1][1] <= 1


def test_a_check_that_is_told_to_stop_says_that_it_is_not_finished(look: Look) -> None:
    calls = iter([False] * 5 + [True] * 1000)
    report = look(stop=lambda: next(calls))
    assert not report.finished
    assert not report.is_clean


def test_a_report_lists_a_bounded_number_of_findings_and_counts_them_all() -> None:
    report = CheckReport("/store", full=True)
    for number in range(FINDINGS_MAX + 5):
        report.add(Finding("lane", "damage", "/store/lanes/x", "why", number, 1, records=2))
    document = report.as_dict()
    assert len(document["findings"]) == FINDINGS_MAX
    assert document["findings_left_out"] == 5
    assert document["damaged"] == FINDINGS_MAX + 5
    assert document["records_affected"] == 2 * (FINDINGS_MAX + 5)
    assert orjson.dumps(document)


def test_the_store_and_the_asynchronous_store_check_themselves(rich: str) -> None:
    with open_rich(rich) as store:
        assert store.check().is_clean
        assert store.check(full=True).is_clean

    async def checked() -> bool:
        async with AsyncMemStore(rich, settings=SETTINGS, read_only=True) as store:
            return (await store.check(full=True)).is_clean

    assert asyncio.run(checked())


# -- beside others at work


def test_a_check_beside_writers_merges_and_movers_raises_no_false_alarm(rich: str, look: Look) -> None:
    stop = threading.Event()
    failures: list[BaseException] = []

    def write(number: int) -> None:
        with MemStore(rich, settings={**SETTINGS, **SMALL_LANES}) as store:
            for n in range(10_000):
                if stop.is_set():
                    return
                store.append_many(
                    {
                        "agent_id": agent,
                        "content": f"{number} {n} {i} " + "x" * 50,
                        "timestamp_utc": f"2025-0{1 + n % 2}-1{i}",
                    }
                    for agent in (*AGENTS, "new", f"new {n % 7}")
                    for i in range(5)
                )

    def keep() -> None:
        with open_rich(rich) as store:
            for n in range(10_000):
                if stop.is_set():
                    return
                if n % 3:
                    store.drain(timeout_s=0)
                else:
                    store.maintain(trust_clock=True)
                    store.forget([record.memory_id for record in store.agent("a").recent(2)])

    def guarded(work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001
            failures.append(error)

    works: list[Callable[[], None]] = [lambda: write(0), lambda: write(1), keep]
    threads = [threading.Thread(target=guarded, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    try:
        for number in range(12):
            report = look(full=number % 3 != 0)
            assert not damage(report), [finding.sentence for finding in report.findings]
            assert not report.unread, [finding.sentence for finding in report.findings]
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert not failures, failures
    assert look().is_clean


def test_damage_is_told_while_others_are_at_work(rich: str, look: Look) -> None:
    path = files_named(rich, "b-b~6be8c537e9dc1b21ec551ae58e520e98/20250101-20250104.3.jsonl.zst")[0]
    flip(path, 30)
    with MemStore(rich, settings=SETTINGS) as store:
        for number in range(5):
            store.append(agent_id="b.B", content=number)
            store.drain()
            assert path in {finding.path for finding in damage(look())}
            assert path not in {finding.path for finding in damage(look(full=False))}


def test_a_check_of_a_store_whose_merge_was_not_synced_reads_the_lanes(tmp_path: Any, look: Look) -> None:
    """A block that does not verify while its lanes stand is what a power cut leaves, and no record is lost."""
    root = str(tmp_path / "other")
    engine = make_engine(root)
    put_many(engine, [{"agent_id": "a", "content": n} for n in range(5)])
    (lane,) = lane_files(root)
    shutil.copyfile(lane, lane + ".aside")
    engine.close()
    with MemStore(root) as store:
        store.drain()
    os.rename(lane + ".aside", lane)
    (day_file,) = [path for path in files_of(root) if path.endswith(".jsonl")]
    flip(day_file, 20)
    report = look(root)
    assert report.is_clean
    assert [finding.kind for finding in report.findings] == ["day_file"]
    os.unlink(day_file)
    assert look(root).is_clean
