"""The scan finds every planted leftover, in whatever form, and says what it could not look into."""

from __future__ import annotations

import gzip
import os
import struct
from pathlib import Path

import pytest
import zstandard

from memstore.codec.zstd import any_frame_end, unpack_parts
from memstore.format.forgotten import text_hash
from memstore.format.lines import encode_line, id_needle
from memstore.fs.local import LocalStorage
from memstore.ids import parse_id
from memstore.lifecycle import proof_scan
from memstore.lifecycle.needles import AgentLines, HashedLines, IdLines, LineHashes, Needles
from memstore.lifecycle.proof_scan import ScanResult, scan_places
from memstore.timestamps import iso_and_id_stamp

T0_US = 1_736_899_200_000_000
STORAGE = LocalStorage()
ODD = 'Ünï "q\\uoted" agent_20250115_143000'


def line_of(agent: str, number: int, content: str = "x") -> bytes:
    iso, stamp = iso_and_id_stamp(T0_US + number)
    return encode_line(agent, iso, stamp, f"{number:016x}", b'{"content":"%b"}' % content.encode())


def id_of(agent: str, number: int) -> str:
    return f"{agent}_{iso_and_id_stamp(T0_US + number)[1]}{number:016x}"


def scan(
    root: Path, needles: Needles | None = None, hashes: LineHashes | None = None, **arguments: object
) -> ScanResult:
    return scan_places(
        STORAGE,
        [str(root)],
        needles=needles or AgentLines("bot"),
        hashes=hashes or LineHashes(),
        **arguments,  # type: ignore[arg-type]
    )


def found(result: ScanResult) -> dict[str, int]:
    return {os.path.basename(each.where): each.by_id for each in result.found}


LINES = [line_of("bot", number) for number in range(50)]
PLANTED = b"".join(LINES)


def test_a_copy_of_a_file_is_found_wherever_it_lies(tmp_path: Path) -> None:
    (tmp_path / "logs" / "deep").mkdir(parents=True)
    (tmp_path / "logs" / "deep" / "copy").write_bytes(PLANTED)
    (tmp_path / "clean").write_bytes(b"".join(line_of("other", n) for n in range(10)))
    (tmp_path / "empty").write_bytes(b"")
    result = scan(tmp_path)
    assert found(result) == {"copy": 50}
    assert (result.files, result.lines, result.unread) == (3, 60, [])
    assert result.bytes == len(PLANTED) + (tmp_path / "clean").stat().st_size


@pytest.mark.parametrize("writer", ["sized", "streamed", "with a table", "under another name"])
def test_a_packed_copy_is_unpacked_whoever_packed_it(tmp_path: Path, writer: str) -> None:
    half = PLANTED[: len(PLANTED) // 2 + 7]
    if writer == "streamed":
        stream = zstandard.ZstdCompressor(level=1).compressobj()
        data = stream.compress(PLANTED) + stream.flush()
    else:
        packer = zstandard.ZstdCompressor(level=1, write_checksum=True)
        data = packer.compress(half) + packer.compress(PLANTED[len(half) :])
    if writer == "with a table":
        data += struct.pack("<II", 0x184D2A5E, 9) + b"123456789"
    (tmp_path / ("a" if writer == "under another name" else "a.zst")).write_bytes(data)
    result = scan(tmp_path)
    assert sum(found(result).values()) == 50  # the line that the frames cut in two among them
    assert (result.unpacked_bytes, result.unread) == (len(PLANTED), [])


def test_of_a_packed_file_that_is_cut_off_the_rest_is_searched_and_the_end_reported(tmp_path: Path) -> None:
    packer = zstandard.ZstdCompressor(level=1, write_checksum=True)
    data = packer.compress(PLANTED) + packer.compress(os.urandom(5000))
    (tmp_path / "cut.zst").write_bytes(data[:-1000])
    result = scan(tmp_path)
    assert found(result) == {"cut.zst": 50}
    assert "ends inside the zstd frame" in result.unread[0].why


def test_a_damaged_frame_is_reported_and_the_frames_behind_it_are_searched(tmp_path: Path) -> None:
    packer = zstandard.ZstdCompressor(level=1, write_checksum=True)
    bad = bytearray(packer.compress(os.urandom(3000)))
    bad[1500] ^= 1
    (tmp_path / "a.zst").write_bytes(bytes(bad) + packer.compress(PLANTED))
    result = scan(tmp_path)
    assert found(result) == {"a.zst": 50}
    assert "cannot be read" in result.unread[0].why


def test_a_file_that_is_no_zstd_by_its_content_is_searched_as_it_is_and_reported(tmp_path: Path) -> None:
    (tmp_path / "a.zst").write_bytes(PLANTED)
    result = scan(tmp_path)
    assert found(result) == {"a.zst": 50}
    assert len(result.unread) == 1


def test_what_another_program_packed_is_reported_as_unread(tmp_path: Path) -> None:
    (tmp_path / "a.gz").write_bytes(gzip.compress(PLANTED))
    assert "gzip" in scan(tmp_path).unread[0].why


def test_a_file_cut_in_the_middle_of_a_line_is_found_by_the_id(tmp_path: Path) -> None:
    hashes = LineHashes()
    hashes.add(LINES[0].rstrip())
    needle_end = len(id_needle(id_of("bot", 0)))
    (tmp_path / "torn").write_bytes(LINES[0][: needle_end + 3])
    (tmp_path / "too short").write_bytes(LINES[0][: needle_end - 1])
    result = scan(tmp_path, hashes=hashes)
    assert [(os.path.basename(f.where), f.by_id, f.by_hash) for f in result.found] == [("torn", 1, 0)]


def test_lines_are_found_by_their_hash_alone(tmp_path: Path) -> None:
    hashes = LineHashes()
    for line in LINES[:10]:
        hashes.add(line.rstrip())
    (tmp_path / "a").write_bytes(PLANTED.rstrip())
    result = scan(tmp_path, AgentLines("nobody"), hashes)
    assert [(f.by_id, f.by_hash) for f in result.found] == [(0, 10)]


def test_hashes_are_bounded_and_say_so() -> None:
    hashes = LineHashes(hashes_max=2)
    for line in LINES[:3]:
        hashes.add(line)
    assert not hashes.complete
    assert len(hashes) == 2
    assert "first 2" in hashes.how


@pytest.mark.parametrize("window", [1, 7, 64, 129])
def test_nothing_is_lost_or_doubled_at_the_borders_of_windows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, window: int
) -> None:
    monkeypatch.setattr(proof_scan, "WINDOW_BYTES", window)
    (tmp_path / "a").write_bytes(PLANTED)
    assert found(scan(tmp_path)) == {"a": 50}


@pytest.mark.parametrize("window", [50, 4096, 5000, 100_000])
def test_ids_in_a_file_without_line_breaks_are_counted_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, window: int
) -> None:
    monkeypatch.setattr(proof_scan, "WINDOW_BYTES", window)
    monkeypatch.setattr(proof_scan, "LINE_BYTES_MAX", 5000)
    (tmp_path / "a").write_bytes(PLANTED.replace(b"\n", b" ") * 3 + b"\0" * 20_000)
    assert found(scan(tmp_path)) == {"a": 150}


@pytest.mark.parametrize("agent", ["bot", "bot_2", "bot_20250115_143000", ODD, 'a"', "\\"])
def test_agents_whose_ids_begin_alike_are_told_apart(tmp_path: Path, agent: str) -> None:
    agents = ["bot", "bot_2", "bot_20250115_143000", "o_bot", ODD, ODD + "_1", 'a"', "a", "\\", "\\\\"]
    for number, each in enumerate(agents):
        (tmp_path / str(number)).write_bytes(b"".join(line_of(each, n) for n in range(4)))
    own = str(agents.index(agent))
    assert found(scan(tmp_path, AgentLines(agent))) == {own: 4}
    assert found(scan(tmp_path, IdLines([id_of(agent, 1), id_of(agent, 2)]))) == {own: 2}
    assert found(scan(tmp_path, HashedLines({text_hash(agent): []}))) == {own: 4}
    assert found(scan(tmp_path, HashedLines({text_hash(agent): [text_hash(id_of(agent, 3))]}))) == {own: 1}


def test_ids_of_many_agents_are_found(tmp_path: Path) -> None:
    agents = [f"agent-{n}" for n in range(40)]
    (tmp_path / "a").write_bytes(b"".join(line_of(agent, n) for agent in agents for n in range(3)))
    assert found(scan(tmp_path, IdLines([id_of(agent, 1) for agent in agents]))) == {"a": 40}


def test_a_reference_to_an_erased_record_is_no_line_of_it(tmp_path: Path) -> None:
    memory_id = id_of("bot", 1)
    assert parse_id(memory_id).agent_id == "bot"
    (tmp_path / "a").write_bytes(line_of("other", 1, memory_id) + b'{"parent_memory_id":"%b"}\n' % memory_id.encode())
    assert found(scan(tmp_path)) == {}


def test_newer_files_are_counted_and_left_out(tmp_path: Path) -> None:
    for name in ("new", "old"):
        (tmp_path / name).write_bytes(PLANTED)
    result = scan(tmp_path, is_newer=lambda path: path.endswith("new"))
    assert found(result) == {"old": 50}
    assert (result.files, result.newer_files) == (1, 1)


def test_links_are_followed_once_and_places_that_overlap_are_scanned_once(tmp_path: Path) -> None:
    inside, outside = tmp_path / "root", tmp_path / "volume"
    (inside / "sub").mkdir(parents=True)
    outside.mkdir()
    (outside / "a").write_bytes(PLANTED)
    (inside / "link").symlink_to(outside)
    (inside / "sub" / "loop").symlink_to(inside)
    (inside / "dangling").symlink_to(tmp_path / "nowhere")
    result = scan_places(
        STORAGE, [str(inside), str(inside / "sub"), str(outside)], needles=AgentLines("bot"), hashes=LineHashes()
    )
    assert (found(result), result.files) == ({"a": 50}, 1)


def test_a_place_that_is_missing_is_reported(tmp_path: Path) -> None:
    result = scan(tmp_path / "unmounted")
    assert "mount its volume" in result.unread[0].why


def test_progress_counts_every_file(tmp_path: Path) -> None:
    for number in range(3):
        (tmp_path / str(number)).write_bytes(b"x")
    told: list[tuple[int, int]] = []
    scan(tmp_path, progress=lambda done, total: told.append((done, total)))
    assert told == [(1, 3), (2, 3), (3, 3)]


def test_frames_of_other_writers_are_walked_and_unpacked() -> None:
    stream = zstandard.ZstdCompressor(level=1).compressobj()
    frame = stream.compress(PLANTED) + stream.flush()
    data = struct.pack("<II", 0x184D2A50, 3) + b"abc" + frame

    def read(offset: int, length: int) -> bytes:
        return data[offset : offset + length]

    assert any_frame_end(read, 0, size=len(data)) == 11
    assert any_frame_end(read, 11, size=len(data)) == len(data)
    assert b"".join(unpack_parts(read, 11, len(frame))) == PLANTED
    for broken in (b"", b"abcd", frame[:10]):
        with pytest.raises(ValueError):
            any_frame_end(lambda offset, length, of=broken: of[offset : offset + length], 0, size=len(broken))
