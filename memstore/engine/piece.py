"""A piece: sorted lines of one agent that are read and verified together, wherever they lie.

Blocks of day files and slices of lanes look the same to a reader: a time range, a place, a checksum.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from memstore.fs.storage import StorageFile
from memstore.fs.verified import read_verified

NO_MERGE = -1


class Piece(NamedTuple):
    """Times are microseconds, inclusive.

    ``merge`` is the MANIFEST's merge that wrote it, or `NO_MERGE` for a lane's slice. ``open`` gives the file; it
    raises ``FileNotFoundError`` where the file has moved.
    """

    t_min: int
    t_max: int
    offset: int
    length: int
    records: int
    xxh3: str
    merge: int
    open: Callable[[], StorageFile]

    def read(self) -> bytes:
        """Its bytes, verified.

        Raises:
            CorruptionError: they are not what was written.
            FileNotFoundError: the file has moved.
        """
        return read_verified(
            self.open(), offset_bytes=self.offset, length_bytes=self.length, xxh3=self.xxh3, records=self.records
        )

    def lines(self) -> list[bytes]:
        """Its lines without line breaks, sorted."""
        lines = self.read().split(b"\n")
        lines.pop()
        return lines
