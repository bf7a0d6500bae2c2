"""Remove partitions that count no longer. What is open somewhere stays readable there until it is closed."""

from __future__ import annotations

import os
from collections.abc import Set as AbstractSet

from memstore.errors import StorageError
from memstore.fs.atomic import try_unlink
from memstore.fs.storage import Storage


def remove_tree(storage: Storage, path: str) -> list[str]:
    """Remove a partition's directory and its files; paths of the files that went."""
    gone: list[str] = []
    try:
        entries = storage.list_directory(path)
    except FileNotFoundError:
        return gone
    for entry in entries:
        below = os.path.join(path, entry.name)
        if entry.is_directory:
            gone += remove_tree(storage, below)
        elif try_unlink(storage, below):
            gone.append(below)
    try:
        storage.remove_directory(path)
    except (FileNotFoundError, StorageError):
        return gone  # somebody has just written to it; the next sweep takes what is left
    storage.sync_directory(os.path.dirname(path))
    return gone


def newest_version(storage: Storage, root: str) -> int:
    """The highest version in the names of the directories below the index's root; 0 where there are none."""
    try:
        entries = storage.list_directory(root)
    except FileNotFoundError:
        return 0
    versions = [entry.name.rpartition(".")[2] for entry in entries]
    return max((int(version) for version in versions if version.isdecimal()), default=0)


def remove_strangers(storage: Storage, root: str, named: AbstractSet[str]) -> list[str]:
    """Remove every directory below the index's root that the state does not name; paths of the files that went."""
    try:
        entries = storage.list_directory(root)
    except FileNotFoundError:
        return []
    return [
        path
        for entry in entries
        if entry.name not in named
        for path in remove_tree(storage, os.path.join(root, entry.name))
    ]
