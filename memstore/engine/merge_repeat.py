"""Repeat a merge that was stopped before its sync: same bytes, same offsets, same line (DESIGN 5.6)."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager

from memstore.engine.merge_source import DamagedSliceError, SealedLane, TaggedSlice, by_day, runs, sorted_parts
from memstore.errors import CorruptionError
from memstore.format.manifest import Chunk, Merge
from memstore.fs.storage import StorageFile
from memstore.fs.verified import read_verified
from memstore.hot.writer import cut_blocks

_log = logging.getLogger(__name__)
OpenDayFile = Callable[[str], AbstractContextManager[StorageFile]]


def repeat_chunks(
    merge: Merge, items: list[TaggedSlice], lanes: list[SealedLane], *, open_day_file: OpenDayFile, prefix_bytes: int
) -> None:
    """Write every chunk of a merge line again.

    Args:
        merge: the line.
        items: all of the agent's slices in the lanes that it cites.
        lanes: what the items are tagged with.
        open_day_file: a day file by name, for writing.
        prefix_bytes: length of what every line of the agent starts with.

    Raises:
        CorruptionError: the lanes do not give what the line says, or a lane is damaged and so is what was merged from
            it.
    """
    days = dict(by_day(items))
    for chunk in merge.chunks:
        of_day = days.get(chunk.file.partition(".")[0], [])
        with open_day_file(chunk.file) as file:
            try:
                _write_again(file, chunk, of_day, lanes, prefix_bytes=prefix_bytes, run_bytes=merge.run_bytes)
            except DamagedSliceError as damaged:
                _log.error("a lane is damaged; what was merged from it is kept: %s", damaged.error)
                _write_over_itself(file, chunk)


def _write_again(
    file: StorageFile,
    chunk: Chunk,
    items: list[TaggedSlice],
    lanes: list[SealedLane],
    *,
    prefix_bytes: int,
    run_bytes: int,
) -> None:
    """The chunk from the lanes, proved equal to what the MANIFEST says before it is written.

    In the runs of the merge that is repeated: this process may have other settings than the one that was stopped.
    """
    expected = iter(chunk.blocks)
    offset = chunk.offset
    for run in runs(items, run_bytes):
        parts = sorted_parts(lanes, run, prefix_bytes)
        for block, data in cut_blocks(parts, prefix_bytes):
            if block != next(expected, None):
                raise CorruptionError(
                    file.path,
                    offset_bytes=offset,
                    length_bytes=block.length,
                    reason="its lanes disagree with its MANIFEST",
                    records=block.records,
                )
            file.write(data, offset)
            offset += block.length
    if next(expected, None) is not None:
        raise CorruptionError(
            file.path,
            offset_bytes=offset,
            length_bytes=chunk.offset + chunk.length_bytes - offset,
            reason="its lanes hold less than its MANIFEST says",
        )


def _write_over_itself(file: StorageFile, chunk: Chunk) -> None:
    """A chunk's own bytes, verified, so that the next sync carries them.

    Raises:
        CorruptionError: a block does not verify.
    """
    offset = chunk.offset
    for block in chunk.blocks:
        data = read_verified(
            file, offset_bytes=offset, length_bytes=block.length, xxh3=block.xxh3, records=block.records
        )
        file.write(data, offset)
        offset += block.length
