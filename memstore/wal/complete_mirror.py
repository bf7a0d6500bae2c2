"""Let the mirror of a dead writer's lane have every commit of it, before the lane is sealed and merged.

A commit is written to both at once and counts when both have it, so where its writer dies the lane may have one more.
What is merged goes to the second copy agent by agent: a batch that the mirror lacks would be there for some of its
agents and not for others for as long as that takes. What only the mirror has stays there: the lane's readers have
already been told that it is not.
"""

from __future__ import annotations

from memstore.errors import CorruptionError
from memstore.fs.atomic import replace_with
from memstore.fs.lock import locked
from memstore.fs.parts import copy_range
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
        replace_with(storage, mirror_path, lambda mirror: copy_range(lane, mirror, 0, end))
        return
    with locked(storage, mirror_path, timeout_s=LOCK_WAIT_S):
        mirror = storage.open_update(mirror_path)
        try:
            size = mirror.identity().size_bytes
            has = _end_of_commits(mirror, size)
            if has < end:
                copy_range(lane, mirror, has, end)
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
