"""The pieces that are good of a file that was looked at, read again: each from where it was found good."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from memstore.codec.checksum import checksum
from memstore.codec.zstd import decompress
from memstore.engine.piece import Piece
from memstore.errors import CorruptionError
from memstore.fs.storage import Storage, StorageFile
from memstore.manifest.index import BlockRef, FrameRef
from memstore.ops.repair.good_copies import GoodCopies, file_of_agent, take
from memstore.ops.repair.salvage import FileSalvage

LoadLines = Callable[[FileSalvage, BlockRef | FrameRef], bytes]
"""The lines of a good piece, unpacked."""


def piece_bytes(
    salvage: FileSalvage, piece: BlockRef | FrameRef, file: StorageFile | None, *, copies: GoodCopies
) -> bytes:
    """The bytes of a piece as they were written.

    Args:
        salvage: of the file.
        piece: one of its pieces.
        file: the file; None where it is missing.
        copies: where good copies may be had.

    Raises:
        CorruptionError: they are no longer what they were when the file was looked at.
        StorageError: the disk refuses.
    """
    data = mended_bytes(salvage, piece, copies=copies)
    if data is None:
        data = b"" if file is None else file.read(piece.offset, piece.length)
        if checksum(data) != piece.xxh3:
            raise _changed(salvage, piece)
    return data


def mended_bytes(salvage: FileSalvage, piece: Piece, *, copies: GoodCopies) -> bytes | None:
    """The bytes of a piece that does not stand in its file as it should; None for one that does.

    Raises:
        CorruptionError: the copy that had them has them no more.
    """
    data = salvage.flipped.get(piece.offset)
    if piece.offset in salvage.copied:
        file, xxh3 = file_of_agent(salvage.path), piece.xxh3
        taken = take(copies, file, piece.offset, piece.length, lambda copied: checksum(copied) == xxh3)
        if taken is None:
            raise _changed(salvage, piece)
        return taken.data
    if data is not None and checksum(data) != piece.xxh3:
        raise _changed(salvage, piece)
    return data


def piece_lines(storage: Storage, salvage: FileSalvage, piece: BlockRef | FrameRef, *, copies: GoodCopies) -> bytes:
    """The lines of a piece, unpacked. Raises: as `piece_bytes`; FileNotFoundError: the file has moved."""
    data = mended_bytes(salvage, piece, copies=copies)
    if data is None:
        file = storage.open_read(salvage.path)
        try:
            data = piece_bytes(salvage, piece, file, copies=copies)
        finally:
            file.close()
    return decompress(data, raw_length=piece.frame.raw_length) if isinstance(piece, FrameRef) else data


def stored_frames(
    salvage: FileSalvage, file: StorageFile | None, *, copies: GoodCopies
) -> Iterator[tuple[FrameRef, bytes]]:
    """The good frames of a packed file, unpacked, in order. Raises: as `piece_bytes`."""
    for piece in salvage.pieces:
        assert isinstance(piece, FrameRef), piece
        packed = piece_bytes(salvage, piece, file, copies=copies)
        yield piece, decompress(packed, raw_length=piece.frame.raw_length)


def _changed(salvage: FileSalvage, piece: Piece) -> CorruptionError:
    return CorruptionError(
        salvage.path,
        offset_bytes=piece.offset,
        length_bytes=piece.length,
        reason="it has changed since it was looked at",
        records=piece.records,
    )
