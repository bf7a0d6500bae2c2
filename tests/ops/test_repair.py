"""A repair saves what is intact, once and unchanged, says what is lost, deletes nothing, and leaves a clean store."""

from __future__ import annotations

import itertools
import json
import os
import random
import shutil
import threading
from collections.abc import Callable
from typing import Any

import pytest
from lifecycle_support import LIVELY, agent_files, at, iso
from rich_store import AGENTS, SETTINGS, clock_of_rich_store, files_of, open_rich
from support import QUIET, files_named, flip, lane_files
from test_check import KINDS, damage, of_kind

from memstore import HeldError, MemStore, NotFoundError
from memstore.clock import ManualClock
from memstore.errors import CorruptionError, StorageFullError, UsageError
from memstore.format.checked import decode_checked
from memstore.format.names import StorePaths
from memstore.fs.local import LocalStorage
from memstore.ops.repair.bit_search import find_flip, find_flip_in_line
from memstore.ops.repair.mend_lines import mended_lines
from memstore.ops.repair.repair_report import RepairReport
from memstore.ops.repair.repair_store import repair_store
from memstore.ops.report import CheckReport
from memstore.store import open_engine, repair
from memstore.testing.faulty import FaultyStorage

Lines = dict[str, dict[str, bytes]]
Look = Callable[..., CheckReport]


def mend(root: str, **options: Any) -> RepairReport:
    """Repair a copy of the rich store; it has to be clean then."""
    report = repair(root, settings=SETTINGS, clock=clock_of_rich_store(), **options)
    if not options.get("plan_only"):
        assert report.after is not None
        assert report.is_clean, ([each.sentence for each in report.after.findings], report.failed)
    return report


def lines_in(root: str) -> Lines:
    """What reads give; nothing stands twice."""
    found: Lines = {}
    with open_rich(root, read_only=True) as store:
        for agent in store.agents():
            listed = list(store.agent(agent).lines())
            assert listed == sorted(listed)
            found[agent] = {json.loads(line)["memory_id"]: line for line in listed}
            assert len(found[agent]) == len(listed), "doubled"
    return {agent: lines for agent, lines in found.items() if lines}


def assert_kept(root: str, lines: Lines, report: RepairReport, *, lost: int | None = None) -> Lines:
    """What is there was there, byte for byte, and no more is lost than was told."""
    found = lines_in(root)
    for agent, of_agent in found.items():
        assert of_agent.items() <= lines[agent].items(), "invented, changed, or forgotten and seen again"
    missing = sum(map(len, lines.values())) - sum(map(len, found.values()))
    if lost is not None:
        assert missing == lost
        assert report.records_lost == lost
    return found


def kinds(report: RepairReport) -> list[str]:
    return [step.kind for step in report.steps]


def overwrite(path: str, offset: int, data: bytes) -> None:
    with open(path, "r+b") as file:
        file.seek(offset)
        file.write(data)


def content(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def quarantined(root: str) -> dict[str, str]:
    """Files that were set aside, by where they had been."""
    found = {}
    base = os.path.join(root, "quarantine")
    for directory, _, names in os.walk(base):
        for name in names:
            path = os.path.join(directory, name)
            relative = os.path.relpath(path, base).partition(os.sep)[2]
            if not relative.endswith(".why.json"):
                found[relative] = path
                note = json.loads(content(path + ".why.json"))
                assert note["why"]
                assert note["bytes"] == os.path.getsize(path)
    return found


# -- bytes that nothing explains


def day_file_without_lanes(rich: str) -> str:
    (path,) = files_named(rich, "a/20250203.11.jsonl")
    return path


def test_bytes_behind_a_day_file_are_found_and_set_aside(rich: str, lines: Lines, look: Look) -> None:
    """Reads refuse them, for they may be what a MANIFEST that was cut had named: then a check has to tell, too."""
    path = day_file_without_lanes(rich)
    whole = content(path)
    with open(path, "ab") as file:
        file.write(b"x" * 40)
    with pytest.raises(CorruptionError):
        lines_in(rich)
    for full in (False, True):
        (finding,) = damage(look(full=full))
        assert (finding.path, finding.offset_bytes, finding.length_bytes) == (path, len(whole), 40)
    report = mend(rich)
    assert kinds(report) == ["restore_file"]
    assert_kept(rich, lines, report, lost=0)
    assert content(path) == whole
    assert [content(each) for each in quarantined(rich).values()] == [whole + b"x" * 40]


def test_a_day_file_that_holds_no_record_and_that_nothing_names_is_set_aside(
    rich: str, lines: Lines, look: Look
) -> None:
    path = day_file_without_lanes(rich).replace(".11.", ".9999.")
    with open(path, "wb") as file:
        file.write(b"x" * 40)
    with pytest.raises(CorruptionError):
        lines_in(rich)
    assert [finding.path for finding in damage(look())] == [path]
    report = mend(rich)
    assert_kept(rich, lines, report, lost=0)
    assert not os.path.exists(path)
    assert len(quarantined(rich)) == 1


# -- single bits


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "reads"])
def test_a_flipped_bit_is_put_right_and_nothing_is_lost(rich: str, lines: Lines, kind: str) -> None:
    chance = random.Random(kind)
    paths = of_kind(rich, kind)
    for path in {paths[0], paths[-1]}:
        if not os.path.exists(path):
            continue  # a lane that was merged
        before = content(path)
        flip(path, chance.randrange(len(before) - 2), 1 << chance.randrange(8))
        report = mend(rich)
        assert_kept(rich, lines, report, lost=0)
        if kind not in ("lane", "MANIFEST", "FORGOTTEN", "LIFECYCLE.json"):
            assert content(path)[: len(before)] == before
    assert quarantined(rich)


@pytest.mark.parametrize("size", [1, 40, 3000])
def test_one_flipped_bit_is_found_by_the_checksum_and_two_are_not(size: int) -> None:
    from memstore.codec.checksum import checksum

    chance = random.Random(size)
    data = chance.randbytes(size)
    spoiled = bytearray(data)
    spoiled[size // 2] ^= 4
    assert find_flip(bytes(spoiled), checksum(data)) == data
    spoiled[0] ^= 32
    assert find_flip(bytes(spoiled), checksum(data)) is None
    assert find_flip(bytes(spoiled), "no number") is None


def test_a_checked_line_with_one_wrong_bit_anywhere_is_the_line_that_it_was() -> None:
    from memstore.format.checked import encode_checked

    line = encode_checked("some", {"text": "abc", "number": 7})[:-1]
    for place, bit in itertools.product(range(len(line)), range(8)):
        spoiled = bytearray(line)
        spoiled[place] ^= 1 << bit
        assert find_flip_in_line(bytes(spoiled)) == line, (place, bit)


def test_a_bit_that_makes_or_takes_a_line_break_is_put_right() -> None:
    from memstore.format.checked import encode_checked

    whole = [encode_checked("some", {"text": "J*J*", "number": number})[:-1] for number in range(3)]
    data = b"\n".join(whole) + b"\n"
    for place, bit in itertools.product(range(len(data)), range(8)):
        spoiled = bytearray(data)
        spoiled[place] ^= 1 << bit
        assert [each.line for each in mended_lines(bytes(spoiled))] == whole, (place, bit)


# -- what cannot be put right


def test_the_other_blocks_of_a_day_file_are_kept_and_it_is_set_aside(rich: str, lines: Lines) -> None:
    path = files_named(rich, "a/20250203.11.jsonl")[0]
    before = content(path)
    overwrite(path, 100, b"????")
    report = mend(rich)
    assert kinds(report) == ["salvage_file", "write_manifest"]
    assert_kept(rich, lines, report, lost=3)
    assert not os.path.exists(path)
    relative = os.path.relpath(path, rich)
    spoiled = content(quarantined(rich)[relative])
    assert (len(spoiled), spoiled[:100], spoiled[104:]) == (len(before), before[:100], before[104:])
    note = json.loads(content(quarantined(rich)[relative] + ".why.json"))
    assert note["lost"] == [
        {"offset": 0, "length": 1039, "records": 3, "reason": "its checksum does not agree"},
    ]
    assert note["records_kept"] == 3


@pytest.mark.parametrize("kind", ["warm", "cold"])
def test_the_other_frames_of_a_packed_file_are_kept(tmp_path: Any, kind: str) -> None:
    root = str(tmp_path / "store")
    settings = {**LIVELY, "storage.lifecycle.deduplication_enabled": True}
    days = -20 if kind == "warm" else -60
    first = 0 if kind == "cold" else 1  # the originals of repeats are in the first
    with MemStore(root, settings=settings, clock=ManualClock(at(0))) as store:
        store.append_many(
            {
                "agent_id": "a",
                "memory_type": "PERFORMANCE",
                "content": {"n": n % 40, "text": "x" * 400},
                "timestamp_utc": iso(days + n / 1000),
            }
            for n in range(100)
        )
        assert not store.maintain().failed
        expected = list(store.agent("a").lines())
        (packed,) = store._engine.builder.manifest("a").packed.values()
        assert len(packed.frames) > 3
    (path,) = agent_files(root)[kind]
    overwrite(path, first * packed.frames[0].length + 60, b"????")
    report = repair(root, settings=settings, clock=ManualClock(at(0)))
    assert report.is_clean
    with MemStore(root, settings=settings, clock=ManualClock(at(0))) as store:
        found = list(store.agent("a").lines())
    assert set(found) < set(expected)
    assert found == sorted(found)
    lost = len(expected) - len(found)
    assert packed.frames[first].records <= lost == report.records_lost
    assert (lost > packed.frames[first].records) == (kind == "cold"), "repeats of what is lost are lost, too"


@pytest.mark.parametrize("kind", ["hot", "warm", "cold", "trash"])
def test_a_missing_file_is_taken_out_of_the_index_and_its_records_are_counted(
    rich: str, lines: Lines, kind: str
) -> None:
    path = of_kind(rich, kind)[0]
    os.unlink(path)
    report = mend(rich)
    assert "take_out" in kinds(report)
    found = assert_kept(rich, lines, report)
    hidden = 0 if kind == "trash" else 1
    lost = sum(map(len, lines.values())) - sum(map(len, found.values()))
    assert lost <= report.records_lost <= lost + (report.records_lost if kind == "trash" else 2)
    assert report.records_lost > hidden


def test_a_repair_is_planned_first_and_a_plan_changes_nothing(rich: str) -> None:
    overwrite(files_named(rich, "a/20250203.11.jsonl")[0], 100, b"????")
    overwrite(files_named(rich, "a/MANIFEST")[0], 700, b"????")
    overwrite(lane_files(rich)[0], 3000, b"????")
    overwrite(os.path.join(rich, "HOLDS.json"), 20, b"????")
    before = {path: content(path) for path in files_of(rich)}
    plan = mend(rich, plan_only=True)
    assert {path: content(path) for path in files_of(rich)} == before
    assert plan.after is None
    told: list[str] = []
    report = mend(rich, on_step=lambda step: told.append(step.kind))
    assert told == kinds(report)
    assert {"hold_everything", "salvage_file", "write_manifest", "release_lane"} <= set(kinds(plan)) & set(told)


def test_lanes_whose_directory_has_gone_get_a_new_one(rich: str, lines: Lines) -> None:
    lanes = StorePaths(rich).lanes
    with open_rich(rich) as store:
        store.drain()
    shutil.rmtree(lanes)
    assert kinds(mend(rich, plan_only=True)) == ["start_anew"]
    assert not os.path.exists(lanes)
    assert kinds(mend(rich)) == ["start_anew"]
    assert lines_in(rich) == lines
    with open_rich(rich) as store:
        assert store.get(store.append(agent_id="new", content="goes on")) is not None


def test_a_store_that_is_whole_is_left_alone_and_a_second_repair_does_nothing(rich: str, lines: Lines) -> None:
    before = {path: content(path) for path in files_of(rich) if ".lane" not in path}
    report = mend(rich)
    assert (report.steps, report.quarantine) == ([], "")
    overwrite(files_named(rich, "a/20250203.11.jsonl")[0], 100, b"????")
    assert mend(rich).steps
    again = mend(rich)
    assert (again.steps, again.quarantine) == ([], "")
    assert_kept(rich, lines, again)
    assert before


# -- MANIFESTs


@pytest.mark.parametrize("how", ["missing", "empty", "first line", "wiped", "all but the first line"])
def test_a_manifest_is_rebuilt_from_the_files(rich: str, lines: Lines, how: str) -> None:
    for agent in ("a", "b-b~6be8c537e9dc1b21ec551ae58e520e98"):
        (path,) = files_named(rich, f"{agent}/MANIFEST")
        whole = content(path)
        first = whole.index(b"\n") + 1
        if how == "missing":
            os.unlink(path)
        elif how == "first line":
            overwrite(path, 20, b"????")
        else:
            changed = {"empty": b"", "wiped": bytes(len(whole)), "all but the first line": whole[:first]}[how]
            with open(path, "wb") as file:
                file.write(changed)
    report = mend(rich)
    assert_kept(rich, lines, report, lost=0)
    with open_rich(rich) as store:
        for agent in AGENTS:
            manifest = store._engine.builder.manifest(agent)
            assert len(manifest.hidden.ids) == 3, "what was forgotten is hidden again"
            assert manifest.trash, "what retention took stays in the trash"
            if how != "first line":
                assert manifest.next_version > 1000
        assert not store.maintain(trust_clock=True).failed
        store.undelete(agent="a")
        assert store.check(full=True).is_clean


@pytest.mark.parametrize("line", range(9))
def test_any_line_of_a_manifest_may_be_lost(rich: str, lines: Lines, line: int) -> None:
    (path,) = files_named(rich, "a/MANIFEST")
    whole = content(path).split(b"\n")
    overwrite(path, sum(len(each) + 1 for each in whole[:line]) + 40, b"????")
    report = mend(rich)
    assert_kept(rich, lines, report, lost=0)


@pytest.mark.parametrize("left", range(1, 9))
def test_a_manifest_may_have_lost_its_last_lines(rich: str, lines: Lines, left: int) -> None:
    (path,) = files_named(rich, "b-b~6be8c537e9dc1b21ec551ae58e520e98/MANIFEST")
    whole = content(path).splitlines(keepends=True)
    with open(path, "wb") as file:
        file.writelines(whole[:left])
    report = mend(rich)
    assert_kept(rich, lines, report, lost=0)


def test_what_was_erased_does_not_come_back_with_a_rebuilt_manifest(rich: str, lines: Lines, tmp_path: Any) -> None:
    copy = shutil.copytree(rich, tmp_path / "copy")
    gone = sorted(lines["a"])[10:20]
    with open_rich(rich) as store:
        assert not store.erase(ids=gone).pending
    for path in files_named(rich, "a/MANIFEST"):
        os.unlink(path)
    for path in agent_files(rich)["hot"][:2]:
        os.unlink(path)
    expected = {agent: {i: line for i, line in of.items() if i not in gone} for agent, of in lines.items()}
    report = mend(rich, source=copy)
    assert_kept(rich, expected, report)
    with open_rich(rich) as store:
        assert all(store.get(memory_id) is None for memory_id in gone)


def test_a_forgotten_record_whose_tombstone_is_lost_is_found_by_a_check(rich: str, look: Look) -> None:
    (path,) = files_named(rich, "a/MANIFEST")
    whole = content(path).splitlines(keepends=True)
    assert whole[-1].startswith(b'{"hide"')
    with open(path, "wb") as file:
        file.writelines(whole[:-1])
    assert look(full=False).is_clean
    (finding,) = damage(look())
    assert (finding.kind, finding.records) == ("record", 3)
    assert "forgotten can be read again" in finding.reason


def test_what_an_undelete_brought_back_is_not_taken_for_forgotten(rich: str, look: Look) -> None:
    with open_rich(rich) as store:
        hidden = sorted(store._engine.builder.manifest("a").hidden.ids)
        store.undelete(ids=hidden[:1])
        store.undelete(agent="a")
        store.undelete(agent="b.B")
    assert look().is_clean
    for path in [
        path
        for agent in ("a", "b-b~6be8c537e9dc1b21ec551ae58e520e98")
        for path in files_named(rich, f"{agent}/MANIFEST")
    ]:
        os.unlink(path)
    before = {}
    mend(rich)
    with open_rich(rich) as store:
        assert store._engine.builder.manifest("a").hidden.ids == frozenset()
        assert before == {}


# -- lanes


def test_a_lane_of_which_parts_are_damaged_is_merged_without_them(rich: str, lines: Lines) -> None:
    for path in lane_files(rich):
        data = content(path)
        overwrite(path, data.index(b" 1 1 lll"), b"????")
    report = mend(rich)
    assert kinds(report) == ["release_lane", "release_lane"]
    assert_kept(rich, lines, report, lost=6)
    assert lane_files(rich) == lane_files(rich, ".kept") == []
    assert len(quarantined(rich)) == 2


def test_lines_behind_a_lost_commit_line_are_kept(rich: str, lines: Lines) -> None:
    opened = lane_files(rich)[-1]
    data = content(opened)
    places = [at for at in range(len(data)) if data.startswith(b'{"commit":', at)]
    overwrite(opened, places[1] + 40, b"????")
    report = mend(rich)
    assert_kept(rich, lines, report, lost=0)
    assert "release_lane" in kinds(report)


def flip_in_commit_line(path: str, number: int) -> None:
    data = content(path)
    places = [at for at in range(len(data)) if data.startswith(b'{"commit":', at)]
    overwrite(path, places[number] + 72, bytes([data[places[number] + 72] ^ 1]))


@pytest.mark.parametrize("number", [0, 1, 2])
@pytest.mark.parametrize("is_merged_before", [False, True])
def test_a_commit_line_in_which_a_bit_flipped_loses_nothing(
    rich: str, lines: Lines, number: int, *, is_merged_before: bool
) -> None:
    """A merge takes the other commits first and counts the lane as merged: this one was not among them."""
    flip_in_commit_line(lane_files(rich)[-1], number)
    if is_merged_before:
        with open_rich(rich) as store:
            assert store.drain(timeout_s=0.1).pending
    report = mend(rich)
    assert_kept(rich, lines, report, lost=0)
    assert lane_files(rich, ".kept") == []


@pytest.mark.parametrize("number", [0, 1, 2])
def test_a_commit_line_that_flips_after_its_merge_doubles_nothing(rich: str, lines: Lines, number: int) -> None:
    opened = lane_files(rich)[-1]
    whole = content(opened)
    with open_rich(rich) as store:
        store.drain()
    with open(opened, "wb") as file:  # a crash before the lane was removed
        file.write(whole)
    flip_in_commit_line(opened, number)
    report = mend(rich)
    assert_kept(rich, lines, report, lost=0)


@pytest.mark.parametrize("which", [0, 1])
def test_a_lane_whose_first_line_is_lost_is_merged(rich: str, lines: Lines, which: int) -> None:
    overwrite(lane_files(rich)[which], 20, b"????")
    report = mend(rich)
    assert_kept(rich, lines, report, lost=0)


def test_a_lane_that_was_kept_because_of_its_agents_manifest_is_merged_once_that_is_right(
    rich: str, lines: Lines
) -> None:
    (path,) = files_named(rich, "a/MANIFEST")
    overwrite(path, 700, b"????")
    with open_rich(rich) as store:
        assert store.drain(timeout_s=0.1).pending
    assert lane_files(rich, ".kept")
    report = mend(rich)
    assert "release_lane" in kinds(report)
    assert_kept(rich, lines, report, lost=0)
    assert lane_files(rich, ".kept") == []


def test_a_lane_that_stands_there_twice_is_merged_once(rich: str, lines: Lines) -> None:
    source = lane_files(rich)[0]
    shutil.copyfile(source, os.path.join(rich, "lanes", "0000fffe-" + "cd" * 16 + ".lane"))
    report = mend(rich)
    assert "keep_once" in kinds(report)
    assert_kept(rich, lines, report, lost=0)


def test_a_damaged_lane_of_a_living_writer_is_left_alone(rich: str, lines: Lines) -> None:
    with MemStore(rich, settings=SETTINGS) as store:
        memory_id = store.append(agent_id="alive", content=1)
        path = max(lane_files(rich))  # the youngest writer's; lanes of the dead are sealed meanwhile
        overwrite(path, 20, b"????")
        report = repair(rich, settings=SETTINGS, clock=clock_of_rich_store())
        assert [step.path for step in report.withheld] == [path]
        assert not report.is_clean
    mend(rich)
    with open_rich(rich) as store:
        assert store.get(memory_id) is not None


# -- small files


def test_a_damaged_list_of_holds_becomes_a_hold_over_everything(rich: str, lines: Lines) -> None:
    path = os.path.join(rich, "HOLDS.json")
    overwrite(path, 20, b"????")
    report = mend(rich)
    assert kinds(report) == ["hold_everything"]
    with open_rich(rich) as store:
        (hold,) = store.holds()
        assert "quarantine" in hold.reason
        with pytest.raises(HeldError):
            store.forget(sorted(lines["a"])[:1])
        with pytest.raises(HeldError):
            store.erase(agent="b.B")
        store.remove_hold(hold.name)
        assert store.forget(sorted(lines["a"])[:1]).hidden


def test_holds_come_from_a_good_copy(rich: str, tmp_path: Any) -> None:
    copy = shutil.copytree(rich, tmp_path / "copy")
    overwrite(os.path.join(rich, "HOLDS.json"), 20, b"????")
    mend(rich, source=copy)
    with open_rich(rich) as store:
        assert [hold.name for hold in store.holds()] == ["case"]


def test_a_lost_line_of_forgotten_is_blanked_where_it_stands_and_caches_hear_of_it(rich: str) -> None:
    path = os.path.join(rich, "FORGOTTEN")
    first = content(path).index(b"\n")
    with open_rich(rich, read_only=True) as store:
        epoch = store._engine.forgotten.epoch()
        identity = os.stat(path).st_ino
        overwrite(path, 12, b"????")
        assert kinds(mend(rich)) == ["clear_line"]
        assert store._engine.forgotten.epoch() > epoch
    assert os.stat(path).st_ino == identity
    assert content(path)[:first].strip(b"\n") == b""


def test_files_that_are_lost_without_harm_begin_anew(rich: str, lines: Lines) -> None:
    for name in ("LIFECYCLE.json", "reads/a"):
        overwrite(os.path.join(rich, name), 10, b"????")
    report = mend(rich)
    assert kinds(report) == ["start_anew", "start_anew"]
    assert_kept(rich, lines, report, lost=0)


# -- STORE.json


@pytest.mark.parametrize("how", ["missing", "garbage"])
def test_store_json_is_written_anew_and_every_agent_is_found_where_it_lies(rich: str, lines: Lines, how: str) -> None:
    path = os.path.join(rich, "STORE.json")
    home = os.path.dirname(files_named(rich, "a/MANIFEST")[0])
    os.rename(home, home.replace("shard_001", "shard_000"))  # as if it had been pinned there
    kind, before = decode_checked(content(path).rstrip(b"\n"))  # type: ignore[misc]
    assert kind == "store"
    if how == "missing":
        os.unlink(path)
    else:
        overwrite(path, 20, b"????")
    report = mend(rich)
    assert kinds(report) == ["write_store_file"]
    assert_kept(rich, lines, report, lost=0)
    _, after = decode_checked(content(path).rstrip(b"\n"))  # type: ignore[misc]
    assert after["id"] == before["id"]
    assert after["placement"]["pins"] == {"a": 0}
    assert after["next_writer"] > before["next_writer"]
    assert after["epoch"] > before["epoch"]
    with open_rich(rich) as store:
        used = {json.loads(line)["memory_id"][-16:-8] for of in lines.values() for line in of.values()}
        assert store.append(agent_id="a", content=1)[-16:-8] not in used


def test_a_shard_that_is_nowhere_below_the_root_has_to_be_named(tmp_path: Any) -> None:
    root, volume = str(tmp_path / "store"), str(tmp_path / "volume")
    os.mkdir(volume)
    with MemStore(root, settings={"storage": {"ballast_bytes": 0, "shards": 1}, "merging.background": False}) as store:
        store.append(agent_id="a", content=1)
        store.drain()
        store.add_shard(volume)
        store.add_shard()
        moved = store.append(agent_id="b", content=1)
        store.pin("b", "shard_001")
        store.drain()
    os.unlink(os.path.join(root, "STORE.json"))
    report = repair(root, settings=QUIET)
    (step,) = report.withheld
    assert "shard_001 is nowhere" in step.sentence
    assert not report.is_clean
    assert not os.path.exists(os.path.join(root, "STORE.json"))
    with pytest.raises(UsageError):
        repair(root, settings=QUIET, volumes=[str(tmp_path / "nothing")])
    assert repair(root, settings=QUIET, volumes=[volume]).is_clean
    with MemStore(root, settings=QUIET, create=False) as store:
        assert store.get(moved) is not None
        assert store.agents() == ["a", "b"]


def test_store_json_comes_from_a_good_copy_of_this_store_and_of_no_other(
    rich: str, lines: Lines, tmp_path: Any
) -> None:
    copy = shutil.copytree(rich, tmp_path / "copy")
    other = str(tmp_path / "other")
    MemStore(other).close()
    overwrite(os.path.join(rich, "STORE.json"), 20, b"????")
    with pytest.raises(UsageError, match="is of another store"):
        mend(rich, source=other, plan_only=True)
    report = mend(rich, source=copy)
    assert f"{copy} has what its checksum asks for" in report.steps[0].sentence
    assert_kept(rich, lines, report, lost=0)


# -- agents in wrong places


def test_an_agent_that_lies_in_another_shard_is_pinned_there(rich: str, lines: Lines) -> None:
    home = os.path.dirname(files_named(rich, "a/MANIFEST")[0])
    os.rename(home, home.replace("shard_001", "shard_000"))
    report = mend(rich)
    assert kinds(report) == ["pin_agent"]
    assert_kept(rich, lines, report, lost=0)


def test_an_agent_of_which_only_the_archive_is_left_is_read_again(rich: str, lines: Lines) -> None:
    for name in ("a", "b-b~6be8c537e9dc1b21ec551ae58e520e98"):
        shutil.rmtree(os.path.dirname(files_named(rich, f"{name}/MANIFEST")[0]))
    report = mend(rich)
    found = assert_kept(rich, lines, report)
    for agent in AGENTS:
        old = {i for i in lines[agent] if i < f"{agent}_20241201"}
        assert old <= found[agent].keys()


# -- good copies


@pytest.mark.parametrize("kind", ["hot", "warm", "cold", "trash", "lane", "MANIFEST"])
@pytest.mark.parametrize("how", ["spoiled", "missing", "cut"])
def test_everything_comes_back_from_a_good_copy(rich: str, lines: Lines, tmp_path: Any, kind: str, how: str) -> None:
    copy = shutil.copytree(rich, tmp_path / "copy")
    paths = of_kind(rich, kind)
    for path in paths:
        if kind == "lane" and how != "spoiled":
            continue  # nobody misses a lane that is gone
        size = os.path.getsize(path)
        if how == "spoiled":
            overwrite(path, size // 2, b"????")
        elif how == "missing":
            os.unlink(path)
        else:
            os.truncate(path, size // 2)
    report = mend(rich, source=copy)
    assert_kept(rich, lines, report, lost=0)
    if kind in ("hot", "warm", "cold", "trash"):
        assert set(kinds(report)) <= {"restore_file", "release_lane"}
        for path in paths:
            whole = content(path.replace(rich, str(copy)))
            assert content(path)[: len(whole)] == whole


def test_a_copy_that_is_older_or_damaged_itself_gives_what_it_has(rich: str, lines: Lines, tmp_path: Any) -> None:
    copy = str(shutil.copytree(rich, tmp_path / "copy"))
    path = files_named(rich, "a/20250203.11.jsonl")[0]
    os.truncate(path.replace(rich, copy), 1039)  # as it was before the second merge
    os.unlink(path)
    report = mend(rich, source=copy)
    assert_kept(rich, lines, report, lost=3)
    with pytest.raises(NotFoundError):
        mend(rich, source=str(tmp_path / "nothing"))


# -- beside others, and when the disk refuses


def test_a_repair_beside_a_writer_loses_nothing_of_what_it_writes(rich: str, lines: Lines) -> None:
    path = files_named(rich, "a/20250203.11.jsonl")[0]
    overwrite(path, 100, b"????")
    overwrite(files_named(rich, "b-b~6be8c537e9dc1b21ec551ae58e520e98/MANIFEST")[0], 700, b"????")
    stop = threading.Event()
    written: list[str] = []

    def write() -> None:
        with MemStore(rich, settings={**SETTINGS, "merging.background": True, "merging.age_s": 0}) as store:
            for _ in range(2000):
                if stop.is_set():
                    return
                written.extend(store.append_many({"agent_id": a, "content": "w"} for a in (*AGENTS, "c")))

    thread = threading.Thread(target=write)
    thread.start()
    try:
        for _ in range(2):
            repair(rich, settings=SETTINGS)
    finally:
        stop.set()
        thread.join()
    report = mend(rich)
    assert report.is_clean
    with open_rich(rich) as store:
        assert all(record is not None for record in store.get_many(written))
        there = {i: store.get(i) for i in lines["a"]}
        assert sum(record is None for record in there.values()) == 3


def test_a_disk_that_is_full_leaves_everything_as_it_was(rich: str) -> None:
    path = files_named(rich, "a/20250203.11.jsonl")[0]
    overwrite(path, 100, b"????")
    before = content(path)
    storage = FaultyStorage(LocalStorage())
    storage.answers["free_bytes"] = 1000
    engine = open_engine(
        rich, settings=SETTINGS, durability=None, read_only=False, create=False, clock=clock_of_rich_store()
    )
    engine.storage = storage
    report = repair_store(storage, StorePaths(rich), clock=clock_of_rich_store(), open_engine=lambda: engine)
    engine.close()
    assert any(isinstance(error, StorageFullError) for _, error in report.failed)
    assert content(path) == before
    mend(rich)


# -- what was set aside


def test_an_erasure_reaches_into_the_quarantine(rich: str, lines: Lines) -> None:
    for path in (files_named(rich, "a/20250203.11.jsonl")[0], of_kind(rich, "cold")[0]):
        overwrite(path, os.path.getsize(path) // 2, b"????")
    overwrite(files_named(rich, "a/MANIFEST")[0], 700, b"????")
    mend(rich)
    assert quarantined(rich)
    with open_rich(rich) as store:
        receipt = store.erase(agent="a")
        assert receipt.pending == ()
    assert quarantined(rich) == {}


def test_a_directory_of_which_nobody_can_tell_whose_it_is_is_left_as_it_is(rich: str, lines: Lines) -> None:
    (path,) = files_named(rich, "b-b~6be8c537e9dc1b21ec551ae58e520e98/MANIFEST")
    home = os.path.dirname(path)
    for name in os.listdir(home):
        if name != "MANIFEST" and os.path.isfile(os.path.join(home, name)):
            os.unlink(os.path.join(home, name))
    shutil.rmtree(os.path.join(rich, "memory", "archive", os.path.basename(home)))
    for lane in lane_files(rich):
        os.unlink(lane)
    overwrite(path, 20, b"????")
    report = repair(rich, settings=SETTINGS, clock=clock_of_rich_store())
    (step,) = report.withheld
    assert step.path == home
    assert "whose it is" in step.sentence
    assert os.path.exists(path)
    assert lines


def test_what_lies_in_the_trash_stays_hidden_though_it_is_damaged_and_no_index_names_it(
    rich: str, lines: Lines
) -> None:
    for agent in ("a", "b-b~6be8c537e9dc1b21ec551ae58e520e98"):
        os.unlink(files_named(rich, f"{agent}/MANIFEST")[0])
    for path in of_kind(rich, "trash"):
        with open(path, "ab") as file:
            file.write(b"garbage")
    report = mend(rich)
    assert_kept(rich, lines, report)
    with open_rich(rich) as store:
        for agent in AGENTS:
            manifest = store._engine.builder.manifest(agent)
            assert manifest.trash
            assert not manifest.trash.keys() & manifest.packed.keys()


def test_a_file_that_is_set_aside_twice_lies_there_twice(tmp_path: Any) -> None:
    from memstore.ops.repair.quarantine import Quarantine

    root = str(tmp_path)
    path = os.path.join(root, "some", "file")
    os.mkdir(os.path.dirname(path))
    quarantine = Quarantine(LocalStorage(), StorePaths(root), now_us=at(0))
    for text in (b"as it was found", b"as it was then"):
        with open(path, "wb") as file:
            file.write(text)
        quarantine.copy(path, why="a test")
    assert quarantine.copy(os.path.join(root, "nothing"), why="a test") is None
    assert [content(os.path.join(root, each)) for each in quarantine.files] == [b"as it was found", b"as it was then"]


def test_a_lane_of_an_erased_agent_is_released_without_it_and_that_is_told(rich: str, lines: Lines) -> None:
    path = lane_files(rich)[0]
    overwrite(path, content(path).index(b" 1 1 lll"), b"????")
    with open_rich(rich) as store:
        assert store.drain(timeout_s=0.1).pending
        assert store.erase(agent="new").pending
    report = mend(rich)
    (step,) = report.steps
    assert "lines that were erased" in step.sentence
    assert "new" not in lines_in(rich)
    with open_rich(rich) as store:
        expected = [record.memory_id for record in store.agent("new").range()]
        assert expected == []
    assert lines
