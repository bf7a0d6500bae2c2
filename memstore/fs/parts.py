"""A file from one end to the other, in parts: to look through it, to copy it, to sum it up, to have it synced again."""

from __future__ import annotations

from collections.abc import Iterator

from memstore.codec.checksum import RunningChecksum
from memstore.errors import StorageError
from memstore.fs.storage import StorageFile

PART_BYTES = 1024 * 1024
"""Memory that a part takes, unless a caller wants larger ones."""


def parts_of(file: StorageFile, *, start: int = 0, part_bytes: int = PART_BYTES) -> Iterator[bytes]:
    """All bytes from an offset on, up to wherever the file ends when it is reached."""
    while data := file.read(start, part_bytes):
        yield data
        start += len(data)


def copy_content(source: StorageFile, target: StorageFile) -> None:
    """Write all of a file into an empty one; not synced."""
    position = 0
    for data in parts_of(source):
        target.write(data, position)
        position += len(data)


def copy_range(source: StorageFile, target: StorageFile, offset_bytes: int, end_bytes: int) -> None:
    """Write a range of one file to the same place in another; not synced.

    Raises:
        StorageError: the source ends before it.
    """
    while offset_bytes < end_bytes:
        data = source.read(offset_bytes, min(PART_BYTES, end_bytes - offset_bytes))
        if not data:
            raise StorageError(f"{source.path}: it ends at {offset_bytes}, and {end_bytes} bytes were there")
        target.write(data, offset_bytes)
        offset_bytes += len(data)


def write_again(file: StorageFile, offset_bytes: int, end_bytes: int) -> None:
    """Write a range's own bytes over it, so that the next sync carries them.

    A sync that failed was told to whoever asked for it, and nobody is told twice: the kernel counts such pages as
    clean, shows them to all who read, and writes them to the disk only once somebody has written to them again.
    """
    copy_range(file, file, offset_bytes, end_bytes)


def checksum_of(file: StorageFile) -> tuple[int, str]:
    """Size in bytes and xxh3 of all of a file."""
    running, size = RunningChecksum(), 0
    for data in parts_of(file):
        running.update(data)
        size += len(data)
    return size, running.text()
