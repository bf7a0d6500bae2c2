"""Reading bytes that must be what was written."""

from __future__ import annotations

from memstore.codec.checksum import checksum
from memstore.errors import CorruptionError
from memstore.fs.storage import StorageFile


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
