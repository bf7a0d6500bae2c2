"""The seek table: the bytes of the zstd seekable format, and nothing else is taken for one."""

import random

import pytest
import xxhash
from hypothesis import given
from hypothesis import strategies as st

from memstore.codec.zstd import compress
from memstore.format.frames import (
    FOOTER_BYTES,
    SeekEntry,
    content_check,
    decode_footer,
    decode_seek_table,
    encode_seek_table,
    seek_table_bytes,
)

U32 = st.integers(1, 2**30)


def test_the_layout_is_that_of_the_zstd_seekable_format():
    table = encode_seek_table([SeekEntry(0x11, 0x2222, 0xDEADBEEF), SeekEntry(1, 2, 3)])
    expected = (
        "5e2a4d18 21000000"  # a skippable frame of 33 bytes
        "11000000 22220000 efbeadde"
        "01000000 02000000 03000000"
        "02000000 80 b1ea928f"  # frames, descriptor, magic
    )
    assert table == bytes.fromhex(expected)


@given(st.lists(st.tuples(U32, U32, st.integers(0, 2**32 - 1)), max_size=30))
def test_what_was_written_is_read(entries):
    entries = [SeekEntry(*entry) for entry in entries]
    table = encode_seek_table(entries)
    assert len(table) == seek_table_bytes(len(entries))
    assert decode_footer(table[-FOOTER_BYTES:]) == len(entries)
    size = sum(entry.length for entry in entries) + len(table)
    assert decode_seek_table(table, file_bytes=size) == entries
    for wrong in (size - 1, size + 1):
        with pytest.raises(ValueError, match="do not fill the file"):
            decode_seek_table(table, file_bytes=wrong)


def test_the_check_of_an_entry_is_the_one_that_ends_the_frame():
    data = b"some lines\n" * 100
    assert content_check(compress(data, level=3)) == xxhash.xxh64_intdigest(data) & 0xFFFFFFFF


def test_a_table_cut_anywhere_is_refused():
    table = encode_seek_table([SeekEntry(10, 20, 30)] * 5)
    for length in range(len(table)):
        with pytest.raises(ValueError):
            decode_seek_table(table[:length], file_bytes=50 + len(table))
        with pytest.raises(ValueError):
            decode_seek_table(table[length + 1 :], file_bytes=50 + len(table))


def test_a_flipped_bit_is_refused_or_changes_only_what_the_frames_disprove():
    entries = [SeekEntry(10, 20, 30), SeekEntry(11, 21, 31)]
    table = encode_seek_table(entries)
    for place in range(len(table) * 8):
        broken = bytearray(table)
        broken[place // 8] ^= 1 << place % 8
        try:
            read = decode_seek_table(bytes(broken), file_bytes=21 + len(table))
        except ValueError:
            continue
        assert [entry.length for entry in read] == [10, 11]
        assert read != entries


@pytest.mark.parametrize("entry", [SeekEntry(0, 5, 0), SeekEntry(5, 0, 0), SeekEntry(5, 2**30 + 1, 0)])
def test_a_frame_that_cannot_be_is_refused(entry):
    table = encode_seek_table([entry])
    with pytest.raises(ValueError, match="cannot be"):
        decode_seek_table(table, file_bytes=entry.length + len(table))


def test_random_bytes_are_no_table():
    dice = random.Random(1)
    for length in range(200):
        with pytest.raises(ValueError):
            decode_seek_table(dice.randbytes(length), file_bytes=1000)
