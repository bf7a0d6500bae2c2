"""Whether a new store may be made at a root: nothing may stand there but what a creator that was killed has left."""

from __future__ import annotations

import os

from memstore.errors import CorruptionError, NotFoundError, StorageError, UsageError
from memstore.format.names import STORE_FILE, StorePaths, is_lane_name
from memstore.fs.atomic import TEMPORARY_PREFIX
from memstore.fs.storage import DirectoryEntry, Storage

_BEGUN_STORE = frozenset({"locks", "lanes", "memory", "ballast"})
"""What a creator that was killed may have left, beside temporary files: STORE.json comes last."""


def check_vacant(storage: Storage, paths: StorePaths, *, create: bool) -> None:
    """Return where STORE.json is there by now, or where a store is to be made and may be.

    A store that lost its STORE.json must not be taken for a place to make one: the new one would give out writer
    numbers that were given out before, and would look for agents at other places than they lie at.

    Raises:
        NotFoundError: there is none, and none is to be made.
        UsageError: something that is no store stands at the root.
        CorruptionError: a store stands there that has lost its STORE.json.
    """
    root = paths.root
    names: set[str] = set()
    if storage.identify(root) is not None:
        try:
            names = {entry.name for entry in storage.list_directory(root)}
        except StorageError as error:
            raise UsageError(f"{root} is a file or cannot be listed; a store is a directory") from error
    if STORE_FILE in names:
        return  # another process has made it since it was looked for
    if names and holds_anything(storage, paths):
        if storage.identify(paths.store_file) is not None:
            return  # made since, and opened
        raise CorruptionError(paths.store_file, offset_bytes=0, length_bytes=0, reason="it is missing")
    if not create:
        raise NotFoundError(f"{root} holds no store; open it without read_only and with create=True to make one")
    if any(name not in _BEGUN_STORE and not name.startswith(TEMPORARY_PREFIX) for name in names):
        raise UsageError(f"{root} is not empty and holds no store; give a new or empty directory")


def holds_anything(storage: Storage, paths: StorePaths) -> bool:
    """Whether a root without a STORE.json was a store once: making one leaves no lane, no agent and no other lock.

    Raises:
        StorageError: a directory cannot be listed.
    """
    if any(is_lane_name(entry.name) for entry in _entries(storage, paths.lanes)):
        return True
    if any(entry.name != "store" for entry in _entries(storage, paths.locks)):
        return True
    shards = (os.path.join(paths.shards, entry.name) for entry in _entries(storage, paths.shards) if entry.is_directory)
    return any(entry.is_directory for shard in shards for entry in _entries(storage, shard))


def _entries(storage: Storage, directory: str) -> list[DirectoryEntry]:
    try:
        return list(storage.list_directory(directory))
    except FileNotFoundError:
        return []
