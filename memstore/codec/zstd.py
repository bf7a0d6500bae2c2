"""Shrinks: one zstd frame for some bytes, and back.

Every frame states the size of its content and ends with a checksum over it: without that, 45 % of single bit flips
decode to wrong bytes in silence. No dictionary, and a window of at most 2^27: beyond that, common readers of zstd files
refuse (FACTS).

Compressors and decompressors are costly to make (at level 12 with tables of 16 MB) and may serve one thread at a time:
each is taken from a shelf for one call and put back.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import IO, cast

import zstandard

from memstore.errors import StorageError

FRAME_MAGIC = b"\x28\xb5\x2f\xfd"
LEVEL_MIN = 1
LEVEL_MAX = 22
CONTENT_BYTES_MAX = 1 << 30
"""What one frame may hold: the limit of the zstd seekable format, and of a record's line."""
WINDOW_BYTES_MAX = 1 << 27
HEADER_BYTES_MAX = 18
BLOCK_HEADER_BYTES = 3
CHECKSUM_BYTES = 4

BLOCK_CONTENT_BYTES_MAX = 128 * 1024
"""No block of a frame holds more, and none is longer."""

_BLOCK_REPEATED_BYTE = 1
_BLOCK_RESERVED = 3
_SKIPPABLE_MAGIC = b"\x2a\x4d\x18"
_SKIPPABLE_FIRST = 5
_SKIPPABLE_HEADER_BYTES = 8
_PART_BYTES = 1 << 20

ReadAt = Callable[[int, int], bytes]
"""Gives the bytes at an offset, of a length; fewer only at the end."""


_SPARE_MAX = 4
"""Idle compressors kept for a level, and idle decompressors: what one busy store uses at a time on a small machine."""

# Shelves and not thread-locals, because threads that compress come and go with each file. One pop and one append are
# atomic, so there is no lock that a fork could find taken.
_compressors: defaultdict[int, deque[zstandard.ZstdCompressor]] = defaultdict(lambda: deque(maxlen=_SPARE_MAX))
_decompressors: deque[zstandard.ZstdDecompressor] = deque(maxlen=_SPARE_MAX)


@dataclass(frozen=True, slots=True)
class FrameHeader:
    """What the first bytes of a frame say.

    Attributes:
        header_bytes: how long the header is; the first block follows.
        content_bytes: how many bytes the frame holds.
    """

    header_bytes: int
    content_bytes: int


def compress(data: bytes, *, level: int) -> bytes:
    """One frame that holds ``data``, with its size and its checksum.

    Args:
        data: at most `CONTENT_BYTES_MAX`.
        level: 1 (fast) to 22 (small).

    Raises:
        StorageError: zstd could not, which it says only where memory is short.
    """
    assert len(data) <= CONTENT_BYTES_MAX, len(data)
    assert LEVEL_MIN <= level <= LEVEL_MAX, level
    shelf = _compressors[level]
    try:
        compressor = shelf.pop()
    except IndexError:
        # Up to level 22 zstd chooses windows of at most 2^27 by itself.
        compressor = zstandard.ZstdCompressor(level=level, write_checksum=True, write_content_size=True)
    try:
        frame = compressor.compress(data)
    except zstandard.ZstdError as error:
        raise StorageError(f"zstd cannot compress {len(data)} bytes at level {level}: {error}") from error
    shelf.append(compressor)
    return frame


def decompress(frame: bytes, *, raw_length: int) -> bytes:
    """What a frame of `compress` holds: exactly ``raw_length`` bytes.

    No more memory is taken than ``raw_length`` says, whatever the frame states.

    Raises:
        ValueError: it is no such frame, is damaged, holds another number of bytes, or something stands behind it.
    """
    header = read_frame_header(frame)
    if header.content_bytes != raw_length:
        raise ValueError(f"the frame states {header.content_bytes} bytes of content, not {raw_length}")
    try:
        decompressor = _decompressors.pop()
    except IndexError:
        decompressor = zstandard.ZstdDecompressor()
    try:
        data = decompressor.decompress(frame, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise ValueError(f"zstd: {error}") from error
    _decompressors.append(decompressor)
    if len(data) != raw_length:
        raise ValueError(f"the frame holds {len(data)} bytes, not {raw_length}")
    return data


def read_frame_header(start: bytes) -> FrameHeader:
    """The header of a frame of `compress`; ``start`` is at least its first `HEADER_BYTES_MAX` bytes, or all of it.

    Raises:
        ValueError: these are not the first bytes of such a frame.
    """
    if start[:4] != FRAME_MAGIC:
        raise ValueError("no zstd frame begins here")
    try:
        stated = zstandard.get_frame_parameters(start[:HEADER_BYTES_MAX])
        header_bytes = zstandard.frame_header_size(start[:HEADER_BYTES_MAX])
    except zstandard.ZstdError as error:
        raise ValueError(f"zstd: {error}") from error
    if not stated.has_checksum or stated.dict_id or stated.window_size > WINDOW_BYTES_MAX:
        raise ValueError("the frame has no checksum, needs a dictionary, or has a window over 2^27")
    # A frame that does not state its size gives the highest number there is.
    if stated.content_size > CONTENT_BYTES_MAX:
        raise ValueError(f"the frame states {stated.content_size} bytes of content, more than there can be")
    return FrameHeader(header_bytes, stated.content_size)


def read_block_header(header: bytes) -> tuple[int, bool]:
    """How many bytes of a frame follow this block header for its block, and whether the block is the frame's last.

    Behind the last block stand `CHECKSUM_BYTES`: the low half of XXH64 of the content, little-endian (RFC 8878).

    Raises:
        ValueError: not three bytes that may stand there.
    """
    if len(header) != BLOCK_HEADER_BYTES:
        raise ValueError("the file ends inside a zstd frame")
    number = int.from_bytes(header, "little")
    last, kind, size = bool(number & 1), number >> 1 & 3, number >> 3
    if kind == _BLOCK_RESERVED or size > BLOCK_CONTENT_BYTES_MAX:
        raise ValueError("a zstd frame goes on with no block")
    return 1 if kind == _BLOCK_REPEATED_BYTE else size, last


def compressed_bytes_max(content_bytes: int) -> int:
    """No frame that holds so many bytes is longer than this (``ZSTD_COMPRESSBOUND``, generously)."""
    return content_bytes + (content_bytes >> 8) + 1024


def any_frame_end(read: ReadAt, offset: int, *, size: int) -> int:
    """Where a frame ends, of whatever writer: with or without a checksum or a size, or one that readers skip.

    Args:
        read: gives the bytes at an offset, fewer only at the end of the file.
        offset: where the frame begins.
        size: of the whole file.

    Raises:
        ValueError: no frame begins there, or the file ends within it.
    """
    start = read(offset, HEADER_BYTES_MAX)
    if is_skippable(start):
        position = offset + _SKIPPABLE_HEADER_BYTES + int.from_bytes(start[4:_SKIPPABLE_HEADER_BYTES], "little")
    elif start.startswith(FRAME_MAGIC):
        try:
            position = offset + zstandard.frame_header_size(start)
            has_checksum = zstandard.get_frame_parameters(start).has_checksum
        except zstandard.ZstdError as error:
            raise ValueError(f"zstd: {error}") from error
        last = False
        while not last:
            length, last = read_block_header(read(position, BLOCK_HEADER_BYTES))
            position += BLOCK_HEADER_BYTES + length
        position += CHECKSUM_BYTES if has_checksum else 0
    else:
        raise ValueError(f"no zstd frame begins at offset {offset}")
    if position > size:
        raise ValueError(f"the file ends inside the zstd frame at offset {offset}")
    return position


def is_skippable(start: bytes) -> bool:
    """Whether a frame that begins like this holds no content for readers of zstd (a seek table is one)."""
    return (
        start[1:4] == _SKIPPABLE_MAGIC and start[0] >> 4 == _SKIPPABLE_FIRST and len(start) >= _SKIPPABLE_HEADER_BYTES
    )


def unpack_parts(read: ReadAt, offset: int, length: int) -> Iterator[bytes]:
    """What a frame of whatever writer holds, in parts of bounded size, as far as it can be unpacked.

    A frame that is cut off gives what it has and raises nothing: `any_frame_end` tells.

    Raises:
        ValueError: it is damaged, or needs a dictionary or too much memory.
    """
    source = cast("IO[bytes]", _Range(read, offset, length))  # of a stream, only read() is asked for
    try:
        with zstandard.ZstdDecompressor(max_window_size=WINDOW_BYTES_MAX).stream_reader(source) as reader:
            while part := reader.read(_PART_BYTES):
                yield part
    except zstandard.ZstdError as error:
        raise ValueError(f"zstd: {error}") from error


class _Range:
    """Some bytes of a file as the stream that zstandard reads from."""

    def __init__(self, read: ReadAt, offset: int, length: int) -> None:
        self._read = read
        self._position = offset
        self._end = offset + length

    def read(self, length: int = -1) -> bytes:
        left = self._end - self._position
        data = self._read(self._position, left if length < 0 else min(length, left))
        self._position += len(data)
        return data
