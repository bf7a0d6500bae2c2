"""Reading packed files: what is not what was written is an error that says where, and how much it touches."""

import threading

import msgspec
import pytest
from packing import WIDTH, MemoryFile, line_of, lines_of, packed

from memstore.codec.checksum import checksum
from memstore.codec.zstd import compress
from memstore.errors import CorruptionError
from memstore.packed import reader as reader_module
from memstore.packed.reader import read_frame, verify_packed


def offsets_of(whole):
    offsets = [0]
    for frame in whole.frames:
        offsets.append(offsets[-1] + frame.length)
    return offsets


def read_all(file, whole):
    return [
        read_frame(file, offset_bytes=offset, frame=frame)
        for offset, frame in zip(offsets_of(whole), whole.frames, strict=False)
    ]


def test_a_packed_file_verifies_and_gives_back_every_line():
    lines = lines_of([300, 5000, 240] * 20)
    file, whole = packed(lines, frame_bytes_max=2000)
    assert len(whole.frames) > 20
    assert verify_packed(file, whole, prefix_bytes=WIDTH) == 60
    assert b"".join(read_all(file, whole)) == b"".join(lines)


def test_every_flipped_byte_is_noticed():
    file, whole = packed(lines_of([220] * 12), frame_bytes_max=900)
    right = read_all(file, whole)
    offsets = offsets_of(whole)
    assert len(right) >= 3
    for place in range(whole.size):
        for mask in (0x01, 0x80, 0xFF):
            broken = MemoryFile(file.data)
            broken.data[place] ^= mask
            with pytest.raises(CorruptionError) as raised:
                verify_packed(broken, whole, prefix_bytes=WIDTH)
            assert raised.value.offset_bytes <= place < raised.value.offset_bytes + raised.value.length_bytes
            for number, frame in enumerate(whole.frames):
                if offsets[number] <= place < offsets[number + 1]:
                    with pytest.raises(CorruptionError) as one:
                        read_frame(broken, offset_bytes=offsets[number], frame=frame)
                    assert (one.value.path, one.value.offset_bytes) == (broken.path, offsets[number])
                    assert (one.value.length_bytes, one.value.records) == (frame.length, frame.records)
                else:  # the others stay readable
                    assert read_frame(broken, offset_bytes=offsets[number], frame=frame) == right[number]


@pytest.mark.parametrize("task_bytes", [1, 2000])
def test_threads_report_the_first_frame_that_is_damaged_and_end(monkeypatch, task_bytes):
    monkeypatch.setattr(reader_module, "_TASK_BYTES", task_bytes)
    file, whole = packed(lines_of([220] * 60), frame_bytes_max=900)
    offsets = offsets_of(whole)
    assert verify_packed(file, whole, prefix_bytes=WIDTH, threads=2) == 60
    for number in (len(whole.frames) - 1, 9, 8, 1):
        file.data[offsets[number] + 20] ^= 1
        with pytest.raises(CorruptionError) as raised:
            verify_packed(file, whole, prefix_bytes=WIDTH, threads=2)
        assert raised.value.offset_bytes == offsets[number]
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("memstore-verify")]


def test_a_file_cut_anywhere_is_noticed():
    file, whole = packed(lines_of([220] * 12), frame_bytes_max=900)
    right = read_all(file, whole)
    offsets = offsets_of(whole)
    for length in range(whole.size):
        cut = MemoryFile(file.data[:length])
        with pytest.raises(CorruptionError, match=f"{length} bytes long"):
            verify_packed(cut, whole, prefix_bytes=WIDTH)
        for number, frame in enumerate(whole.frames):
            if offsets[number + 1] <= length:
                assert read_frame(cut, offset_bytes=offsets[number], frame=frame) == right[number]
            else:
                with pytest.raises(CorruptionError, match="too early"):
                    read_frame(cut, offset_bytes=offsets[number], frame=frame)


def test_swapped_frames_are_noticed():
    file, whole = packed([line_of(number, size=260) for number in range(9)], frame_bytes_max=900)
    first, second = whole.frames[:2]
    ends = offsets_of(whole)
    data = bytes(file.data)
    swapped = MemoryFile(data[ends[1] : ends[2]] + data[: ends[1]] + data[ends[2] :])
    with pytest.raises(CorruptionError):
        verify_packed(swapped, whole, prefix_bytes=WIDTH)
    with pytest.raises(CorruptionError):
        read_frame(swapped, offset_bytes=0, frame=first)
    # Even where the index is swapped with them.
    index = msgspec.structs.replace(whole, frames=[second, first, *whole.frames[2:]])
    with pytest.raises(CorruptionError, match="not sorted"):
        verify_packed(swapped, index, prefix_bytes=WIDTH)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"records": 99}, r"holds \d+ lines, not 99"),
        ({"t_min": 5}, "not from 5 to"),
        ({"t_max": 5}, "to 5"),
        ({"raw_length": 77}, r"states \d+ bytes of content, not 77"),
        ({"xxh3": "0" * 16}, "checksum"),
    ],
)
def test_an_index_that_says_something_else_is_noticed(change, reason):
    file, whole = packed(lines_of([260] * 9))
    frames = [*whole.frames[:2], whole.frames[2]._replace(**change), *whole.frames[3:]]
    with pytest.raises(CorruptionError, match=reason) as raised:
        verify_packed(file, msgspec.structs.replace(whole, frames=frames), prefix_bytes=WIDTH)
    assert raised.value.offset_bytes == offsets_of(whole)[2]


def test_a_wrong_checksum_over_all_lines_and_a_wrong_seek_table_are_noticed():
    file, whole = packed(lines_of([260] * 9))
    with pytest.raises(CorruptionError, match="over all lines"):
        verify_packed(file, msgspec.structs.replace(whole, xxh3="0" * 16), prefix_bytes=WIDTH)
    table = offsets_of(whole)[-1]
    file.data[table + 12] ^= 1  # the content's size of the first frame
    with pytest.raises(CorruptionError, match="does not list the frames") as raised:
        verify_packed(file, whole, prefix_bytes=WIDTH)
    assert (raised.value.offset_bytes, raised.value.records) == (table, 0)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (line_of(2) + line_of(1) + line_of(2), "not sorted"),
        (line_of(1) + line_of(2)[:-1], "has no end"),
        (b"{}\n", "not laid out"),
    ],
)
def test_lines_that_no_writer_packed_are_noticed(content, reason):
    file, whole = packed([line_of(1), line_of(2)], frame_bytes_max=10_000)
    frame = compress(content, level=3)
    lines = content.splitlines()
    index = whole.frames[0]._replace(
        length=len(frame), raw_length=len(content), records=len(lines), xxh3=checksum(frame), t_min=whole.t_min
    )
    if reason == "not sorted":
        index = index._replace(t_min=whole.t_max)
    broken = MemoryFile(frame + file.data[whole.frames[0].length :])
    wrong = msgspec.structs.replace(whole, frames=[index], size=len(broken.data))
    with pytest.raises(CorruptionError, match=reason):
        verify_packed(broken, wrong, prefix_bytes=WIDTH)
