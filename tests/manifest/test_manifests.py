"""MANIFESTs: appended to, followed, torn and damaged."""

import os

import pytest

from memstore.errors import CorruptionError, StorageError, VersionError
from memstore.format.checked import encode_checked
from memstore.format.manifest import Block, encode_merge
from memstore.fs.local import LocalStorage
from memstore.manifest.cache import ManifestCache
from memstore.manifest.reader import load_manifest
from memstore.manifest.writer import open_manifest

STORAGE = LocalStorage()


def merge_line(number, day="20250115", offset=0):
    blocks = [Block(100, 5, number * 10, number * 10 + 9, "0" * 16)]
    return encode_merge(
        merge_id=f"m{number}", at=number, lanes=[f"lane{number}"], chunks=[(f"{day}.1.jsonl", offset, blocks)]
    )


def append(directory, *lines, agent="bot"):
    torn = []
    known = load_manifest(STORAGE, directory)
    writer = open_manifest(
        STORAGE, directory, agent, known=known, at_us=1, on_torn=lambda path, length: torn.append(length)
    )
    for line in lines:
        writer.append(line)
    writer.file.close()
    return torn


@pytest.fixture
def directory(tmp_path):
    return str(tmp_path)


def test_what_is_appended_is_read_back(directory):
    assert load_manifest(STORAGE, directory) is None
    append(directory, merge_line(1), merge_line(2, offset=100), merge_line(3, day="20250116"))
    manifest = load_manifest(STORAGE, directory)
    assert manifest.agent == "bot"
    assert manifest.records() == 15
    assert manifest.day_files == {"20250115.1.jsonl": 200, "20250116.1.jsonl": 100}
    assert manifest.day_file("20250115") == ("20250115.1.jsonl", 200)
    assert manifest.day_file("20250117") is None
    assert dict(manifest.merged) == {"lane1": 0, "lane2": 1, "lane3": 2}
    assert [(b.t_min, b.offset, b.merge) for b in manifest.days["20250115"]] == [(10, 0, 0), (20, 100, 1)]


def test_following_reads_only_what_was_added_and_leaves_the_old_view_alone(directory):
    append(directory, merge_line(1))
    first = load_manifest(STORAGE, directory)
    assert load_manifest(STORAGE, directory, first) is first
    append(directory, merge_line(2, offset=100))
    second = load_manifest(STORAGE, directory, first)
    assert second == load_manifest(STORAGE, directory)
    assert first.records() == 5
    assert second.records() == 10


def test_a_merge_that_stands_there_twice_counts_once(directory):
    append(directory, merge_line(1), merge_line(1))
    assert load_manifest(STORAGE, directory).records() == 5


@pytest.mark.parametrize("cut", [1, 2, 30])
def test_a_torn_tail_is_ignored_by_readers_and_cut_by_the_next_writer(directory, cut):
    append(directory, merge_line(1))
    path = os.path.join(directory, "MANIFEST")
    size = os.path.getsize(path)
    append(directory, merge_line(2, offset=100))
    os.truncate(path, os.path.getsize(path) - cut)
    torn_bytes = os.path.getsize(path) - size
    assert load_manifest(STORAGE, directory).records() == 5
    assert append(directory, merge_line(3, offset=100)) == [torn_bytes]
    manifest = load_manifest(STORAGE, directory)
    assert manifest.records() == 10
    assert manifest.damaged == ()


def test_a_last_line_of_garbage_with_a_line_break_is_torn_too(directory):
    append(directory, merge_line(1))
    path = os.path.join(directory, "MANIFEST")
    with open(path, "ab") as file:
        file.write(b"\0\0\0\n")
    assert load_manifest(STORAGE, directory).records() == 5
    assert append(directory, merge_line(2, offset=100)) == [4]


def test_damage_in_the_middle_is_kept_as_a_range_and_stops_writers(directory):
    append(directory, merge_line(1), merge_line(2, offset=100), merge_line(3, offset=200))
    path = os.path.join(directory, "MANIFEST")
    data = STORAGE.open_read(path).read(0, 10_000)
    start = data.index(b'{"merge":{"id":"m2"')
    length = data.index(b"\n", start) + 1 - start
    with open(path, "r+b") as file:
        file.seek(start + 30)
        file.write(b"X")
    manifest = load_manifest(STORAGE, directory)
    assert manifest.damaged == ((start, length),)
    assert manifest.records() == 10
    with pytest.raises(CorruptionError, match=f"bytes {start} to {start + length}"):
        append(directory, merge_line(4))


def test_a_manifest_of_another_agent_is_not_written_to(directory):
    append(directory, merge_line(1))
    with pytest.raises(CorruptionError, match="belongs to agent 'bot'"):
        append(directory, merge_line(2), agent="other")


def test_a_manifest_without_a_first_line_is_damaged(directory):
    with open(os.path.join(directory, "MANIFEST"), "wb") as file:
        file.write(b"X" + merge_line(1) + merge_line(2))
    with pytest.raises(CorruptionError, match="first line"):
        load_manifest(STORAGE, directory)


def test_newer_versions_and_unknown_kinds_are_refused(directory):
    path = os.path.join(directory, "MANIFEST")
    with open(path, "wb") as file:
        file.write(encode_checked("manifest", {"version": 3, "agent": "bot", "at": 0}))
    with pytest.raises(VersionError):
        load_manifest(STORAGE, directory)
    os.unlink(path)
    append(directory, encode_checked("invented", {"later": 1}))
    with pytest.raises(StorageError, match="invented"):
        load_manifest(STORAGE, directory)


def test_the_cache_sees_every_change_and_keeps_its_budget(tmp_path):
    cache = ManifestCache(STORAGE, bytes_max=6000)
    for number in range(20):
        directory = tmp_path / f"a{number}"
        directory.mkdir()
        append(str(directory), merge_line(1))
        assert cache.get(str(directory)).records() == 5
        append(str(directory), merge_line(2, offset=100))
        assert cache.get(str(directory)).records() == 10
        assert cache.memory_bytes <= 6000
    assert cache.get(str(tmp_path / "a0")).records() == 10
    assert cache.get(str(tmp_path / "absent")) is None
    for name in os.listdir(tmp_path / "a0"):
        os.unlink(tmp_path / "a0" / name)
    assert cache.get(str(tmp_path / "a0")) is None
