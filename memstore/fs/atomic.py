"""Files as wholes: small ones read at once; any replaced: write aside, sync, rename, sync the directory."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Callable

from memstore.fs.storage import Storage, StorageFile

TEMPORARY_PREFIX = ".tmp-"
"""Files of this prefix are nobody's: whoever holds the directory's lock may remove them."""


def temporary_path(directory: str) -> str:
    """A name in a directory that nothing else uses."""
    return os.path.join(directory, f"{TEMPORARY_PREFIX}{secrets.token_hex(8)}")


def read_file(storage: Storage, path: str) -> bytes | None:
    """All of a small file, as it is now; None where it is not there."""
    try:
        file = storage.open_read(path)
    except FileNotFoundError:
        return None
    try:
        return file.read(0, file.size_bytes())
    finally:
        file.close()


def replace_file(storage: Storage, path: str, data: bytes) -> None:
    """Replace a file durably: a crash leaves the old content or the new, whole.

    Raises:
        StorageFullError: no space; the old content stands.
    """
    replace_with(storage, path, lambda file: file.write(data, 0))


def replace_with(storage: Storage, path: str, write: Callable[[StorageFile], object]) -> None:
    """`replace_file`, its content written into an empty file by whoever has it; what that raises leaves the old one."""
    directory = os.path.dirname(path)
    temporary = temporary_path(directory)
    file = storage.create(temporary)
    try:
        try:
            write(file)
            file.sync_data()
        finally:
            file.close()
        storage.rename(temporary, path)
    except BaseException:
        try_unlink(storage, temporary)
        raise
    storage.sync_directory(directory)


def make_directories(storage: Storage, path: str) -> None:
    """Create a directory and those above it, each durable in its parent; existing ones are left alone."""
    if storage.identify(path) is not None:
        return
    parent = os.path.dirname(path)
    if parent != path:
        make_directories(storage, parent)
    try:
        storage.make_directory(path)
    except FileExistsError:
        return
    storage.sync_directory(parent)


def make_one_directory(storage: Storage, path: str) -> None:
    """Create a directory, durably, and none above it: where a volume has gone, nothing is made at its mount point.

    Raises:
        FileNotFoundError: the one above it is not there.
    """
    if storage.identify(path) is not None:
        return
    with contextlib.suppress(FileExistsError):
        storage.make_directory(path)
    storage.sync_directory(os.path.dirname(path))


def make_durable_directories(storage: Storage, path: str) -> None:
    """`make_directories`, whoever was stopped at it before.

    A directory that is there may have been made by somebody who died, or met an error, before its name was synced.
    Those above it had been synced by then.
    """
    there = path
    while storage.identify(there) is None:
        there = os.path.dirname(there)
    storage.sync_directory(os.path.dirname(there))
    make_directories(storage, path)


def try_unlink(storage: Storage, path: str) -> bool:
    """Remove a file if it is there; whether it was."""
    try:
        storage.unlink(path)
    except FileNotFoundError:
        return False
    return True
