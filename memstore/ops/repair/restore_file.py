"""Write a damaged file again just as it was, under its own name: whoever reads it may take either."""

from __future__ import annotations

import os

from memstore.codec.zstd import CHECKSUM_BYTES
from memstore.errors import StorageError
from memstore.format.frames import SeekEntry, content_check, encode_seek_table
from memstore.fs.atomic import make_durable_directories, replace_with
from memstore.fs.storage import Storage, StorageFile
from memstore.manifest.index import FrameRef
from memstore.ops.repair.good_copies import GoodCopies
from memstore.ops.repair.good_pieces import piece_bytes
from memstore.ops.repair.salvage import FileSalvage


def restore_file(storage: Storage, each: FileSalvage, *, size_bytes: int, copies: GoodCopies) -> None:
    """Put a file of which every piece can be had in its own place, whole and durable.

    Args:
        storage: where it lies.
        each: what is left of it.
        size_bytes: how long its MANIFEST says that it is.
        copies: where good copies may be had.

    Raises:
        CorruptionError: it is no longer what it was when it was looked at.
        StorageError: its pieces do not fill it, or the disk refuses; it stays as it is.
    """
    directory = os.path.dirname(each.path)
    make_durable_directories(storage, directory)
    source = None if each.is_missing else storage.open_read(each.path)

    def write(target: StorageFile) -> None:
        size = _write_pieces(each, source, target, copies)
        if size != size_bytes:
            raise StorageError(f"{each.path}: {size} bytes came of its pieces, not {size_bytes}; it stays as it is")

    try:
        replace_with(storage, each.path, write)
    finally:
        if source is not None:
            source.close()


def _write_pieces(each: FileSalvage, source: StorageFile | None, target: StorageFile, copies: GoodCopies) -> int:
    """Write pieces one behind the other, and a packed file's seek table; how many bytes that came to."""
    end = 0
    entries: list[SeekEntry] = []
    for piece in each.pieces:
        data = piece_bytes(each, piece, source, copies=copies)
        target.write(data, end)
        end += len(data)
        if isinstance(piece, FrameRef):
            entries.append(SeekEntry(piece.length, piece.frame.raw_length, content_check(data[-CHECKSUM_BYTES:])))
    if entries:
        table = encode_seek_table(entries)
        target.write(table, end)
        end += len(table)
    return end
