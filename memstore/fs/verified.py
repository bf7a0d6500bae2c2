"""Reading bytes that must be what was written."""

from __future__ import annotations

from typing import Protocol

from memstore.codec.checksum import checksum
from memstore.errors import CorruptionError
from memstore.fs.storage import StorageFile


class ListedRange(Protocol):
    """A range of a file as an index lists it: a block, a frame, a slice."""

    @property
    def offset(self) -> int:
        """Of its first byte, from the start of the file."""
        ...

    @property
    def length(self) -> int:
        """In bytes."""
        ...

    @property
    def xxh3(self) -> str:
        """Checksum of its bytes."""
        ...

    @property
    def records(self) -> int:
        """How many are in it."""
        ...


def read_listed(file: StorageFile, listed: ListedRange) -> bytes:
    """A range of a file that is what the index says. Raises as `read_verified`."""
    return read_verified(
        file, offset_bytes=listed.offset, length_bytes=listed.length, xxh3=listed.xxh3, records=listed.records
    )


def read_verified(file: StorageFile, *, offset_bytes: int, length_bytes: int, xxh3: str, records: int) -> bytes:
    """A range of a file, verified before any of it is returned.

    Raises:
        CorruptionError: the range is short or its checksum does not agree; ``records`` says how many are affected.
    """
    data = file.read(offset_bytes, length_bytes)
    if len(data) != length_bytes:
        raise CorruptionError(
            file.path,
            offset_bytes=offset_bytes,
            length_bytes=length_bytes,
            reason=f"the file ends {length_bytes - len(data)} bytes too early",
            records=records,
        )
    if checksum(data) != xxh3:
        raise CorruptionError(
            file.path,
            offset_bytes=offset_bytes,
            length_bytes=length_bytes,
            reason="its checksum does not agree",
            records=records,
        )
    return data
