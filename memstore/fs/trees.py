"""Directories as wholes: every file below one, its removal, and what makes it durable."""

from __future__ import annotations

import os
from collections.abc import Iterator

from memstore.fs.atomic import try_unlink
from memstore.fs.storage import Storage


def files_below(storage: Storage, directory: str) -> Iterator[str]:
    """Paths of all files below a directory, in order of their names; none where it is not there."""
    try:
        entries = storage.list_directory(directory)
    except FileNotFoundError:
        return
    for entry in sorted(entries, key=lambda each: each.name):
        path = os.path.join(directory, entry.name)
        if entry.is_directory:
            yield from files_below(storage, path)
        else:
            yield path


def remove_tree(storage: Storage, path: str, *, last: str | None = None, durably: bool = True) -> None:
    """Remove a directory and all below it; nothing where it is not there.

    Args:
        storage: where it lies.
        path: the directory.
        last: the name that goes last in every directory: of the file that alone says whose directory it is.
        durably: whether each removal of a directory is synced.
    """
    try:
        entries = storage.list_directory(path)
    except FileNotFoundError:
        return
    for entry in sorted(entries, key=lambda each: each.name == last):
        below = os.path.join(path, entry.name)
        if entry.is_directory:
            remove_tree(storage, below, last=last, durably=durably)
        else:
            try_unlink(storage, below)
    storage.remove_directory(path)
    if durably:
        storage.sync_directory(os.path.dirname(path))


def sync_tree(storage: Storage, root: str) -> None:
    """Make every file and name below a directory durable, one by one."""
    directories = {root}
    for path in files_below(storage, root):
        file = storage.open_read(path)
        try:
            file.sync_data()
        finally:
            file.close()
        directory = os.path.dirname(path)
        while len(directory) > len(root):
            directories.add(directory)
            directory = os.path.dirname(directory)
    for directory in sorted(directories, key=len, reverse=True):
        storage.sync_directory(directory)
