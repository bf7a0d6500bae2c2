"""The index of a packed file from the file alone, for when its MANIFEST is lost or the file is damaged.

The file is walked from frame to frame: a frame's blocks say where it ends, its own checksum whether it is whole. Where
none is, the walk goes on at the next place where a whole frame begins, and what lies between is reported. The seek
table is not needed for that; it tells whether frames are missing, and where one damaged frame ends and the next begins.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from memstore.codec.checksum import RunningChecksum, checksum
from memstore.codec.zstd import (
    BLOCK_CONTENT_BYTES_MAX,
    BLOCK_HEADER_BYTES,
    CHECKSUM_BYTES,
    FRAME_MAGIC,
    HEADER_BYTES_MAX,
    compressed_bytes_max,
    decompress,
    read_block_header,
    read_frame_header,
)
from memstore.format.frames import (
    FOOTER_BYTES,
    TABLE_END,
    TABLE_START,
    SeekEntry,
    content_check,
    decode_footer,
    decode_seek_table,
    seek_table_bytes,
)
from memstore.format.lines import lines_span_us, split_lines
from memstore.format.manifest import Frame
from memstore.fs.storage import StorageFile

_WINDOW_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class FoundFrame:
    """A whole frame, where it begins, and its line of a seek table."""

    offset: int
    frame: Frame
    entry: SeekEntry


@dataclass(frozen=True, slots=True)
class DamagedRange:
    """Bytes that are no whole frame of the agent's lines, and why."""

    offset: int
    length: int
    reason: str


@dataclass(frozen=True, slots=True)
class RebuiltIndex:
    """What a packed file holds, as far as it can be read.

    Attributes:
        size: bytes of the whole file.
        xxh3: checksum over all lines that were found; that of the file where it is whole.
        found: whole frames, in order.
        damaged: ranges between and behind them, in order; how many lines were in one, nobody knows. Each frame that the
            seek table lists is a range of its own.
        table_damage: why the seek table is not to be believed: then frames may be missing at the end without a trace.
            None where it lists just what is there.
    """

    size: int
    xxh3: str
    found: list[FoundFrame]
    damaged: list[DamagedRange]
    table_damage: str | None

    @property
    def frames(self) -> list[Frame]:
        """The whole frames, as a MANIFEST lists them."""
        return [each.frame for each in self.found]

    @property
    def is_whole(self) -> bool:
        """Whether the file is just as it was written."""
        return self.table_damage is None and not self.damaged


def rebuild_frames(
    file: StorageFile, *, prefix_bytes: int, ingested_us: int, on_lines: Callable[[bytes], None] | None = None
) -> RebuiltIndex:
    """Read a packed file without its index.

    Args:
        file: the packed file.
        prefix_bytes: length of what every line of the agent starts with.
        ingested_us: when its youngest line reached a day file: the file does not say.
        on_lines: told the lines of each whole frame, in order.

    Raises:
        StorageError: the disk refused. Damage is not raised but reported.
    """
    size = file.identity().size_bytes
    entries: list[SeekEntry] | None = None
    table_damage = None
    try:
        entries = _read_seek_table(file, size)
    except ValueError as error:
        table_damage = str(error)
    all_lines = RunningChecksum()
    found: list[FoundFrame] = []
    damaged: list[DamagedRange] = []
    frames_end = size if entries is None else size - seek_table_bytes(len(entries))
    for offset, packed, lines in _walk(file, frames_end, damaged):
        try:
            frame = _describe(packed, lines, prefix_bytes, ingested_us)
        except ValueError as error:
            damaged.append(DamagedRange(offset, len(packed), str(error)))
            continue
        found.append(FoundFrame(offset, frame, SeekEntry(len(packed), len(lines), content_check(packed))))
        all_lines.update(lines)
        if on_lines is not None:
            on_lines(lines)
    if entries is None:
        damaged = _without_seek_table(file, found, damaged, size)
    elif _lists(entries, found):
        damaged = [part for each in damaged for part in _by_frame(each, entries)]
    else:
        table_damage = "the seek table does not list the frames that are there"
    return RebuiltIndex(size, all_lines.text(), found, damaged, table_damage)


def _read_seek_table(file: StorageFile, size: int) -> list[SeekEntry]:
    """The seek table; ValueError where it is not whole."""
    frames = decode_footer(file.read(max(size - FOOTER_BYTES, 0), FOOTER_BYTES))
    length = seek_table_bytes(frames)
    if length > size:
        raise ValueError("the seek table is longer than the file")
    return decode_seek_table(file.read(size - length, length), file_bytes=size)


def _walk(file: StorageFile, end: int, damaged: list[DamagedRange]) -> Iterator[tuple[int, bytes, bytes]]:
    """Offset, bytes and content of each whole frame before ``end``; ranges that are none are added to ``damaged``."""
    offset = 0
    while offset < end:
        try:
            packed, lines = _frame_at(file, offset, end)
        except ValueError as error:
            behind = _next_frame(file, offset + 1, end)
            damaged.append(DamagedRange(offset, behind - offset, str(error)))
            offset = behind
            continue
        yield offset, packed, lines
        offset += len(packed)


def _frame_at(file: StorageFile, offset: int, end: int) -> tuple[bytes, bytes]:
    """The frame that begins at an offset, and its content; ValueError where no whole frame does."""
    header = read_frame_header(file.read(offset, min(HEADER_BYTES_MAX, end - offset)))
    limit = min(end, offset + compressed_bytes_max(header.content_bytes))
    position, blocks, is_last = offset + header.header_bytes, 0, False
    while not is_last:
        block_bytes, is_last = read_block_header(file.read(position, BLOCK_HEADER_BYTES))
        position += BLOCK_HEADER_BYTES + block_bytes
        blocks += 1
        if position + CHECKSUM_BYTES > limit:
            raise ValueError("a zstd frame begins here and does not end")
    if header.content_bytes > blocks * BLOCK_CONTENT_BYTES_MAX:  # so that a damaged header takes no memory
        raise ValueError("a zstd frame states more content than its blocks can hold")
    packed = file.read(offset, position + CHECKSUM_BYTES - offset)
    return packed, decompress(packed, raw_length=header.content_bytes)


def _next_frame(file: StorageFile, start: int, end: int) -> int:
    """Where the first whole frame at or behind ``start`` begins, or ``end``."""
    position = start
    while position < end:
        data = file.read(position, min(_WINDOW_BYTES, end - position))
        at = data.find(FRAME_MAGIC)
        while at >= 0:
            try:
                _frame_at(file, position + at, end)
            except ValueError:
                at = data.find(FRAME_MAGIC, at + 1)
            else:
                return position + at
        position += max(len(data) - len(FRAME_MAGIC) + 1, 1)
    return end


def _describe(packed: bytes, lines: bytes, prefix_bytes: int, ingested_us: int) -> Frame:
    if not lines.endswith(b"\n"):
        raise ValueError("a whole frame, but not of whole lines")
    try:
        t_min, t_max = lines_span_us((lines, lines[lines.rfind(b"\n", 0, -1) + 1 :]), prefix_bytes)
    except ValueError as error:
        raise ValueError(f"a whole frame, but not of this agent's records: {error}") from error
    return Frame(len(packed), len(lines), len(split_lines(lines)), t_min, t_max, ingested_us, checksum(packed))


def _offsets(entries: list[SeekEntry]) -> list[int]:
    """Where each frame begins, and where the last one ends."""
    return list(itertools.accumulate((entry.length for entry in entries), initial=0))


def _lists(entries: list[SeekEntry], found: list[FoundFrame]) -> bool:
    """Whether the seek table says of every frame that was found just what it is."""
    listed = dict(zip(_offsets(entries), entries, strict=False))
    return all(listed.get(each.offset) == each.entry for each in found)


def _by_frame(damage: DamagedRange, entries: list[SeekEntry]) -> Iterator[DamagedRange]:
    """A damaged range, cut where the seek table says that a frame ends."""
    end = damage.offset + damage.length
    cuts = [damage.offset, *(offset for offset in _offsets(entries) if damage.offset < offset < end), end]
    for start, stop in itertools.pairwise(cuts):
        yield DamagedRange(start, stop - start, damage.reason)


def _without_seek_table(
    file: StorageFile, found: list[FoundFrame], damaged: list[DamagedRange], size: int
) -> list[DamagedRange]:
    """The damaged ranges without the last one where that is what is left of the seek table: no record was in it."""
    if not damaged or damaged[-1].offset + damaged[-1].length != size:
        return damaged
    last = damaged[-1]
    rest = file.read(last.offset, seek_table_bytes(len(found) + len(damaged) - 1))
    is_table = rest.startswith(TABLE_START) or (len(rest) == last.length and rest.endswith(TABLE_END))
    return damaged[:-1] if is_table else damaged
