"""The index of a packed file from the file alone: the same as was written, or what is whole and where it is not."""

import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packing import T0_US, WIDTH, MemoryFile, lines_of, packed

from memstore.codec.zstd import FRAME_MAGIC, compress
from memstore.format.frames import seek_table_bytes
from memstore.packed.kinds import KindCounter
from memstore.packed.rebuild import rebuild_frames


def rebuilt(file, **more):
    return rebuild_frames(file, prefix_bytes=WIDTH, ingested_us=T0_US, **more)


@pytest.fixture(scope="module")
def small():
    lines = lines_of([220] * 12)
    return (*packed(lines, frame_bytes_max=900), lines)


def table_offset(whole):
    return whole.size - seek_table_bytes(len(whole.frames))


@pytest.mark.parametrize("sizes", [[250], [250] * 40, [100_000, 250, 700_000, 250, 250]])
@pytest.mark.parametrize("level", [1, 12])
def test_the_rebuilt_index_is_the_one_that_was_written(sizes, level):
    lines = lines_of(sizes)
    file, whole = packed(lines, level=level)
    counter, seen = KindCounter(), []

    def on_lines(data):
        counter.add(data, ingested_us=T0_US)
        seen.append(data)

    index = rebuilt(file, on_lines=on_lines)
    assert index.is_whole
    assert (index.frames, index.xxh3, index.size) == (whole.frames, whole.xxh3, whole.size)
    assert (counter.kinds(), counter.own) == (whole.kinds, whole.own)
    assert b"".join(seen) == b"".join(lines)


def test_no_seek_table_and_every_cut_one_is_told_and_not_needed(small):
    file, whole, _ = small
    for length in range(table_offset(whole), whole.size):
        index = rebuilt(MemoryFile(file.data[:length]))
        assert index.frames == whole.frames
        assert index.xxh3 == whole.xxh3
        assert index.table_damage is not None
        assert not index.is_whole
        # The first bytes of a table that is all but gone cannot be told from those of a frame.
        assert not index.damaged or length - table_offset(whole) < 4


def test_every_flipped_bit_of_the_seek_table_is_told_and_not_needed(small):
    file, whole, _ = small
    for place in range(table_offset(whole) * 8, whole.size * 8):
        broken = MemoryFile(file.data)
        broken.data[place // 8] ^= 1 << place % 8
        index = rebuilt(broken)
        assert index.frames == whole.frames
        assert index.table_damage is not None
        assert not index.damaged


def test_every_flipped_byte_of_a_frame_costs_that_frame_only(small):
    file, whole, _ = small
    ends = [sum(frame.length for frame in whole.frames[: number + 1]) for number in range(len(whole.frames))]
    for keep_table in (True, False):
        for place in range(ends[-1]):
            broken = MemoryFile(file.data if keep_table else file.data[: ends[-1]])
            broken.data[place] ^= 0x55
            index = rebuilt(broken)
            hit = next(number for number, end in enumerate(ends) if place < end)
            assert index.frames == [frame for number, frame in enumerate(whole.frames) if number != hit]
            assert [(each.offset, each.length) for each in index.damaged] == [
                (ends[hit] - whole.frames[hit].length, whole.frames[hit].length)
            ]
            assert not index.is_whole
            assert (index.table_damage is None) == keep_table


def test_frames_damaged_side_by_side_are_told_one_by_one_where_the_seek_table_knows_them(small):
    file, whole, _ = small
    first, second = whole.frames[:2]
    broken = MemoryFile(file.data)
    for place in (3, first.length + 2):
        broken.data[place] ^= 0xFF
    index = rebuilt(broken)
    assert [(each.offset, each.length) for each in index.damaged] == [(0, first.length), (first.length, second.length)]
    assert index.frames == whole.frames[2:]
    broken.data = broken.data[: table_offset(whole)]
    index = rebuilt(broken)
    assert [(each.offset, each.length) for each in index.damaged] == [(0, first.length + second.length)]


def test_a_file_cut_anywhere_gives_its_whole_frames_and_says_that_it_is_not_whole(small):
    file, whole, _ = small
    for length in range(table_offset(whole)):
        index = rebuilt(MemoryFile(file.data[:length]))
        count = len(index.frames)
        end = sum(frame.length for frame in index.frames)
        assert index.frames == whole.frames[:count]
        assert end <= length < end + whole.frames[count].length
        assert not index.is_whole
        assert [(each.offset, each.length) for each in index.damaged] == ([(end, length - end)] if length > end else [])


def test_frames_of_another_agent_or_of_no_lines_are_told(small):
    file, whole, _ = small
    index = rebuild_frames(file, prefix_bytes=WIDTH + 3, ingested_us=1)
    assert not index.found
    assert {each.reason.partition(":")[0] for each in index.damaged} == {
        "a whole frame, but not of this agent's records"
    }
    strange = compress(b"no line break", level=3)
    index = rebuilt(MemoryFile(strange + file.data))
    assert index.frames == whole.frames
    assert index.damaged[0].reason == "a whole frame, but not of whole lines"


def test_frame_starts_inside_damage_do_not_mislead(small):
    file, whole, _ = small
    noise = FRAME_MAGIC * 50 + compress(b"x" * 1000, level=1)[:-1] + FRAME_MAGIC
    index = rebuilt(MemoryFile(noise + file.data[: table_offset(whole)]))
    assert index.frames == whole.frames
    assert [(each.offset, each.length) for each in index.damaged] == [(0, len(noise))]


@given(st.binary(max_size=400))
def test_any_bytes_are_read_without_an_error(data):
    index = rebuilt(MemoryFile(data))
    assert not index.is_whole
    assert sum(each.length for each in index.damaged) <= len(data)


def test_a_frame_that_claims_a_hundred_megabytes_takes_no_memory(small):
    frame = compress(b"".join(small[2]), level=3)
    descriptor = bytes([0b1010_0100])  # content size in four bytes, single segment, checksum
    bomb = frame[:4] + descriptor + (100 << 20).to_bytes(4, "little") + frame[7:]
    tracemalloc.start()
    try:
        index = rebuilt(MemoryFile(bomb))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert not index.found
    assert [each.reason for each in index.damaged] == ["a zstd frame states more content than its blocks can hold"]
    assert peak < 10_000_000
