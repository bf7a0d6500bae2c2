"""Directories as wholes: every file below one, and its removal."""

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
