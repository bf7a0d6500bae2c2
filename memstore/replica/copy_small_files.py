"""The small files that belong to no agent: holds and the like as they are, FORGOTTEN by what is new of it."""

from __future__ import annotations

from memstore.format.names import StorePaths
from memstore.fs.atomic import read_file, replace_file, try_unlink
from memstore.fs.lock import locked
from memstore.fs.storage import Storage


def copy_small_files(storage: Storage, ours: StorePaths, copy: StorePaths) -> None:
    """Holds first: they forbid what the MANIFESTs would allow."""
    for source, target in (
        (ours.holds, copy.holds),
        (ours.lifecycle_state, copy.lifecycle_state),
    ):
        data = read_file(storage, source)
        if data is None:
            if try_unlink(storage, target):
                storage.sync_directory(copy.root)
        elif data != read_file(storage, target):
            replace_file(storage, target, data)


def follow_forgotten(storage: Storage, ours: StorePaths, copy: StorePaths, *, end: int) -> None:
    """Append what the store's FORGOTTEN has up to a length; the file is never replaced while it agrees.

    It may be longer by now: notes of forgetting get there by themselves.
    """
    with locked(storage, copy.lock("store")):
        all_of_it = read_file(storage, ours.forgotten) or b""
        data, there = all_of_it[:end], read_file(storage, copy.forgotten) or b""
        if there.startswith(data) and all_of_it.startswith(there):
            return
        if not data.startswith(there):
            replace_file(storage, copy.forgotten, data)
            return
        file = storage.open_write(copy.forgotten)
        try:
            file.write(data[len(there) :], len(there))
            file.sync_data()
        finally:
            file.close()
        storage.sync_directory(copy.root)
