"""What is appended, for consumers: every lane there is, commit by commit, from a watermark on.

Lanes have no order among them; a watermark is one offset for each. The lanes that are merged and wait for a consumer
are fed too. What is fed is whole: every slice verifies, and the last commit of a lane that is being written counts once
all of it does, as it does for readers.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass

from memstore.errors import CorruptionError
from memstore.format.lane import Slice
from memstore.format.names import (
    KEPT_SUFFIX,
    LANE_SUFFIX,
    MERGED_SUFFIX,
    StorePaths,
    is_lane_name,
    is_merged_lane_name,
    lane_token,
)
from memstore.fs.storage import Storage, StorageFile
from memstore.fs.verified import read_listed
from memstore.wal.reader import iterate_footer
from memstore.wal.scan import ScannedCommit, ScannedDamage, scan_lane
from memstore.wal.seal import header_end, read_header, read_seal

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class FedLane:
    """A lane as it was when it was listed.

    Attributes:
        token: how watermarks and MANIFESTs cite it.
        file: open for reading; stays readable when the lane is unlinked.
        end: bytes of commits and what may be a part of one; the footer's offset where it is sealed.
        sealed: whether nothing will be added.
        synced: whether a commit is on disk once another follows it.
    """

    token: str
    file: StorageFile
    end: int
    sealed: bool
    synced: bool


@dataclass(frozen=True, slots=True)
class FedCommit:
    """A commit with the slices of it that verify.

    Attributes:
        end: the watermark behind it.
        at: when it was committed, microseconds.
        slices: each with its bytes: whole lines with their line breaks.
        is_tip: whether it is the last one of a lane that is not sealed: should its sync have failed, it will be cut
            off again.
        damaged: UTC days of what does not verify and is left out. Of a lane that is merged it was whole then, and
            stands in the files.
    """

    end: int
    at: int
    slices: list[tuple[Slice, bytes]]
    is_tip: bool
    damaged: frozenset[str] = frozenset()


def is_cut_back(lane: FedLane, end: int) -> bool:
    """Whether what was consumed up to ``end`` has been cut off again, for its sync had failed.

    A lane that is being written may have grown since it was listed.
    """
    return end > lane.end and (lane.sealed or lane.file.size_bytes() < end)


class Feed:
    """Thread-safe; reads only."""

    def __init__(self, storage: Storage, paths: StorePaths) -> None:
        self._storage = storage
        self._paths = paths

    def lanes(self) -> list[FedLane]:
        """Every lane there is now; one whose first line is damaged is left out, and reported by those who read it."""
        found = []
        names = [entry.name for entry in self._storage.list_directory(self._paths.lanes)]
        for name in sorted(name for name in names if is_lane_name(name) or is_merged_lane_name(name)):
            lane = self._open(name)
            if lane is not None:
                found.append(lane)
        return found

    def _open(self, name: str) -> FedLane | None:
        path = os.path.join(self._paths.lanes, name)
        try:
            file = self._open_renamed(path)
            header, _ = read_header(file)
        except (FileNotFoundError, CorruptionError):
            return None
        size = file.identity().size_bytes
        sealed = read_seal(file, size)
        end = size if sealed is None else sealed[0].footer
        return FedLane(lane_token(name), file, end, sealed is not None, header.durability == "fsync")

    def _open_renamed(self, path: str) -> StorageFile:
        """A lane that a merge may have renamed since it was listed."""
        stem = os.path.splitext(path)[0]
        for suffix in (LANE_SUFFIX, KEPT_SUFFIX, MERGED_SUFFIX):
            try:
                return self._storage.open_read(stem + suffix)
            except FileNotFoundError:
                continue
        raise FileNotFoundError(path)

    def stands(self, lane: FedLane) -> bool:
        """Whether a lane is still there, under whatever name."""
        stem = os.path.splitext(lane.file.path)[0]
        return any(self._storage.exists(stem + suffix) for suffix in (LANE_SUFFIX, KEPT_SUFFIX, MERGED_SUFFIX))

    def again(self, lane: FedLane) -> FedLane:
        """A lane as it is now, though it may have been unlinked since it was listed."""
        size = lane.file.size_bytes()
        sealed = read_seal(lane.file, size)
        end = size if sealed is None else sealed[0].footer
        return FedLane(lane.token, lane.file, end, sealed is not None, lane.synced)

    def whole_end(self, lane: FedLane) -> int:
        """The watermark behind all that `commits` would feed of a lane; only its last commit is read."""
        if lane.sealed:
            return lane.end
        before = end = header_end(lane.file)
        last: ScannedCommit | None = None
        for item in scan_lane(lane.file, start=end, size=lane.end):
            if isinstance(item, ScannedCommit):
                before, end, last = end, item.end, item
        return end if last is None or self._read(lane, last, is_tip=True)[1] else before

    def commits(self, lane: FedLane, start: int = 0) -> Iterator[FedCommit]:
        """What a lane holds from a watermark on (0: all of it).

        What is damaged is left out, and its days are told; whoever reads the records is told of the damage.
        """
        waiting: ScannedCommit | None = None
        for item in scan_lane(lane.file, start=start or header_end(lane.file), size=lane.end):
            if isinstance(item, ScannedCommit):
                if waiting is not None:
                    yield self._read(lane, waiting, is_tip=False)[0]
                waiting = item
            elif lane.sealed and item.offset < lane.end:  # a commit's line, or the last commits altogether
                if waiting is not None:
                    yield self._read(lane, waiting, is_tip=False)[0]
                    waiting = None
                end = item.offset + item.length if isinstance(item, ScannedDamage) else lane.end
                yield FedCommit(end, 0, [], is_tip=False, damaged=_days_within(lane.file, item.offset, end))
        if waiting is not None:
            commit, whole = self._read(lane, waiting, is_tip=not lane.sealed)
            if whole or lane.sealed:
                yield commit

    def _read(self, lane: FedLane, scanned: ScannedCommit, *, is_tip: bool) -> tuple[FedCommit, bool]:
        """A commit, and whether all of it verifies."""
        slices = []
        damaged = set()
        for item in scanned.slices():
            try:
                data = read_listed(lane.file, item)
            except CorruptionError as error:
                _log.debug("not fed: %s", error)
                damaged.add(item.day)
                continue
            slices.append((item, data))
        return FedCommit(scanned.end, scanned.commit.at, slices, is_tip, frozenset(damaged)), not damaged


def _days_within(file: StorageFile, start: int, end: int) -> frozenset[str]:
    """UTC days of a sealed lane's slices between two offsets, as its footer has them."""
    sealed = read_seal(file, file.size_bytes())
    if sealed is None:
        return frozenset()
    return frozenset(item.day for item in iterate_footer(file, *sealed) if start <= item.offset < end)
