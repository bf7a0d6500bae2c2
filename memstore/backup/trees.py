"""Directories as wholes: every file below one, and its removal."""

from __future__ import annotations

import os
from collections.abc import Iterator

from memstore.fs.atomic import try_unlink
from memstore.fs.storage import Storage


def files_below(storage: Storage, root: str, below: str = "") -> Iterator[str]:
    """Paths of all files below a directory, relative to it, in order; none where it is not there."""
    try:
        entries = storage.list_directory(os.path.join(root, below))
    except FileNotFoundError:
        return
    for entry in sorted(entries, key=lambda each: each.name):
        relative = os.path.join(below, entry.name)
        if entry.is_directory:
            yield from files_below(storage, root, relative)
        else:
            yield relative


def remove_tree(storage: Storage, path: str) -> None:
    """Remove a directory and all below it; nothing where it is not there. Not synced."""
    try:
        entries = storage.list_directory(path)
    except FileNotFoundError:
        return
    for entry in entries:
        below = os.path.join(path, entry.name)
        if entry.is_directory:
            remove_tree(storage, below)
        else:
            try_unlink(storage, below)
    storage.remove_directory(path)
