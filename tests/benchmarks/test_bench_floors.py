"""Floors do what they say and leave nothing behind."""

import os

from benchmarks.floors import (
    OpenFiles,
    SelectByKey,
    copy_and_sync,
    fdatasync_us,
    read_and_parse,
    solid_bytes,
    wake_us,
    write_batches,
    write_each,
    zstd_alone,
)
from benchmarks.floors.compress import frames
from benchmarks.meter import Meter, written_bytes
from benchmarks.turns import Turns
from benchmarks.workloads import memories


def test_writing_leaves_no_file(tmp_path):
    pool = memories(20, agents=3)
    path = str(tmp_path / "floor")
    assert write_batches(path, [pool, pool]) > 0
    assert len(write_each(path, pool)) == 20
    assert len(fdatasync_us(path, rounds=3)) == 3
    assert os.listdir(tmp_path) == []


def test_every_coroutine_is_woken_each_time():
    assert len(wake_us(5, 4)) == 20


def test_stretches_of_files_are_read(tmp_path):
    for name, text in (("a", b"one two"), ("b", b"three")):
        (tmp_path / name).write_bytes(text)
    with OpenFiles([str(tmp_path / "a"), str(tmp_path / "b")]) as files:
        assert bytes(files.read((0, 4, 3))) == b"two"
        assert bytes(files.read_whole(1)) == b"three"


def test_frames_end_where_lines_end():
    data = b"".join(b"%d\n" % number for number in range(1000))
    cut = list(frames(data, 100))
    assert b"".join(cut) == data
    assert all(frame.endswith(b"\n") and len(frame) <= 100 for frame in cut)
    assert list(frames(b"x" * 300 + b"\n", 100)) == [b"x" * 300 + b"\n"]


def test_one_solid_archive_is_smaller_than_its_lines():
    data = b"the same line again and again\n" * 1000
    assert 0 < solid_bytes([data, data]) < len(data) // 10
    assert zstd_alone([data], level=3, frame_bytes=4096) > 0


def test_a_tree_is_read_and_parsed(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "good.json").write_text("{}")
    (tmp_path / "bad.json").write_text("{")
    assert read_and_parse(str(tmp_path)) == (2, 3, 1)
    assert copy_and_sync(str(tmp_path / "in"), str(tmp_path / "copy")) > 0
    assert os.listdir(tmp_path / "copy") == ["good.json"]


def test_sqlite_finds_by_key(tmp_path):
    table = SelectByKey(str(tmp_path / "memory.db"), [("one", b"{}"), ("two", b"{}")])
    assert table.get("three") is None
    table.close()


def test_a_meter_counts_only_while_it_runs(tmp_path):
    meter = Meter()
    (tmp_path / "before").write_bytes(b"x" * 100_000)
    with meter.running():
        (tmp_path / "inside").write_bytes(b"x" * 100_000)
    weight = meter.weight(100_000)
    if written_bytes() is None:
        assert weight.written_per_byte is None
    else:
        assert weight.written_per_byte < 2  # none at all in memory, whole pages on a disk
    assert 0 < weight.before_mib <= weight.resident_mib
    assert meter.weight(0).written_per_byte is None


def test_calls_are_compared_with_calls_of_the_same_argument():
    turns = Turns({"one": lambda _: None, "two": lambda _: None})
    turns.rounds = {"one": [[10.0, 600.0, 3.0]], "two": [[1.0, 300.0, 2.0]]}
    assert turns.over_same("one", "two") == [2.0]


def test_sides_take_turns_with_the_same_arguments():
    asked = []
    turns = Turns({"one": lambda n: asked.append(("one", n)), "two": lambda n: asked.append(("two", n))})
    turns.take([1, 2])
    assert asked == [("one", 1), ("one", 2), ("two", 1), ("two", 2)]
    assert turns.rounds["one"] == [turns.us["one"]]
    assert len(turns.us["one"]) == 2
    assert len(turns.over("one", "two")) == len(turns.per_second("two", each=50)) == 1
    turns.forget()
    assert turns.us == {"one": [], "two": []}
