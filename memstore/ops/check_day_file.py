"""A day file, every byte: its blocks against what the MANIFEST says of them, and their lines."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence

from memstore.codec.checksum import checksum
from memstore.errors import CorruptionError, StorageError
from memstore.format.lines import split_lines
from memstore.fs.handles import ReadHandles
from memstore.fs.storage import StorageFile
from memstore.fs.verified import read_listed
from memstore.manifest.index import BlockRef
from memstore.ops.finding import Finding
from memstore.ops.reading_files import FileResult, IdPiece, IdRun, OnBytes
from memstore.ops.record_lines import RecordLines

SALVAGE = "keep its other blocks, and set the file aside with the damaged ones"
_READ_BYTES = 1 << 20
"""Blocks that lie one behind the other are read together: a call for each of 64 KiB costs as much as checking it."""


def check_blocks(
    path: str, agent: str, blocks: Sequence[BlockRef], *, handles: ReadHandles, lines: RecordLines, on_bytes: OnBytes
) -> FileResult:
    """Hold a day file against its blocks.

    Args:
        path: the day file.
        agent: whose.
        blocks: all that count, in any order.
        handles: open files.
        lines: what its lines must be.
        on_bytes: told of what is read.

    Raises:
        FileNotFoundError: it is not there.
        StorageError: it cannot be opened.
    """
    result = FileResult()
    file = handles.get(path)
    run: list[IdPiece] = []
    last_needle = b""
    for block, data in _read(file, sorted(blocks, key=_offset), on_bytes):
        error = _error(file, block, data, lines)
        if error is not None:
            result.findings.append(
                Finding(
                    "day_file",
                    "damage",
                    path,
                    error,
                    block.offset,
                    block.length,
                    records=block.records,
                    agent=agent,
                    repair=SALVAGE,
                )
            )
            continue
        result.records += block.records
        first_needle = data[: lines.needle_bytes]
        if run and first_needle <= last_needle:
            result.runs.append(IdRun(tuple(run)))
            run = []
        run.append(
            IdPiece(
                path,
                block.offset,
                block.length,
                block.records,
                block.t_min,
                block.t_max,
                functools.partial(_load, handles, path, block),
            )
        )
        last_line = data.rfind(b"\n", 0, -1) + 1
        last_needle = data[last_line : last_line + lines.needle_bytes]
    if run:
        result.runs.append(IdRun(tuple(run)))
    return result


def _error(file: StorageFile, block: BlockRef, data: bytes, lines: RecordLines) -> str | None:
    """Why a block is not what it should be; None where it is."""
    if len(data) != block.length or checksum(data) != block.xxh3:
        try:  # once more, by itself: it says what is wrong, and a merge may have written it again meanwhile
            data = read_listed(file, block)
        except CorruptionError as error:
            return error.reason
        except StorageError as error:
            return f"it cannot be read: {error}"
    listed = split_lines(data)
    fault = lines.fault(listed, records=block.records, t_min=block.t_min, t_max=block.t_max)
    if fault is not None:
        return fault
    decoded = lines.decoded(listed)
    return decoded if isinstance(decoded, str) else None


def _read(file: StorageFile, blocks: Sequence[BlockRef], on_bytes: OnBytes) -> Iterator[tuple[BlockRef, bytes]]:
    """Each block with its bytes; too few where the file ends before, none where the disk refuses."""
    start = 0
    while start < len(blocks):
        stop = start + 1
        while (
            stop < len(blocks)
            and blocks[stop].offset == blocks[stop - 1].offset + blocks[stop - 1].length
            and blocks[stop].offset + blocks[stop].length - blocks[start].offset <= _READ_BYTES
        ):
            stop += 1
        first = blocks[start].offset
        length = blocks[stop - 1].offset + blocks[stop - 1].length - first
        on_bytes(length)
        try:
            data = file.read(first, length)
        except StorageError:  # one bad sector: each by itself then says which
            data = b""
        for block in blocks[start:stop]:
            yield block, data[block.offset - first : block.offset - first + block.length]
        start = stop


def _load(handles: ReadHandles, path: str, block: BlockRef) -> bytes:
    return handles.get(path).read(block.offset, block.length)


def _offset(block: BlockRef) -> int:
    return block.offset
