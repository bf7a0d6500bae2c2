"""Lanes that stand in the store while its copy joins: each has to be in the copy whole, or written there as well."""

from __future__ import annotations

import os
from functools import partial

from memstore.errors import StorageError
from memstore.format.names import KEPT_SUFFIX, LANE_SUFFIX
from memstore.fs.atomic import replace_with
from memstore.fs.lock import is_locked
from memstore.fs.parts import copy_content
from memstore.fs.storage import Storage
from memstore.wal.scan import ScannedCommit, ScannedDamage, scan_lane
from memstore.wal.seal import commit_is_whole, header_end, read_seal


def cover(storage: Storage, name: str, *, lanes: str, copy_lanes: str) -> bool:
    """See that the copy has a lane that stands in the store, whole, or gets all that is written to it; whether it does.

    Args:
        storage: where both lie.
        name: of the lane in the store.
        lanes: the store's directory of lanes.
        copy_lanes: the copy's.

    Raises:
        StorageError: either volume refused.
    """
    path = os.path.join(lanes, name)
    target = os.path.join(
        copy_lanes, name.removesuffix(KEPT_SUFFIX) + (LANE_SUFFIX if name.endswith(KEPT_SUFFIX) else "")
    )
    try:
        file = storage.open_read(path)
    except FileNotFoundError:  # merged since it was listed, and then the MANIFESTs say so; or kept for repair
        kept = path.removesuffix(LANE_SUFFIX) + KEPT_SUFFIX
        return storage.identify(kept) is None
    try:
        sealed = read_seal(file, file.identity().size_bytes)
        if sealed is None:
            return is_mirrored(storage, target)
        if not _is_whole(storage, target, sealed[0].footer):
            replace_with(storage, target, partial(copy_content, file))
        return True
    finally:
        file.close()


def is_mirrored(storage: Storage, path: str) -> bool:
    """Whether somebody holds a lane of the copy open to write to it."""
    return is_locked(storage, path)


def _is_whole(storage: Storage, path: str, footer: int) -> bool:
    """Whether a lane of the copy holds every commit before an offset, each of them verified."""
    try:
        file = storage.open_read(path)
    except FileNotFoundError:
        return False
    try:
        if file.identity().size_bytes < footer:
            return False
        end = 0
        for item in scan_lane(file, start=header_end(file), size=footer):
            if isinstance(item, ScannedDamage):
                return False
            if isinstance(item, ScannedCommit):
                if not commit_is_whole(file, item):
                    return False
                end = item.end
    except StorageError:
        return False
    finally:
        file.close()
    return end == footer
