"""The files of a point into a new directory, each proved by the point's list."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection

from memstore.backup.copying import copy_listed, make_plain_directories
from memstore.backup.listing import ARCHIVE, SHARDS
from memstore.backup.repository import Repository
from memstore.errors import CorruptionError
from memstore.format.backup_file import BackupList
from memstore.format.names import STORE_FILE, StorePaths, shard_name
from memstore.format.store_file import StoreFile, decode_store_file
from memstore.fs.atomic import read_file

Progress = Callable[[int, int], None]
"""Told how many bytes are done, and how many there are."""


def lay_out(
    repository: Repository,
    name: str,
    listed: BackupList,
    target: str,
    *,
    agents: Collection[str] | None = None,
    link: bool = False,
    on_damage: Callable[[CorruptionError], None],
    progress: Progress,
) -> None:
    """Copy a point's files. Not synced.

    Args:
        repository: where the point is.
        name: the point's.
        listed: its list.
        target: a directory that is there and empty.
        agents: take the files of these only; None: of all. Small files and lanes are taken anyway.
        link: where the file system can, let the target share the point's files, for a look that changes nothing.
        on_damage: told of each file that is not what was backed up, and left out; raises, or returns to go on.
        progress: see `Progress`.
    """
    storage, point = repository.storage, repository.paths.point(name)
    paths = StorePaths(target)
    for directory in (paths.locks, paths.lanes, paths.archive):
        make_plain_directories(storage, directory)
    wanted = list(listed.files)
    for agent in listed.agents:
        if agents is None or agent.agent in agents:
            wanted += agent.files
    total = sum(entry.size for entry in wanted)
    done = 0
    for entry in wanted:
        try:
            copy_listed(storage, point, entry, os.path.join(target, entry.path), link=link)
        except CorruptionError as error:
            on_damage(error)
        done += entry.size
        progress(done, total)
    try:
        shards = [shard.index for shard in store_file_of(repository, name).shards]
    except CorruptionError as error:
        on_damage(error)
        shards = []
    for index in shards:  # an empty one has to be there too: a missing one is a volume that is not mounted
        make_plain_directories(storage, os.path.join(target, SHARDS, shard_name(index)))
    make_plain_directories(storage, os.path.join(target, ARCHIVE))


def store_file_of(repository: Repository, name: str) -> StoreFile:
    """STORE.json of a point.

    Raises:
        CorruptionError: it does not verify, or is missing.
        VersionError: a newer memstore wrote it.
    """
    path = os.path.join(repository.paths.point(name), STORE_FILE)
    data = read_file(repository.storage, path)
    if data is None:
        raise CorruptionError(path, offset_bytes=0, length_bytes=0, reason="it is missing from the backup")
    return decode_store_file(data, path)
