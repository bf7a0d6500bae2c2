"""The seek table at the end of a packed file: where each zstd frame begins and what it holds.

The layout is that of the zstd seekable format, so that other tools find their way too, and readers that know nothing
of it skip it: to them it is a skippable frame. Everything little-endian (docs/FORMAT.md, "Packed files")::

    u32 0x184D2A5E   u32 bytes that follow
    per frame:  u32 bytes of the frame   u32 bytes of its content   u32 low half of XXH64 of its content
    u32 frames       u8 0x80 (entries have checksums)   u32 0x8F92EAB1

The table has no checksum of its own: what it says is proved by the frames.
"""

from __future__ import annotations

import itertools
import struct
from collections.abc import Sequence
from typing import NamedTuple

from memstore.codec.zstd import CONTENT_BYTES_MAX

SKIPPABLE_MAGIC = 0x184D2A5E
SEEKABLE_MAGIC = 0x8F92EAB1
TABLE_START = SKIPPABLE_MAGIC.to_bytes(4, "little")
TABLE_END = SEEKABLE_MAGIC.to_bytes(4, "little")
FRAMES_MAX = 1 << 27
"""The limit of the zstd seekable format; a tebibyte of lines in frames of 8 KiB."""

_HAS_CHECKSUMS = 0x80
_HEAD = struct.Struct("<II")
_ENTRY = struct.Struct("<III")
_FOOTER = struct.Struct("<IBI")
assert (_HEAD.size, _ENTRY.size, _FOOTER.size) == (8, 12, 9)

FOOTER_BYTES = _FOOTER.size


class SeekEntry(NamedTuple):
    """One frame: bytes of the frame itself, bytes of its content, low half of XXH64 of its content."""

    length: int
    raw_length: int
    content_check: int


def content_check(frame: bytes) -> int:
    """What the entry of a frame says of its content: the checksum that zstd itself writes at the frame's end."""
    return int.from_bytes(frame[-4:], "little")


def seek_table_bytes(frames: int) -> int:
    """How long the table of so many frames is."""
    return _HEAD.size + frames * _ENTRY.size + _FOOTER.size


def encode_seek_table(entries: Sequence[SeekEntry]) -> bytes:
    """The skippable frame that ends a packed file."""
    assert len(entries) <= FRAMES_MAX, len(entries)
    head = _HEAD.pack(SKIPPABLE_MAGIC, seek_table_bytes(len(entries)) - _HEAD.size)
    footer = _FOOTER.pack(len(entries), _HAS_CHECKSUMS, SEEKABLE_MAGIC)
    return b"".join((head, *itertools.starmap(_ENTRY.pack, entries), footer))


def decode_footer(footer: bytes) -> int:
    """How many frames the table lists, from the last `FOOTER_BYTES` of a file.

    Raises:
        ValueError: no such table ends here.
    """
    if len(footer) != FOOTER_BYTES:
        raise ValueError("the file is too short for a seek table")
    frames, descriptor, magic = _FOOTER.unpack(footer)
    if magic != SEEKABLE_MAGIC:
        raise ValueError("the file does not end with a seek table")
    if descriptor != _HAS_CHECKSUMS or frames > FRAMES_MAX:
        raise ValueError("the footer of the seek table is damaged")
    return int(frames)


def decode_seek_table(table: bytes, *, file_bytes: int) -> list[SeekEntry]:
    """The entries, in the order of the frames.

    Args:
        table: the last `seek_table_bytes` of a file.
        file_bytes: size of the whole file, which the frames and the table must fill.

    Raises:
        ValueError: the table does not agree with itself or with the file's size.
    """
    frames = decode_footer(table[-FOOTER_BYTES:])
    if len(table) != seek_table_bytes(frames):
        raise ValueError(f"a seek table of {frames} frames takes {seek_table_bytes(frames)} bytes, not {len(table)}")
    if _HEAD.unpack_from(table) != (SKIPPABLE_MAGIC, len(table) - _HEAD.size):
        raise ValueError("the seek table does not begin where its footer says")
    entries = [SeekEntry(*fields) for fields in _ENTRY.iter_unpack(table[_HEAD.size : -FOOTER_BYTES])]
    if any(not entry.length or not 0 < entry.raw_length <= CONTENT_BYTES_MAX for entry in entries):
        raise ValueError("the seek table lists a frame that cannot be")
    if sum(entry.length for entry in entries) + len(table) != file_bytes:
        raise ValueError("the frames of the seek table do not fill the file")
    return entries
