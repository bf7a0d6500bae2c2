"""Close a lane for ever: cut its torn tail, write the footer that merges and readers bisect.

The footer is derived from the commits, so a torn footer is simply written again. The owner seals its own lane; the
lane of a dead process is sealed by anyone who finds its lock free.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from dataclasses import dataclass

from memstore.errors import CorruptionError, StorageError
from memstore.format.lane import (
    DAMAGED_RANGES_MAX,
    SEAL_LINE_BYTES_MAX,
    LaneHeader,
    Seal,
    Slice,
    decode_header,
    decode_seal,
    encode_seal,
    encode_slice,
)
from memstore.format.names import StorePaths
from memstore.format.version import check_version
from memstore.fs.atomic import make_directories
from memstore.fs.parts import write_again
from memstore.fs.storage import Storage, StorageFile
from memstore.fs.verified import read_listed
from memstore.wal.scan import LaneEnd, LineWindow, ScannedCommit, ScannedDamage, ScannedEnd, scan_lane

_log = logging.getLogger(__name__)
_WRITE_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class SealOutcome:
    """What sealing found. ``torn_bytes`` were cut off and kept aside."""

    seal: Seal
    torn_bytes: int


def read_seal(file: StorageFile, size: int) -> tuple[Seal, int] | None:
    """The seal of a lane and the offset of its line, or None where the lane is not sealed."""
    if size == 0 or file.read(size - 1, 1) != b"\n":
        return None
    for span in (1024, SEAL_LINE_BYTES_MAX):
        start = max(size - span, 0)
        tail = file.read(start, size - start)
        line_start = tail.rfind(b"\n", 0, len(tail) - 1) + 1
        if line_start > 0:
            seal = decode_seal(tail[line_start:-1])
            return None if seal is None else (seal, start + line_start)
    return None


def header_end(file: StorageFile) -> int:
    """Offset of the first commit; raises as `read_header` does."""
    return read_header(file)[1]


def read_header(file: StorageFile) -> tuple[LaneHeader, int]:
    """A lane's header, and the offset of its first commit.

    Raises:
        CorruptionError: the first line is not a lane's.
        VersionError: written by a newer format.
    """
    line = LineWindow(file).line_at(0)
    header = None if line is None else decode_header(line)
    if line is None or header is None:
        length_bytes = file.size_bytes() if line is None else len(line)
        raise CorruptionError(
            file.path, offset_bytes=0, length_bytes=length_bytes, reason="the lane's first line does not verify"
        )
    check_version(header.version, file.path)
    return header, len(line) + 1


def seal_lane(
    storage: Storage,
    paths: StorePaths,
    file: StorageFile,
    *,
    at_us: int,
    own: bool,
    before_footer: Callable[[StorageFile, int], None] | None = None,
) -> SealOutcome:
    """Seal a lane whose lock the caller holds; does nothing where it is sealed.

    Args:
        storage: where it lies.
        paths: the store's.
        file: the lane, open for writing and locked.
        at_us: now.
        own: the caller wrote it and knows its last commit to be whole; otherwise the last commits are verified.
        before_footer: called with the lane and where its commits end, unless the lane is sealed.

    Raises:
        CorruptionError: the lane's first line does not verify.
        StorageFullError: no space for the footer; the lane stays as it is and its records readable.
    """
    size = file.identity().size_bytes
    sealed = read_seal(file, size)
    if sealed is not None:
        return SealOutcome(sealed[0], 0)
    commits: list[ScannedCommit] = []
    damaged: list[tuple[int, int]] = []
    end = ScannedEnd(0, LaneEnd.TORN)
    header, first = read_header(file)
    for item in scan_lane(file, start=first, size=size):
        if isinstance(item, ScannedCommit):
            commits.append(item)
        elif isinstance(item, ScannedDamage):
            damaged.append((item.offset, item.length))
        else:
            end = item
    commits_end = end.offset
    if not own:
        commits_end = _drop_unfinished(file, commits, header, end=commits_end)
        damaged = [d for d in damaged if d[0] < commits_end]
    torn_bytes = 0
    if commits_end < size:
        if end.kind is not LaneEnd.FOOTER or commits_end < end.offset:
            torn_bytes = size - commits_end
            _keep_aside(storage, paths, file, commits_end, size)
        file.truncate(commits_end)
    if before_footer is not None:
        before_footer(file, commits_end)
    seal = _write_footer(file, commits, damaged, at_us)
    return SealOutcome(seal, torn_bytes)


def commit_is_whole(file: StorageFile, scanned: ScannedCommit) -> bool:
    """Whether every slice of a commit verifies."""
    try:
        for item in scanned.slices():
            read_listed(file, item)
    except CorruptionError:
        return False
    return True


def _drop_unfinished(file: StorageFile, commits: list[ScannedCommit], header: LaneHeader, *, end: int) -> int:
    """Drop commits from the end that a dead writer did not finish; where the others end.

    The last one that is whole is left so that the next sync carries it.
    """
    while commits and not commit_is_whole(file, commits[-1]):
        end = commits.pop().offset
        if header.durability == "fsync":
            break  # the one before was acknowledged: should it not verify, that is damage
    if commits:
        write_again(file, commits[-1].offset, commits[-1].end)
    return end


def _write_footer(file: StorageFile, commits: list[ScannedCommit], damaged: list[tuple[int, int]], at_us: int) -> Seal:
    footer = file.identity().size_bytes
    slices: list[Slice] = [item for scanned in commits for item in scanned.slices()]
    slices.sort()
    if len(damaged) > DAMAGED_RANGES_MAX:
        first, last = damaged[DAMAGED_RANGES_MAX - 1], damaged[-1]
        damaged = [*damaged[: DAMAGED_RANGES_MAX - 1], (first[0], last[0] + last[1] - first[0])]
    seal = Seal(
        # Not before what is in it, should the clock have been set back since: a merge takes its time from here.
        at=max([at_us, *(scanned.commit.at for scanned in commits)]),
        footer=footer,
        commits=len(commits),
        records=sum(item.records for item in slices),
        slices=len(slices),
        agents=len({item.agent for item in slices}),
        damaged=damaged,
    )
    position = footer
    batch: list[bytes] = []
    batch_bytes = 0
    for line in map(encode_slice, slices):
        batch.append(line)
        batch_bytes += len(line)
        if batch_bytes >= _WRITE_BYTES:
            file.write(b"".join(batch), position)
            position += batch_bytes
            batch, batch_bytes = [], 0
    if batch:
        file.write(b"".join(batch), position)
    # Commits of a dead writer may never have been synced, and what is merged from here is unlinked later. The seal
    # follows by itself: where it verifies, all before it has reached the disk, and what does not verify is damage.
    file.sync_data()
    file.write(encode_seal(seal), position + batch_bytes)
    file.sync_data()
    return seal


def _keep_aside(storage: Storage, paths: StorePaths, file: StorageFile, start: int, size: int) -> None:
    """A torn tail is normal after a crash; it is still somebody's bytes."""
    target = os.path.join(paths.recovery_log, f"{os.path.basename(file.path)}.{start}.torn")
    _log.warning("%s: cutting a torn tail of %d bytes at offset %d; kept in %s", file.path, size - start, start, target)
    try:
        make_directories(storage, paths.recovery_log)
        aside = storage.open_write(target)
    except StorageError as error:
        _log.warning("%s: the torn tail could not be kept aside: %s", file.path, error)
        return
    try:
        aside.write(file.read(start, size - start), 0)
    except StorageError as error:
        _log.warning("%s: the torn tail could not be kept aside: %s", file.path, error)
    finally:
        aside.close()
