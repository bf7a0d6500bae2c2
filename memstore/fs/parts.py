"""A file from one end to the other, in parts: to look through it, to copy it, to sum it up."""

from __future__ import annotations

from collections.abc import Iterator

from memstore.codec.checksum import RunningChecksum
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


def checksum_of(file: StorageFile) -> tuple[int, str]:
    """Size in bytes and xxh3 of all of a file."""
    running, size = RunningChecksum(), 0
    for data in parts_of(file):
        running.update(data)
        size += len(data)
    return size, running.text()
