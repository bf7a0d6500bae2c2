"""One zstd frame and back: sizes are stated and believed only where they agree, and damage never passes."""

import threading

import pytest
import xxhash
import zstandard

from memstore.codec.checksum import RunningChecksum, checksum
from memstore.codec.zstd import (
    LEVEL_MAX,
    WINDOW_BYTES_MAX,
    compress,
    compressed_bytes_max,
    decompress,
    read_block_header,
    read_frame_header,
)

TEXT = b'{"memory_id":"a_20250115_000000_0000000000000000000000","content":"it rained"}\n' * 40


@pytest.mark.parametrize("data", [b"", b"\n", TEXT, bytes(range(256)) * 2000, b"\0" * 3_000_000])
@pytest.mark.parametrize("level", [1, 3, 12, 19])
def test_what_went_in_comes_out(data, level):
    frame = compress(data, level=level)
    assert decompress(frame, raw_length=len(data)) == data
    assert len(frame) <= compressed_bytes_max(len(data))


def test_a_frame_states_size_and_checksum_and_needs_no_dictionary():
    frame = compress(TEXT, level=3)
    stated = zstandard.get_frame_parameters(frame)
    assert (stated.content_size, stated.has_checksum, stated.dict_id) == (len(TEXT), True, 0)
    assert int.from_bytes(frame[-4:], "little") == xxhash.xxh64_intdigest(TEXT) & 0xFFFF_FFFF


def test_no_level_takes_a_window_that_common_readers_refuse():
    window = zstandard.ZstdCompressionParameters.from_level(LEVEL_MAX).window_log
    assert 1 << window <= WINDOW_BYTES_MAX


def test_every_flipped_bit_is_an_error_or_changes_nothing():
    frame = compress(TEXT, level=3)
    errors = 0
    for place in range(len(frame) * 8):
        broken = bytearray(frame)
        broken[place // 8] ^= 1 << place % 8
        try:
            assert decompress(bytes(broken), raw_length=len(TEXT)) == TEXT
        except ValueError:
            errors += 1
    assert errors > len(frame) * 7


def test_every_shorter_frame_and_anything_behind_it_is_an_error():
    frame = compress(TEXT, level=3)
    for length in range(len(frame)):
        with pytest.raises(ValueError):
            decompress(frame[:length], raw_length=len(TEXT))
    for more in (b"\0", frame):
        with pytest.raises(ValueError, match="unused data"):
            decompress(frame + more, raw_length=len(TEXT))


def test_a_frame_of_another_size_is_refused_before_it_is_unpacked():
    bomb = compress(b"\0" * 50_000_000, level=3)
    with pytest.raises(ValueError, match="states 50000000 bytes"):
        decompress(bomb, raw_length=1000)


def test_a_frame_that_lies_about_its_size_is_refused():
    frame = bytearray(compress(b"\0" * 60_000, level=3))
    assert read_frame_header(bytes(frame)).content_bytes == 60_000
    frame[5:7] = (1000 - 256).to_bytes(2, "little")
    assert read_frame_header(bytes(frame)).content_bytes == 1000
    with pytest.raises(ValueError, match="zstd"):
        decompress(bytes(frame), raw_length=1000)


@pytest.mark.parametrize(
    "frame",
    [
        zstandard.ZstdCompressor(write_checksum=False).compress(TEXT),
        zstandard.ZstdCompressor(write_checksum=True, write_content_size=False).compress(TEXT),
        zstandard.ZstdCompressor(
            write_checksum=True, dict_data=zstandard.ZstdCompressionDict(b"\x37\xa4\x30\xec" + TEXT * 3, dict_type=1)
        ).compress(TEXT),
        b"\x5e\x2a\x4d\x18\x04\0\0\0abcd",
        b"not zstd at all, but long enough",
    ],
    ids=["no checksum", "no size", "raw dictionary", "skippable", "text"],
)
def test_frames_of_another_make_are_refused(frame):
    with pytest.raises(ValueError):
        decompress(frame, raw_length=len(TEXT))


def test_the_blocks_of_a_frame_lead_to_its_end():
    for data in (b"", b"\0" * 400_000, TEXT * 300, bytes(range(256)) * 3000):
        frame = compress(data, level=3)
        position, is_last = read_frame_header(frame[:18]).header_bytes, False
        while not is_last:
            size, is_last = read_block_header(frame[position : position + 3])
            position += 3 + size
        assert position + 4 == len(frame)


def test_threads_may_compress_and_decompress_at_once():
    wrong = []

    def work(number):
        data = TEXT * (number + 1)
        for _ in range(50):
            if decompress(compress(data, level=3), raw_length=len(data)) != data:
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_a_running_checksum_is_that_of_the_whole():
    running = RunningChecksum()
    for start in range(0, len(TEXT), 100):
        running.update(TEXT[start : start + 100])
    assert running.text() == checksum(TEXT)
    assert RunningChecksum().text() == checksum(b"")
