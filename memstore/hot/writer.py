"""Hot files: append sorted lines to a day file, cut into blocks.

The bytes go to a stated offset, the committed length; whatever stands behind it is what a crash left and is cut
first. Nothing here is durable until the caller syncs, and nothing is visible until the MANIFEST says so.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from memstore.codec.checksum import checksum
from memstore.format.lines import bare_lines, lines_span_us
from memstore.format.manifest import BLOCK_BYTES_MAX, Block
from memstore.fs.storage import StorageFile


@dataclass(frozen=True, slots=True)
class SortedPart:
    """Whole lines in order, with what is known of them, so that they need not be parsed again."""

    data: bytes
    records: int
    t_min: int
    t_max: int


def append_parts(file: StorageFile, *, offset: int, parts: list[SortedPart], prefix_bytes: int) -> list[Block]:
    """Write one sorted run at an offset and describe it as blocks.

    Args:
        file: the day file, open for writing, not longer than ``offset``.
        offset: the committed length.
        parts: whole lines; the parts follow each other in order and do not overlap.
        prefix_bytes: length of what every line of the agent starts with.

    Returns:
        The blocks, in order, without gaps.
    """
    blocks: list[Block] = []
    written: list[bytes] = []
    for block, data in cut_blocks(parts, prefix_bytes):
        blocks.append(block)
        written.append(data)
    file.write(b"".join(written), offset)
    return blocks


def cut_blocks(parts: list[SortedPart], prefix_bytes: int) -> Iterator[tuple[Block, bytes]]:
    """Group parts into blocks of at most 64 KiB; a part over that is cut at its lines.

    Deterministic, because recovery repeats it.
    """
    pending: list[SortedPart] = []
    size = 0
    for part in parts:
        for piece in [part] if len(part.data) <= BLOCK_BYTES_MAX else _cut_lines(part, prefix_bytes):
            if pending and size + len(piece.data) > BLOCK_BYTES_MAX:
                yield _block(pending)
                pending, size = [], 0
            pending.append(piece)
            size += len(piece.data)
    if pending:
        yield _block(pending)


def _block(parts: list[SortedPart]) -> tuple[Block, bytes]:
    data = parts[0].data if len(parts) == 1 else b"".join([part.data for part in parts])
    records = sum(part.records for part in parts)
    return Block(len(data), records, parts[0].t_min, parts[-1].t_max, checksum(data)), data


def _cut_lines(part: SortedPart, prefix_bytes: int) -> Iterator[SortedPart]:
    lines = bare_lines(part.data)
    start = size = 0
    for index, line in enumerate(lines):
        length = len(line) + 1
        if index > start and size + length > BLOCK_BYTES_MAX:
            yield part_of_lines(lines[start:index], prefix_bytes)
            start, size = index, 0
        size += length
    yield part_of_lines(lines[start:], prefix_bytes)


def part_of_lines(lines: list[bytes], prefix_bytes: int) -> SortedPart:
    """A part of sorted lines without line breaks; at least one."""
    return SortedPart(b"\n".join(lines) + b"\n", len(lines), *lines_span_us(lines, prefix_bytes))
