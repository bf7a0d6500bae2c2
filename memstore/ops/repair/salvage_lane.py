"""What can be saved of a lane: slices by their checksums, and lines of commits whose line is lost, by what they say."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache

from memstore.codec.checksum import checksum
from memstore.errors import CorruptionError, UsageError
from memstore.format.lane import (
    FOOTER_START,
    SEAL_START,
    Commit,
    LaneHeader,
    Slice,
    decode_commit,
    decode_header,
    decode_slice,
)
from memstore.format.lines import split_lines
from memstore.fs.storage import StorageFile
from memstore.ids import ID_TAIL_CHARS, parse_id
from memstore.lifecycle.needles import line_id
from memstore.ops.record_lines import RecordLines
from memstore.ops.repair.bit_search import find_flip, find_flip_in_line
from memstore.ops.repair.good_copies import FileOfStore, GoodCopies, Taken, take
from memstore.ops.repair.repair_step import CopiedRange
from memstore.ops.repair.salvage import LostRange
from memstore.ops.repair.take_piece import read_or_nothing
from memstore.wal.scan import LaneEnd, LineWindow, ScannedCommit, ScannedDamage, ScannedEnd, scan_lane
from memstore.wal.seal import commit_is_whole, read_seal

_READ_BYTES = 4 * 1024 * 1024
_FIRST_LINE_BYTES = 4096
_record_lines = lru_cache(maxsize=1024)(RecordLines)
Load = Callable[[], bytes]


@dataclass(slots=True)
class LaneSalvage:
    """What is left of a lane.

    Attributes:
        header: its first line; None where that is lost.
        slices: those that are good, with what gives their bytes.
        found_again: likewise, of commits whose line was put right: no merge before this could see them.
        lines: whole lines of commits whose own line is lost, by agent and day.
        mended: how many slices and lines were put right.
        copied: what was taken from good copies.
        lost: ranges of which nothing can be made, or not all.
        damaged: whether anything of it is not as it was written.
    """

    header: LaneHeader | None = None
    slices: list[tuple[Slice, Load]] = field(default_factory=list)
    found_again: list[tuple[Slice, Load]] = field(default_factory=list)
    lines: dict[tuple[str, str], list[bytes]] = field(default_factory=dict)
    mended: int = 0
    copied: list[CopiedRange] = field(default_factory=list)
    lost: list[LostRange] = field(default_factory=list)
    damaged: bool = False


def salvage_lane(file: StorageFile, *, copies: GoodCopies, name: FileOfStore) -> LaneSalvage:
    """Look through a lane of which anything may be damaged.

    Args:
        file: the lane; nobody writes it any more.
        copies: where good copies may be had.
        name: what it is.

    Raises:
        StorageError: the disk refuses.
    """
    return _LaneSalvage(file, copies, name).run()


class _LaneSalvage:
    def __init__(self, file: StorageFile, copies: GoodCopies, name: FileOfStore) -> None:
        self._file = file
        self._copies = copies
        self._name = name
        self._size = file.identity().size_bytes
        self._window = LineWindow(file)
        self._result = LaneSalvage()
        self._known: set[tuple[int, int]] = set()

    def run(self) -> LaneSalvage:
        first = self._read_first()
        sealed = read_seal(self._file, self._size)
        end = self._size if sealed is None else sealed[0].footer
        if sealed is not None:
            self._read_footer(sealed[0].footer, sealed[1])
        commits: list[ScannedCommit] = []
        ranges: list[tuple[int, int]] = []
        last = ScannedEnd(end, LaneEnd.CLEAN)
        for item in scan_lane(self._file, start=first, size=end):
            if isinstance(item, ScannedCommit):
                commits.append(item)
            elif isinstance(item, ScannedDamage):
                ranges.append((item.offset, item.length))
            else:
                last = item
        if sealed is None:
            self._cut_torn(commits)
        elif last.kind is not LaneEnd.CLEAN and last.offset < end:
            ranges.append((last.offset, end - last.offset))
        if last.kind is LaneEnd.FOOTER and sealed is None:
            self._result.damaged |= self._file.read(self._size - 2, 2) == b"}\n"
        for commit in commits:
            self._take_all(list(commit.slices()))
        for offset, length in ranges:
            self._result.damaged = True
            self._look_into(offset, length)
        return self._result

    def _cut_torn(self, commits: list[ScannedCommit]) -> None:
        """The last commit of a lane that was not sealed counts only if all of it is there."""
        durable = self._result.header is None or self._result.header.durability == "fsync"
        while commits and not commit_is_whole(self._file, commits[-1]):
            commits.pop()
            if durable:
                return

    # -- its first line

    def _read_first(self) -> int:
        line = self._window.line_at(0)
        header = None if line is None else decode_header(line)
        if line is not None and header is not None:
            self._result.header = header
            return len(line) + 1
        self._result.damaged = True
        flipped = None if line is None else find_flip_in_line(line)
        candidates = [Taken(flipped or b"", ""), *self._copied_lines(0, _FIRST_LINE_BYTES)]
        for candidate, source in candidates:
            header = decode_header(candidate) if candidate else None
            if header is not None:
                self._result.header = header
                self._note_mended(0, len(candidate) + 1, source)
                return len(candidate) + 1
        return 0

    # -- slices

    def _read_footer(self, start: int, end: int) -> None:
        """Take the slices that whole lines of the footer list: their commits' lines may be lost."""
        position = start
        listed: list[Slice] = []
        while position < end:
            line = self._window.line_at(position)
            if line is None:
                break
            item = decode_slice(line)
            if item is None:
                self._result.damaged = True
                whole = find_flip_in_line(line)
                item = None if whole is None else decode_slice(whole)
            if item is not None:
                listed.append(item)
            position += len(line) + 1
        self._take_all(listed)

    def _take_all(self, slices: list[Slice]) -> None:
        for item in slices:
            if (item.offset, item.length) not in self._known:
                self._known.add((item.offset, item.length))
                self._take(item)

    def _take(self, item: Slice) -> None:
        data = read_or_nothing(self._file, item.offset, item.length)
        load: Load = functools.partial(read_or_nothing, self._file, item.offset, item.length)
        if len(data) != item.length or checksum(data) != item.xxh3:
            self._result.damaged = True
            copied = self._copied_slice(item)
            if copied is not None:
                data = copied.data
                load = functools.partial(self._copied, item)
            else:
                found = find_flip(data, item.xxh3) if len(data) == item.length else None
                if found is None:
                    reason = f"a slice of {item.agent!r} does not verify"
                    self._result.lost.append(LostRange(item.offset, item.length, item.records, reason))
                    return
                data = found
                load = functools.partial(bytes, found)
            self._note_mended(item.offset, item.length, "" if copied is None else copied.source)
        lines, listed = _record_lines(item.agent), split_lines(data)
        fault = lines.fault(listed, records=item.records, t_min=item.t_min, t_max=item.t_max)
        if fault is not None or isinstance(lines.decoded(listed), str):
            self._result.damaged = True
            reason = f"a slice of {item.agent!r} is not what its line says"
            self._result.lost.append(LostRange(item.offset, item.length, item.records, reason))
            return
        self._result.slices.append((item, load))

    def _copied(self, item: Slice) -> bytes:
        copied = self._copied_slice(item)
        if copied is None:
            raise CorruptionError(
                self._file.path,
                offset_bytes=item.offset,
                length_bytes=item.length,
                reason="its good copy has changed",
                records=item.records,
            )
        return copied.data

    def _copied_slice(self, item: Slice) -> Taken | None:
        return take(self._copies, self._name, item.offset, item.length, lambda data: checksum(data) == item.xxh3)

    def _copied_lines(self, offset: int, length_max: int) -> Iterator[Taken]:
        """The line at an offset, as each good copy has it, without its line break."""
        for copied in self._copies.of(self._name):
            line, end, _ = copied.read(offset, length_max).partition(b"\n")
            if line and end:
                yield Taken(line, copied.source)

    def _note_mended(self, offset: int, length: int, source: str) -> None:
        self._result.mended += 1
        if source:
            self._result.copied.append(CopiedRange(offset, length, source))

    # -- ranges without a commit line

    def _look_into(self, offset: int, length: int) -> None:
        """Find a lost commit line again, or take the lines behind it for what they say."""
        end = offset + length
        while offset < end:
            found = self._mended_commit(offset, end)
            if found is None:
                break
            commit, body, source = found
            seen = len(self._result.slices)
            self._take_all([item._replace(offset=body + item.offset) for item in commit.slices])
            self._result.found_again += self._result.slices[seen:]
            del self._result.slices[seen:]
            self._note_mended(offset, body - offset, source)
            offset = body + commit.bytes
        if offset < end:
            self._take_lines(offset, end)

    def _mended_commit(self, offset: int, end: int) -> tuple[Commit, int, str] | None:
        line = self._window.line_at(offset)
        flipped = None if line is None else find_flip_in_line(line)
        candidates = [Taken(line or b"", ""), Taken(flipped or b"", ""), *self._copied_lines(offset, end - offset)]
        for candidate, source in candidates:
            commit = decode_commit(candidate) if candidate else None
            if commit is not None and offset + len(candidate) + 1 + commit.bytes <= end:
                return commit, offset + len(candidate) + 1, source
        return None

    def _take_lines(self, start: int, end: int) -> None:
        taken = 0
        others = False
        covered = sorted((o, o + n) for o, n in self._known if start <= o < end)
        for at, line in _lines(self._file, start, end):
            if any(first <= at < last for first, last in covered):
                continue
            key = _owner(line)
            if key is None:
                others |= not line.startswith((FOOTER_START, SEAL_START))
                continue
            self._result.lines.setdefault(key, []).append(line)
            taken += 1
        reason = "a commit line is lost"
        if taken:
            reason += f"; {taken} whole lines behind it are kept, though no checksum proves them"
        if others or not taken:
            self._result.lost.append(LostRange(start, end - start, None, reason))


def _owner(line: bytes) -> tuple[str, str] | None:
    """Agent and day of a whole line of a record; None for any other."""
    if not line.startswith(b'{"memory_id":"') or not line.endswith(b"\n"):
        return None
    try:
        memory_id = line_id(line)
        parts = parse_id(memory_id)
    except (ValueError, UsageError):
        return None
    agent = memory_id[:-ID_TAIL_CHARS]
    return (agent, parts.day) if agent and _record_lines(agent).is_record(line) else None


def _lines(file: StorageFile, start: int, end: int) -> Iterator[tuple[int, bytes]]:
    offset = start
    rest = b""
    while offset + len(rest) < end:
        at = offset + len(rest)
        data = rest + read_or_nothing(file, at, min(_READ_BYTES, end - at))
        if len(data) == len(rest):
            return
        cut = len(data) if offset + len(data) >= end else data.rfind(b"\n") + 1
        position = offset
        for line in split_lines(data[:cut]):
            yield position, line
            position += len(line)
        offset, rest = offset + cut, data[cut:]
