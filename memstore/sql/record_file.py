"""The lines of a plan as one file that can be read at any place: what DuckDB takes for a file of NDJSON.

Bytes are read from the store's files and verified when they are asked for, in whole blocks, frames and slices; blocks
that lie one behind the other are read at once. They are gathered in a buffer that is used again: fresh memory for each
read cost as much as everything else together, in page faults.
"""

from __future__ import annotations

import threading
from array import array
from bisect import bisect_right
from itertools import accumulate

from memstore.engine.piece import SlicePiece
from memstore.manifest.index import BlockRef, FrameRef
from memstore.sql.plan import Part, Plan

_RUN_BYTES = 1 << 20
"""Blocks are read together up to this: more would not stay in the processor's cache until it is checked and copied."""


class RecordFile:
    """Thread-safe.

    Attributes:
        size_bytes: how long it is.
        line_bytes_max: no line of it is longer.
        failure: the first error that a read has met, or None: DuckDB passes it on as text only.
    """

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._parts = plan.parts
        self._reader = plan.reader
        self._ends = array("q", accumulate(part.size_bytes for part in plan.parts))
        self._lock = threading.Lock()
        self._buffers: list[bytearray] = []
        self.size_bytes = self._ends[-1] if self._ends else 0
        # A piece is as long as its setting wants, or holds one line.
        self.line_bytes_max = max((part.size_bytes for part in plan.parts), default=0)
        self.failure: Exception | None = None

    def read(self, offset_bytes: int, length_bytes: int) -> bytes:
        """Bytes from an offset; shorter only at the end.

        Raises:
            CorruptionError: what lies there is not what was written.
            FileNotFoundError: it was moved, and there were more files than may be held open.
        """
        try:
            return self._read(offset_bytes, min(offset_bytes + length_bytes, self.size_bytes))
        except Exception as error:
            with self._lock:
                self.failure = self.failure or error
            raise

    def close(self) -> None:
        """Let go of the store's files and of the buffers; it is not read any more."""
        self._plan.close()
        self._buffers.clear()

    def _read(self, position: int, stop: int) -> bytes:
        if position >= stop:
            return b""
        buffer = self._buffer(stop - position)
        with memoryview(buffer) as view:
            self._fill(view, position, stop)
            data = bytes(view[: stop - position])
        with self._lock:
            self._buffers.append(buffer)
        return data

    def _buffer(self, length: int) -> bytearray:
        """One that nobody uses, as long as this at least; there are never more than threads that read."""
        with self._lock:
            buffer = self._buffers.pop() if self._buffers else bytearray()
        return buffer if len(buffer) >= length else bytearray(length)

    def _fill(self, view: memoryview, position: int, stop: int) -> None:
        filled = 0
        index = bisect_right(self._ends, position)
        while position < stop:
            start = self._ends[index - 1] if index else 0
            last = self._last_of_run(index, min(stop, start + _RUN_BYTES))
            end = min(stop, self._ends[last])
            data = self._load(index, last)
            assert len(data) == self._ends[last] - start, "a piece is not as long as it was said to be"
            view[filled : filled + end - position] = memoryview(data)[position - start : end - start]
            filled += end - position
            position, index = end, last + 1

    def _last_of_run(self, index: int, stop: int) -> int:
        """The last of the blocks that adjoin each other in their file, from ``index`` on and no further than needed."""
        while self._ends[index] < stop and index + 1 < len(self._parts):
            if not _adjoin(self._parts[index], self._parts[index + 1]):
                break
            index += 1
        return index

    def _load(self, first: int, last: int) -> bytes:
        part = self._parts[first]
        if part.made:
            lines = self._reader.lines(part.manifest, part.piece)
            lines.append(b"")
            return b"\n".join(lines)
        if last == first:
            return self._reader.data(part.manifest, part.piece)
        assert part.manifest is not None
        blocks = [each.piece for each in self._parts[first : last + 1] if isinstance(each.piece, BlockRef)]
        return self._reader.adjoining(part.manifest, blocks)


def _adjoin(one: Part, other: Part) -> bool:
    """Whether two parts are blocks that can be read at once."""
    piece, after = one.piece, other.piece
    if isinstance(piece, (FrameRef, SlicePiece)) or isinstance(after, (FrameRef, SlicePiece)):
        return False
    return (
        piece.offset + piece.length == after.offset
        and piece.file == after.file
        and one.manifest is other.manifest
        and not one.made
        and not other.made
    )
