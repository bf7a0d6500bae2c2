"""Every lane of a listing into the archive that is kept beside the points, and those that stand into the point too."""

from __future__ import annotations

import os
from collections.abc import Sequence

import msgspec

from memstore.backup.copying import copy_range, make_plain_directories, write_new
from memstore.backup.lane_copy import CopiedLane, copy_lane
from memstore.backup.listing import ListedLane
from memstore.backup.repository import Repository
from memstore.backup.staging import LANES
from memstore.errors import StorageError
from memstore.format.backup_file import BackedUpFile, LanesFile, encode_lanes_file
from memstore.format.backup_names import LANES_LIST
from memstore.fs.storage import Storage


def archive_lanes(
    repository: Repository, staging: str, head: LanesFile, listed: Sequence[ListedLane]
) -> tuple[list[CopiedLane], list[BackedUpFile]]:
    """Bring every lane to where the archive takes it from, and those that stand into the point; the entries of these.

    Args:
        repository: with the archive.
        staging: the directory in which the point is made.
        head: what the archive's list says beside the lanes.
        listed: every lane there is.

    Raises:
        StorageError: a volume refuses.
    """
    storage, previous = repository.storage, head.previous
    directory = os.path.join(staging, LANES)
    make_plain_directories(storage, directory)
    known_directory, known = "", {}
    if previous is not None and storage.exists(repository.paths.lanes_list(previous)):
        known_directory = repository.paths.lanes_of(previous)
        known = {lane.file: lane for lane in repository.read_lanes(previous).lanes}
    lanes: list[CopiedLane] = []
    entries: list[BackedUpFile] = []
    for each in listed:
        lane = copy_lane(
            storage,
            each,
            directory,
            known=known.get(os.path.splitext(each.name)[0] + ".lane"),
            known_directory=known_directory,
        )
        lanes.append(lane)
        if lane.stands is not None:
            path = os.path.join("lanes", lane.stands)
            _link_or_copy(storage, os.path.join(directory, lane.entry.file), os.path.join(staging, path))
            entries.append(BackedUpFile(path, lane.entry.size, lane.entry.xxh3, ""))
    content = msgspec.structs.replace(head, lanes=[lane.entry for lane in lanes])
    write_new(storage, os.path.join(directory, LANES_LIST), encode_lanes_file(content))
    return lanes, entries


def _link_or_copy(storage: Storage, source: str, target: str) -> None:
    make_plain_directories(storage, os.path.dirname(target))
    try:
        storage.link(source, target)
    except (StorageError, FileExistsError):
        file = storage.open_read(source)
        try:
            copy_range(storage, file, target, file.size_bytes())
        finally:
            file.close()
