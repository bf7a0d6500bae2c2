"""What can be saved of a day file: blocks by their checksums, and lines that no index lists, by what they say."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from memstore.codec.checksum import checksum
from memstore.format.lines import lines_span_us, split_lines
from memstore.format.manifest import BLOCK_BYTES_MAX, Block
from memstore.format.names import parse_day_file_name
from memstore.fs.storage import Storage, StorageFile
from memstore.manifest.index import SETTLED, BlockRef
from memstore.ops.record_lines import RecordLines
from memstore.ops.repair.good_copies import GoodCopies
from memstore.ops.repair.salvage import FileSalvage, LostRange, Refuse
from memstore.ops.repair.take_piece import read_or_nothing, take_piece
from memstore.timestamps import US_PER_DAY, day_start_us

IN_LANES = "it stands in a lane, which is merged again"
_NO_RECORD = "what stands there is no record of that day"
_READ_BYTES = 4 * 1024 * 1024
_LINE_BYTES_MAX = 1 << 28
"""What has no line break for so long is no line of a record."""


@dataclass(frozen=True, slots=True)
class DayFilePlace:
    """A day file of an agent.

    Attributes:
        path: where it lies.
        listed: whether the MANIFEST names it.
    """

    path: str
    listed: bool


def salvage_day_file(
    storage: Storage,
    place: DayFilePlace,
    blocks: Sequence[BlockRef],
    *,
    lines: RecordLines,
    copies: GoodCopies,
    refuse: Refuse | None,
    ingested_us: int,
) -> FileSalvage:
    """Hold a day file against its blocks, mend what can be mended, and look at what no block covers.

    Args:
        storage: where it lies.
        place: which.
        blocks: those that the MANIFEST lists and that are not taken from lanes instead.
        lines: what its lines must be.
        copies: where good copies may be had.
        refuse: says of each line that no block covers whether it may be taken; None: none is looked at.
        ingested_us: when its youngest lines came.

    Raises:
        StorageError: it cannot be opened.
    """
    result = FileSalvage(os.path.basename(place.path), place.path, place.listed, ingested=ingested_us)
    ordered = sorted(blocks, key=lambda block: (block.offset, -block.length))
    try:
        file: StorageFile | None = storage.open_read(place.path)
    except FileNotFoundError:
        file = None
        result.is_missing = True
    try:
        size = 0 if file is None else file.identity().size_bytes
        end = 0
        contiguous = True
        for block in ordered:
            if block.offset < end:
                result.lost.append(LostRange(block.offset, block.length, block.records, "two lines claim these bytes"))
                continue
            if block.offset > end and file is not None and refuse is not None:
                contiguous &= _adopt(result, file, (end, min(block.offset, size)), lines=lines, refuse=refuse)
            contiguous &= block.offset == end or refuse is not None
            _take(result, file, block, lines=lines, copies=copies)
            end = block.offset + block.length
        if file is not None and refuse is not None and size > end:
            contiguous &= _adopt(result, file, (end, size), lines=lines, refuse=refuse)
    finally:
        if file is not None:
            file.close()
    result.pieces.sort(key=lambda piece: piece.offset)
    if contiguous and result.is_whole:
        result.blocks = _index(result)
    return result


def _index(result: FileSalvage) -> list[Block] | None:
    """The blocks of a file that can stay as it is; None where they leave a gap, or it would hold nothing."""
    end = 0
    blocks: list[Block] = []
    for piece in result.pieces:
        if piece.offset != end:
            return None
        end += piece.length
        blocks.append(Block(piece.length, piece.records, piece.t_min, piece.t_max, piece.xxh3))
    return blocks or None


def _take(
    result: FileSalvage,
    file: StorageFile | None,
    block: BlockRef,
    *,
    lines: RecordLines,
    copies: GoodCopies,
) -> None:
    """Take a block whole, mended or not at all."""
    data = take_piece(result, block, file, copies)
    if data is None:
        return
    listed = split_lines(data)
    if lines.fault(listed, records=block.records, t_min=block.t_min, t_max=block.t_max) is None and not isinstance(
        lines.decoded(listed), str
    ):
        result.pieces.append(block)
        return
    # The bytes are those that were written, and what was written of them is wrong: what they say counts.
    result.changed = True
    flipped, source = result.flipped.pop(block.offset, None), result.copied.pop(block.offset, None)
    for each in _described(data, block.offset, block.file, lines, lambda _: None):
        if isinstance(each, LostRange):
            result.lost.append(each)
        elif isinstance(each, BlockRef):
            result.pieces.append(each)
            if source is not None:
                result.copied[each.offset] = source
            if flipped is not None:
                start = each.offset - block.offset
                result.flipped[each.offset] = flipped[start : start + each.length]


def _adopt(
    result: FileSalvage, file: StorageFile, between: tuple[int, int], *, lines: RecordLines, refuse: Refuse
) -> bool:
    """Take the lines between two offsets that no block covers; whether nothing else stands there."""
    result.changed = True
    is_pure = True
    for offset, data in _windows(file, *between):
        for each in _described(data, offset, result.name, lines, refuse):
            if isinstance(each, BlockRef):
                result.pieces.append(each)
            elif isinstance(each, LostRange):
                result.lost.append(each)
                is_pure = False
            else:
                result.not_taken[each] = result.not_taken.get(each, 0) + 1
                is_pure &= each == IN_LANES
    return is_pure


def _windows(file: StorageFile, start: int, end: int) -> Iterator[tuple[int, bytes]]:
    """Whole lines between two offsets, some megabytes at a time; the last may have no end."""
    offset = start
    rest = b""
    while offset + len(rest) < end:
        at = offset + len(rest)
        data = read_or_nothing(file, at, min(_READ_BYTES, end - at))
        if not data:  # the disk refuses: what stands there is lost, page by page
            data = bytes(min(4096, end - at))
        data = rest + data
        cut = data.rfind(b"\n") + 1
        if offset + len(data) >= end or (not cut and len(data) > _LINE_BYTES_MAX):
            cut = len(data)
        if cut:
            yield offset, data[:cut]
        offset, rest = offset + cut, data[cut:]


def _described(
    data: bytes, offset: int, name: str, lines: RecordLines, refuse: Refuse
) -> Iterator[BlockRef | LostRange | str]:
    """Blocks of lines that are in order and whole; ranges that are not; why a line is left out."""
    parsed = parse_day_file_name(name)
    assert parsed is not None, name
    start_us = day_start_us(parsed[0])
    block = _GrowingBlock(name, lines)
    garbage = 0
    at = offset
    for line in split_lines(data):
        is_good = lines.is_record(line) and start_us <= lines.time_us(line) < start_us + US_PER_DAY
        why = refuse(line) if is_good else None
        if garbage and is_good:
            yield LostRange(at - garbage, garbage, None, _NO_RECORD)
            garbage = 0
        if why is not None or not is_good or not block.fits(line):
            yield from block.closed()
        if why is not None:
            yield why
        elif is_good:
            block.add(line, at)
        else:
            garbage += len(line)
        at += len(line)
    yield from block.closed()
    if garbage:
        yield LostRange(at - garbage, garbage, None, _NO_RECORD)


class _GrowingBlock:
    """Lines that follow each other in a file and in time, until they are a block."""

    def __init__(self, name: str, lines: RecordLines) -> None:
        self._name = name
        self._lines = lines
        self._held: list[bytes] = []
        self._offset = 0
        self._size = 0

    def fits(self, line: bytes) -> bool:
        """Whether a line may follow those that are held."""
        if not self._held:
            return True
        in_order = self._lines.needle(self._held[-1]) < self._lines.needle(line)
        return in_order and self._size + len(line) <= BLOCK_BYTES_MAX

    def add(self, line: bytes, offset: int) -> None:
        """One that fits, and where it stands."""
        if not self._held:
            self._offset = offset
        self._held.append(line)
        self._size += len(line)

    def closed(self) -> Iterator[BlockRef]:
        """The block, if any line is held; then none is."""
        if self._held:
            data = b"".join(self._held)
            t_min, t_max = lines_span_us(self._held, self._lines.prefix_bytes)
            records = len(self._held)
            yield BlockRef(t_min, t_max, self._offset, len(data), records, self._name, checksum(data), SETTLED)
        self._held, self._size = [], 0
