"""Bytes from a store into a point, or back: checksummed on the way, and held against what is known of them."""

from __future__ import annotations

import os
from collections.abc import Iterable

from memstore.codec.checksum import RunningChecksum, checksum
from memstore.errors import CorruptionError, StorageError
from memstore.format.backup_file import BackedUpFile
from memstore.fs.atomic import try_unlink
from memstore.fs.parts import checksum_of
from memstore.fs.storage import Storage, StorageFile

_COPY_BYTES = 1024 * 1024


def make_plain_directories(storage: Storage, path: str) -> None:
    """Create a directory and those above it; the caller syncs them all at once."""
    if storage.exists(path):
        return
    make_plain_directories(storage, os.path.dirname(path))
    try:
        storage.make_directory(path)
    except FileExistsError:
        return


def write_new(storage: Storage, path: str, data: bytes) -> None:
    """A new file of these bytes, in place of one that an earlier round left; not synced."""
    make_plain_directories(storage, os.path.dirname(path))
    try_unlink(storage, path)
    file = storage.create(path)
    try:
        file.write(data, 0)
    finally:
        file.close()


def copy_whole(storage: Storage, source: str, target: str) -> tuple[int, str]:
    """Copy a file as it stands; how long it is, and its checksum. Not synced."""
    file = storage.open_read(source)
    try:
        size = file.size_bytes()
        return size, copy_range(storage, file, target, size)[0]
    finally:
        file.close()


def copy_range(
    storage: Storage, source: StorageFile, target: str, size: int, pieces: Iterable[tuple[int, str]] = ()
) -> tuple[str, list[CorruptionError]]:
    """Copy the first bytes of a file; not synced.

    Args:
        storage: where the copy lies.
        source: open.
        target: the new file; one that is there is replaced.
        size: how many bytes.
        pieces: ``(length, xxh3)`` from the start on: what does not agree is copied as it is, and told.

    Returns:
        The checksum of all bytes, and the damage that was met.

    Raises:
        StorageError: the source is shorter than that.
    """
    make_plain_directories(storage, os.path.dirname(target))
    try_unlink(storage, target)
    file = storage.create(target)
    running = RunningChecksum()
    damage: list[CorruptionError] = []
    position = 0
    try:
        for length, xxh3 in (*pieces, (size, "")):
            end = min(position + length, size) if xxh3 else size
            begin, known = position, RunningChecksum()
            while position < end:
                data = source.read(position, min(end - position, _COPY_BYTES))
                if not data:
                    raise StorageError(f"{source.path}: it ends at {position} and should have {size} bytes")
                running.update(data)
                if xxh3:
                    known.update(data)
                file.write(data, position)
                position += len(data)
            if xxh3 and known.text() != xxh3:
                reason = "its checksum does not agree"
                damage.append(CorruptionError(source.path, offset_bytes=begin, length_bytes=length, reason=reason))
    finally:
        file.close()
    return running.text(), damage


def copy_listed(storage: Storage, root: str, entry: BackedUpFile, target: str, *, link: bool = False) -> None:
    """Copy a file out of a point, or link it, proved by the point's list; not synced.

    Raises:
        CorruptionError: it is not what was backed up, or is missing; what was copied is removed.
    """
    path = os.path.join(root, entry.path)
    try:
        file = storage.open_read(path)
    except FileNotFoundError:
        raise CorruptionError(path, offset_bytes=0, length_bytes=0, reason="it is missing from the backup") from None
    try:
        size = file.size_bytes()
        if size != entry.size:
            found = ""
        elif link and _try_link(storage, path, target):
            found = checksum_of(file)[1]
        else:
            found = copy_range(storage, file, target, size)[0]
    finally:
        file.close()
    if found != entry.xxh3:
        try_unlink(storage, target)
        reason = "its checksum is not the one in the list" if found else f"it has {size} bytes, not {entry.size}"
        raise CorruptionError(path, offset_bytes=0, length_bytes=size, reason=reason)


def _try_link(storage: Storage, source: str, target: str) -> bool:
    make_plain_directories(storage, os.path.dirname(target))
    try:
        storage.link(source, target)
    except StorageError:
        return False
    return True


def entry_of(path: str, data: bytes) -> BackedUpFile:
    """The entry of a small file that is written anew in each point."""
    return BackedUpFile(path, len(data), checksum(data), "")
