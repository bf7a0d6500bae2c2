"""A piece: sorted lines of one agent that are read and verified together, wherever they lie.

A block of a day file, a frame of a packed file and a slice of a lane look the same to a reader: a time range, a place,
a checksum.
"""

from __future__ import annotations

from typing import NamedTuple

from memstore.fs.storage import StorageFile
from memstore.manifest.index import BlockRef, FrameRef


class SlicePiece(NamedTuple):
    """A slice of a lane, in the form of a `BlockRef`; its file is open, for the lane may be unlinked under it."""

    t_min: int
    t_max: int
    offset: int
    length: int
    records: int
    file: StorageFile
    xxh3: str


Piece = BlockRef | FrameRef | SlicePiece
