"""Take a piece of a damaged file whole, mended or not at all: its checksum decides."""

from __future__ import annotations

from memstore.codec.checksum import checksum
from memstore.errors import StorageError
from memstore.fs.storage import StorageFile
from memstore.manifest.index import BlockRef, FrameRef
from memstore.ops.repair.bit_search import find_flip
from memstore.ops.repair.good_copies import GoodCopies, file_of_agent, take
from memstore.ops.repair.salvage import FileSalvage, LostRange


def take_piece(
    salvage: FileSalvage, piece: BlockRef | FrameRef, file: StorageFile | None, copies: GoodCopies
) -> bytes | None:
    """The bytes of a piece as they were written: from the file, from a copy, or with one bit turned back.

    How they were had is noted in ``salvage``; where they cannot be had, the piece is noted as lost.

    Args:
        salvage: of the file.
        piece: which, and its checksum.
        file: the file; None where it is missing.
        copies: where good copies may be had.
    """
    data = b"" if file is None else read_or_nothing(file, piece.offset, piece.length)
    if len(data) == piece.length and checksum(data) == piece.xxh3:
        return data
    mended = _mended(salvage, piece, data, copies)
    if mended is None:
        reason = "the file is missing" if file is None else "its checksum does not agree"
        salvage.lost.append(LostRange(piece.offset, piece.length, piece.records, reason))
    return mended


def _mended(salvage: FileSalvage, piece: BlockRef | FrameRef, data: bytes, copies: GoodCopies) -> bytes | None:
    """The bytes that the checksum asks for, where those of the file do not have it."""
    file = file_of_agent(salvage.path)
    taken = take(copies, file, piece.offset, piece.length, lambda copied: checksum(copied) == piece.xxh3)
    if taken is not None:
        salvage.copied[piece.offset] = taken.source
        return taken.data
    found = find_flip(data, piece.xxh3) if len(data) == piece.length else None
    if found is not None:
        salvage.flipped[piece.offset] = found
    return found


def read_or_nothing(file: StorageFile, offset: int, length: int) -> bytes:
    """Bytes of a file that is to be saved; nothing where the disk refuses them."""
    try:
        return file.read(offset, length)
    except StorageError:
        return b""
