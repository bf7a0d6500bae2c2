"""A lane: its first line, its commits or its footer; in full, every slice and every line.

A lane that is not sealed may end in the middle of a commit: its writer is in the middle of it, or died there. That is
no damage. What stands before its last commit was complete before that was begun, and has to verify.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache

from memstore.codec.checksum import checksum
from memstore.errors import CorruptionError, StorageError
from memstore.format.lane import LaneHeader, Seal, Slice, decode_slice
from memstore.format.lines import split_lines
from memstore.fs.storage import StorageFile
from memstore.ops.finding import Finding
from memstore.ops.reading_files import FileResult, OnBytes
from memstore.ops.record_lines import RecordLines
from memstore.timestamps import US_PER_DAY, day_start_us
from memstore.wal.scan import LaneEnd, LineWindow, ScannedCommit, ScannedDamage, ScannedEnd, scan_lane
from memstore.wal.seal import commit_is_whole, read_header, read_seal

RELEASE = "merge what is whole, and set the lane aside with the rest"
SEAL_AGAIN = "`memstore drain` seals it again: its commits say the same"
TORN = "`memstore drain` cuts it off and keeps it aside"
_WRITER_MAY_BE_IN_IT = (
    "the end of a lane that is not sealed does not verify: its writer is in the middle of it, or died there"
)

IsMerged = Callable[[str], bool]
"""Whether an agent's MANIFEST counts the lane as merged."""
_record_lines = lru_cache(maxsize=1024)(RecordLines)


def check_lane(file: StorageFile, *, full: bool, is_merged: IsMerged, on_bytes: OnBytes) -> FileResult:
    """Hold a lane against itself.

    Args:
        file: the lane.
        full: read every slice; otherwise lines of commits and of the footer only.
        is_merged: tells whether the records of a damaged slice are safe in their day file.
        on_bytes: told of what is read.

    Raises:
        VersionError: written by a newer format.
        StorageError: it cannot be read.
    """
    return _LaneCheck(file, full=full, is_merged=is_merged, on_bytes=on_bytes).run()


class _LaneCheck:
    def __init__(self, file: StorageFile, *, full: bool, is_merged: IsMerged, on_bytes: OnBytes) -> None:
        self._file = file
        self._full = full
        self._is_merged = is_merged
        self._on_bytes = on_bytes
        self._size = file.identity().size_bytes
        self._result = FileResult()

    def run(self) -> FileResult:
        try:
            header, first = read_header(self._file)
        except CorruptionError as error:
            reason = f"{error.reason}: whose records it holds is unknown"
            self._find(reason, 0, self._size, records=None, repair=RELEASE)
            return self._result
        sealed = read_seal(self._file, self._size)
        if sealed is None:
            self._check_open(header, first)
        else:
            self._check_sealed(first, *sealed)
        return self._result

    # -- a lane that is not sealed

    def _check_open(self, header: LaneHeader, first: int) -> None:
        commits: list[ScannedCommit] = []
        end = ScannedEnd(first, LaneEnd.CLEAN)
        for item in scan_lane(self._file, start=first, size=self._size):
            if isinstance(item, ScannedCommit):
                commits.append(item)
            elif isinstance(item, ScannedDamage):
                self._commit_line_lost(item.offset, item.length)
            else:
                end = item
        while commits and not commit_is_whole(self._file, commits[-1]):
            torn = commits.pop()
            end = ScannedEnd(torn.offset, LaneEnd.TORN)
            if header.durability == "fsync":
                break  # the one before it was acknowledged: should it not verify, that is damage
        if end.kind is LaneEnd.TORN and end.offset < self._size:
            self._find(_WRITER_MAY_BE_IN_IT, end.offset, self._size - end.offset, is_note=True, repair=TORN)
        elif end.kind is LaneEnd.FOOTER:
            self._check_unfinished_footer(end.offset)
        slices = [item for commit in commits for item in commit.slices()]
        self._count(slices)

    def _check_unfinished_footer(self, offset: int) -> None:
        """A footer without a seal that verifies is one that was being written: whoever comes next writes it again."""
        reason = "its footer has no seal that verifies; the commits say the same"
        self._find(reason, offset, self._size - offset, is_note=True, repair=SEAL_AGAIN)

    # -- a sealed lane

    def _check_sealed(self, first: int, seal: Seal, seal_offset: int) -> None:
        for offset, length in seal.damaged:
            self._commit_line_lost(offset, length)
        listed = self._footer(seal, seal_offset)
        if not self._full and listed is not None:
            self._count(listed)
            return
        known = sorted(seal.damaged)
        commits: list[ScannedCommit] = []
        for item in scan_lane(self._file, start=first, size=seal.footer):
            if isinstance(item, ScannedCommit):
                commits.append(item)
            elif isinstance(item, ScannedDamage) and listed is None:
                self._commit_line_lost(item.offset, item.length)
            elif isinstance(item, ScannedDamage) and not any(o <= item.offset < o + n for o, n in known):
                self._find(
                    "a commit line does not verify; the footer says the same", item.offset, item.length, repair=RELEASE
                )
            elif isinstance(item, ScannedEnd) and item.kind is not LaneEnd.CLEAN and item.offset < seal.footer:
                reason = "its last commit line does not verify; the footer says the same"
                self._find(reason, item.offset, seal.footer - item.offset, repair=RELEASE)
        found = sorted(item for commit in commits for item in commit.slices())
        if listed is None:
            listed = found
        elif not set(found) <= set(listed):
            reason = "its footer does not list what its commits hold"
            self._find(reason, seal.footer, seal_offset - seal.footer, repair=RELEASE)
            listed = sorted({*listed, *found})
        self._count(listed)

    def _footer(self, seal: Seal, seal_offset: int) -> list[Slice] | None:
        """The slices that the footer lists; None where it does not verify, which has been told then."""
        window = LineWindow(self._file)
        self._on_bytes(seal_offset - seal.footer)
        listed: list[Slice] = []
        position = seal.footer
        while position < seal_offset:
            line = window.line_at(position)
            item = None if line is None else decode_slice(line)
            if line is None or item is None:
                reason = "the footer does not verify; the commits say the same"
                self._find(reason, position, len(line or b"") + 1, repair=RELEASE)
                return None
            listed.append(item)
            position += len(line) + 1
        counts = len(listed), sum(item.records for item in listed), len({item.agent for item in listed})
        if listed != sorted(listed) or counts != (seal.slices, seal.records, seal.agents):
            reason = "the footer is not sorted, or not what the seal counts"
            self._find(reason, seal.footer, seal_offset - seal.footer, repair=RELEASE)
            return None
        return listed

    # -- slices

    def _count(self, slices: Sequence[Slice]) -> None:
        for item in slices:
            if not self._full:
                self._result.records += item.records
                continue
            self._on_bytes(item.length)
            reason = self._slice_fault(item)
            if reason is None:
                self._result.records += item.records
            elif self._is_merged(item.agent):
                reason = f"{reason}; its records are merged, and none is lost"
                self._find(reason, item.offset, item.length, agent=item.agent, repair=RELEASE)
            else:
                self._find(reason, item.offset, item.length, records=item.records, agent=item.agent, repair=RELEASE)

    def _slice_fault(self, item: Slice) -> str | None:
        try:
            data = self._file.read(item.offset, item.length)
        except StorageError as error:
            return f"a slice cannot be read: {error}"
        if len(data) != item.length or checksum(data) != item.xxh3:
            return "the checksum of a slice does not agree"
        start_us = day_start_us(item.day)
        if not start_us <= item.t_min <= item.t_max < start_us + US_PER_DAY:
            return f"a slice of {item.day} has other times"
        lines, listed = _record_lines(item.agent), split_lines(data)
        fault = lines.fault(listed, records=item.records, t_min=item.t_min, t_max=item.t_max)
        if fault is None:
            decoded = lines.decoded(listed)
            fault = decoded if isinstance(decoded, str) else None
        return None if fault is None else f"a slice is not what its line says: {fault}"

    def _commit_line_lost(self, offset: int, length: int) -> None:
        reason = "a commit line does not verify: whose records it describes, and how many, is unknown"
        self._find(reason, offset, length, records=None, repair=RELEASE)

    def _find(
        self,
        reason: str,
        offset: int,
        length: int,
        *,
        repair: str,
        records: int | None = 0,
        agent: str | None = None,
        is_note: bool = False,
    ) -> None:
        self._result.findings.append(
            Finding(
                "lane",
                "note" if is_note else "damage",
                self._file.path,
                reason,
                offset,
                length,
                records=records,
                agent=agent,
                repair=repair,
            )
        )
