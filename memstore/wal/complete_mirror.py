"""Let the mirror of a dead writer's lane have every commit of it, before the lane is sealed and merged.

A commit is written to both at once and counts when both have it, so where its writer dies the lane may have one more.
What is merged goes to the second copy agent by agent: a batch that the mirror lacks would be there for some of its
agents and not for others for as long as that takes. What only the mirror has stays there: the lane's readers have
already been told that it is not.
"""

from __future__ import annotations

import os

from memstore.errors import CorruptionError, StorageError
from memstore.fs.atomic import temporary_path, try_unlink
from memstore.fs.lock import locked
from memstore.fs.parts import PART_BYTES
from memstore.fs.storage import Storage, StorageFile
from memstore.wal.scan import ScannedCommit, scan_lane
from memstore.wal.seal import commit_is_whole, header_end

LOCK_WAIT_S = 5.0
"""A dead process lets go of its locks one after the other."""


def complete_mirror(storage: Storage, lane: StorageFile, mirror_path: str, *, end: int) -> None:
    """Append to the mirror what it lacks, durably. What both have is not written over: either may have gone bad.

    Args:
        storage: where both lie.
        lane: locked.
        mirror_path: of the mirror; it is made where it is not there.
        end: of the lane's commits.

    Raises:
        LockedError: somebody else writes to the mirror.
        StorageError: either volume refused.
        FileNotFoundError: the second copy is not there.
    """
    if storage.identify(mirror_path) is None:
        _make(storage, lane, mirror_path, end)
        return
    with locked(storage, mirror_path, timeout_s=LOCK_WAIT_S):
        mirror = storage.open_update(mirror_path)
        try:
            size = mirror.identity().size_bytes
            has = _end_of_commits(mirror, size)
            if has < end:
                _copy(lane, mirror, has, end)
                if size > end:
                    mirror.truncate(end)  # of a commit that was cut off
                mirror.sync_data()
        finally:
            mirror.close()


def _end_of_commits(mirror: StorageFile, size: int) -> int:
    """Where its last whole commit ends; 0 where it has not even its first line."""
    try:
        first = header_end(mirror)
    except CorruptionError:
        return 0
    commits = [item for item in scan_lane(mirror, start=first, size=size) if isinstance(item, ScannedCommit)]
    while commits and not commit_is_whole(mirror, commits[-1]):
        commits.pop()
    return commits[-1].end if commits else first


def _copy(source: StorageFile, target: StorageFile, start: int, end: int) -> None:
    while start < end:
        data = source.read(start, min(PART_BYTES, end - start))
        if not data:
            raise StorageError(f"{source.path}: it ends at {start}, and {end} bytes were there")
        target.write(data, start)
        start += len(data)


def _make(storage: Storage, lane: StorageFile, path: str, end: int) -> None:
    """A mirror that is durable by name, of a lane that never had one."""
    temporary = temporary_path(os.path.dirname(path))
    file = storage.create(temporary)
    try:
        _copy(lane, file, 0, end)
        file.sync_data()
        storage.rename(temporary, path)
    except BaseException:
        try_unlink(storage, temporary)
        raise
    finally:
        file.close()
    storage.sync_directory(os.path.dirname(path))
