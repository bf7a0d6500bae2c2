"""Walk a lane from commit to commit, telling a torn tail from damage.

Bytes that do not verify with nothing valid behind them are a torn tail: a write that a crash cut off, or one that is
still under way. With a valid commit behind them they are damage: reported by range, the rest kept (DESIGN 5.7).
"""

from __future__ import annotations

import enum
from collections.abc import Iterator
from dataclasses import dataclass

from memstore.format.checked import verified_body
from memstore.format.lane import COMMIT_START, FOOTER_START, SEAL_START, Commit, Slice, decode_commit, decode_slice
from memstore.fs.storage import StorageFile

_WINDOW_BYTES = 64 * 1024


class LaneEnd(enum.Enum):
    """What stands behind the last commit."""

    CLEAN = "nothing"
    TORN = "bytes that do not verify"
    FOOTER = "a footer"


@dataclass(frozen=True, slots=True)
class ScannedCommit:
    """A commit whose line verifies and whose body lies inside the file."""

    offset: int
    body_offset: int
    commit: Commit

    @property
    def end(self) -> int:
        """First byte behind its body."""
        return self.body_offset + self.commit.bytes

    def slices(self) -> Iterator[Slice]:
        """Its slices, with offsets from the start of the file."""
        base = self.body_offset
        return (item._replace(offset=base + item.offset) for item in self.commit.slices)


@dataclass(frozen=True, slots=True)
class ScannedDamage:
    """A range between commits that does not verify."""

    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class ScannedEnd:
    """Always the last item: where the commits end and what stands there."""

    offset: int
    kind: LaneEnd


class LineWindow:
    """Reads lines by offset through a sliding window, so that many short commits cost one read. Not thread-safe."""

    def __init__(self, file: StorageFile) -> None:
        self._file = file
        self._start = 0
        self._data = b""

    def line_at(self, offset: int) -> bytes | None:
        """The line that starts at an offset, without its line break; None where the file ends before one."""
        begin = offset - self._start
        if 0 <= begin < len(self._data):
            end = self._data.find(b"\n", begin)
            if end >= 0:
                return self._data[begin:end]
        size = _WINDOW_BYTES
        while True:
            data = self._file.read(offset, size)
            end = data.find(b"\n")
            if end >= 0:
                self._start, self._data = offset, data
                return data[:end]
            if len(data) < size:
                return None
            size *= 4


def scan_lane(file: StorageFile, *, start: int, size: int) -> Iterator[ScannedCommit | ScannedDamage | ScannedEnd]:
    """Commits and damaged ranges from an offset on; the last item is a `ScannedEnd`.

    Args:
        file: the lane.
        start: where a commit line stands or is expected (the end of the header line, or of the last known commit).
        size: how much of the file to look at.
    """
    window = LineWindow(file)
    position = start
    while position < size:
        line = window.line_at(position)
        commit = None if line is None else decode_commit(line)
        if line is not None and commit is not None:
            body_offset = position + len(line) + 1
            if body_offset + commit.bytes > size:
                yield ScannedEnd(position, LaneEnd.TORN)
                return
            yield ScannedCommit(position, body_offset, commit)
            position = body_offset + commit.bytes
            continue
        if line is not None and line.startswith((FOOTER_START, SEAL_START)) and verified_body(line) is not None:
            yield ScannedEnd(position, LaneEnd.FOOTER)
            return
        behind = _next_commit(file, window, position + 1, size)
        if behind is None:
            yield ScannedEnd(position, LaneEnd.TORN)
            return
        if _is_rest_of_footer(window, behind, size, position):
            yield ScannedEnd(position, LaneEnd.FOOTER)
            return
        yield ScannedDamage(position, behind - position)
        position = behind
    yield ScannedEnd(position, LaneEnd.CLEAN)


def _is_rest_of_footer(window: LineWindow, behind: int, size: int, position: int) -> bool:
    """Whether what verifies behind ``position`` is a footer whose own beginning is lost, and no commit is.

    A power cut while a lane is sealed may keep any part of the footer. Commits that are damaged are cited by it: then a
    line of it names a slice at or behind ``position``.
    """
    offset = behind
    while offset < size:
        line = window.line_at(offset)
        if line is None:
            break
        if verified_body(line) is not None:
            if not line.startswith((FOOTER_START, SEAL_START)):
                return False
            item = decode_slice(line)
            if item is not None and item.offset >= position:
                return False
        offset += len(line) + 1
    return True


def _next_commit(file: StorageFile, window: LineWindow, start: int, size: int) -> int | None:
    """Offset of the first commit (or footer) line at or behind ``start`` that verifies, or None."""
    # Not by the line break before it, which the damage may have taken. Inside a record no such text verifies: there,
    # more of the record follows up to the line's end.
    for needle in (COMMIT_START, FOOTER_START):
        position = start
        while position < size:
            data = file.read(position, min(_WINDOW_BYTES * 16, size - position))
            found = data.find(needle)
            while found >= 0:
                line = window.line_at(position + found)
                if line is not None and verified_body(line) is not None:
                    return position + found
                found = data.find(needle, found + 1)
            position += max(len(data) - len(needle) + 1, 1)
    return None
