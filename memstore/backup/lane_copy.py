"""Lanes into the archive of a point: each as far as its commits are whole."""

from __future__ import annotations

import os
from dataclasses import dataclass

from memstore.backup.copying import copy_range
from memstore.backup.listing import ListedLane
from memstore.codec.checksum import checksum
from memstore.errors import CorruptionError, StorageError
from memstore.format.backup_file import ArchivedLane
from memstore.format.names import KEPT_SUFFIX, LANE_SUFFIX, MERGED_SUFFIX
from memstore.fs.storage import Storage, StorageFile
from memstore.wal.scan import ScannedCommit, scan_lane
from memstore.wal.seal import commit_is_whole, read_header, read_seal


@dataclass(frozen=True, slots=True)
class CopiedLane:
    """A lane in the archive.

    Attributes:
        entry: what the list says of it.
        stands: its name in ``lanes/`` of the point; None where all of it is in files.
        records: how many it holds.
        copied: bytes that were copied; 0 where it was linked.
    """

    entry: ArchivedLane
    stands: str | None
    records: int
    copied: int


def archive_name(name: str) -> str:
    """What a lane is called in the archive, whatever it is by now."""
    stem, suffix = os.path.splitext(name)
    assert suffix in (LANE_SUFFIX, KEPT_SUFFIX, MERGED_SUFFIX), name
    return stem + LANE_SUFFIX


def copy_lane(
    storage: Storage, lane: ListedLane, directory: str, *, known: ArchivedLane | None, known_directory: str
) -> CopiedLane:
    """Copy a lane, or link it to the copy that the point before has.

    Args:
        storage: where both lie.
        lane: open.
        directory: where the copy goes.
        known: the same lane in the point before.
        known_directory: where that lies.
    """
    name = archive_name(lane.name)
    target = os.path.join(directory, name)
    stands = None if lane.name.endswith(MERGED_SUFFIX) else lane.name
    sealed = read_seal(lane.file, lane.size)
    if sealed is None:
        end, records = _whole_commits(lane.file, lane.size)
        xxh3, _ = copy_range(storage, lane.file, target, end)
        return CopiedLane(ArchivedLane(name, end, xxh3, "", end), stands, records, end)
    seal, line = sealed
    mark = f"{lane.size:x}.{checksum(lane.file.read(line, lane.size - line))}"
    if known is not None and known.mark == mark and _link(storage, os.path.join(known_directory, name), target):
        return CopiedLane(known, stands, seal.records, 0)
    xxh3, _ = copy_range(storage, lane.file, target, lane.size)
    return CopiedLane(ArchivedLane(name, lane.size, xxh3, mark, seal.footer), stands, seal.records, lane.size)


def _whole_commits(file: StorageFile, size: int) -> tuple[int, int]:
    """Where the last commit of a lane that is not sealed ends, and how many records there are up to it."""
    try:
        _, end = read_header(file)
    except CorruptionError:
        return size, 0  # nobody can read it: it is kept as it is, and told by whoever checks
    records = 0
    for item in scan_lane(file, start=end, size=size):
        if isinstance(item, ScannedCommit):
            # The last one may be in the middle of its write, and nobody was told that it is there. One before it was
            # whole before it began: should it not verify, that is damage, which is copied as it is.
            if item.end == size and not commit_is_whole(file, item):
                break
            end = item.end
            records += sum(each.records for each in item.commit.slices)
    return end, records


def _link(storage: Storage, source: str, target: str) -> bool:
    try:
        storage.link(source, target)
    except (StorageError, FileNotFoundError):
        return False
    return True
