"""One file of an agent to the second copy: what is new of a day file, or a packed one whole, verified as it is read."""

from __future__ import annotations

import os
from dataclasses import dataclass

from memstore.engine.piece_reader import PieceReader
from memstore.errors import CorruptionError, StorageError
from memstore.format.manifest import PackedFile
from memstore.format.names import TRASH_DIRECTORY
from memstore.fs.atomic import make_one_directory, temporary_path, try_unlink
from memstore.fs.storage import Storage, StorageFile
from memstore.fs.verified import read_listed
from memstore.manifest.index import BlockRef, Manifest, frame_refs

_COPY_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class CopiedFile:
    """A file that was written and is not synced yet.

    Attributes:
        file: open.
        temporary: the name under which it waits; empty where it has its own already.
        target: its own.
    """

    file: StorageFile
    temporary: str
    target: str


class FileCopier:
    """Used by one thread.

    Args:
        storage: where both copies lie.
        source: reads and places the store's files.

    Attributes:
        copied_bytes: how much was written.
    """

    def __init__(self, storage: Storage, source: PieceReader) -> None:
        self._storage = storage
        self._source = source
        self.copied_bytes = 0

    def day_file(self, manifest: Manifest, known: Manifest | None, target: str) -> CopiedFile | None:
        """Write what the copy lacks of a day file; None where it has all of it.

        Args:
            manifest: the store's.
            known: what the copy's says, where that can be believed of this file.
            target: where it lies in the copy.

        Raises:
            CorruptionError: a block of the store does not verify.
            FileNotFoundError: the file has moved.
            StorageError: either volume refused.
        """
        name = os.path.basename(target)
        blocks = _blocks(manifest, name)
        had = _blocks(known, name) if known is not None and name in known.day_files else []
        start = 0
        if had and [_content(b) for b in had] == [_content(b) for b in blocks[: len(had)]]:
            start = len(had)
            identity = self._storage.identify(target)
            if identity is None or identity.size_bytes < had[-1].offset + had[-1].length:
                start = 0  # gone or cut there: the whole of it once more
        if start == len(blocks):
            return None
        # It may be all there is until this one counts.
        replaces = start == 0 and self._storage.identify(target) is not None
        temporary = temporary_path(os.path.dirname(target)) if replaces else ""
        file = self._storage.open_write(temporary or target)
        try:
            file.truncate(blocks[start].offset)
            for block in blocks[start:]:
                data = self._source.data(manifest, block)
                file.write(data, block.offset)
                self.copied_bytes += len(data)
        except BaseException:
            file.close()
            raise
        return CopiedFile(file, temporary, target)

    def packed_file(
        self, manifest: Manifest, known: Manifest | None, packed: PackedFile, target: str
    ) -> CopiedFile | None:
        """Write a packed file; None where the copy has it. Args and Raises: as `day_file`."""
        if known is not None and self._has(known, packed, target):
            return None
        directory = os.path.dirname(target)
        if os.path.basename(directory) == TRASH_DIRECTORY:
            make_one_directory(self._storage, os.path.dirname(directory))
        make_one_directory(self._storage, directory)
        source = self._storage.open_read(self._source.path_of(manifest, packed.file))
        temporary = temporary_path(directory)
        try:
            file = self._storage.create(temporary)
            try:
                self._copy_frames(source, file, packed)
            except BaseException:
                file.close()
                try_unlink(self._storage, temporary)
                raise
        finally:
            source.close()
        return CopiedFile(file, temporary, target)

    def _copy_frames(self, source: StorageFile, file: StorageFile, packed: PackedFile) -> None:
        if source.identity().size_bytes != packed.size:
            raise CorruptionError(
                source.path,
                offset_bytes=0,
                length_bytes=source.identity().size_bytes,
                reason=f"it is not {packed.size} bytes long",
                records=packed.records,
            )
        position = 0
        for ref in frame_refs(packed):
            data = read_listed(source, ref)
            file.write(data, ref.offset)
            position = ref.offset + ref.length
        while position < packed.size:  # the seek table, which has checksums of its own
            data = source.read(position, min(_COPY_BYTES, packed.size - position))
            if not data:
                raise StorageError(f"{source.path}: it was cut while it was copied")
            file.write(data, position)
            position += len(data)
        self.copied_bytes += packed.size

    def _has(self, known: Manifest, packed: PackedFile, target: str) -> bool:
        there = known.packed.get(packed.file)
        if there is None and packed.file in known.trash:
            there = known.trash[packed.file].packed
        if there is None or (there.frames, there.size) != (packed.frames, packed.size):
            return False
        identity = self._storage.identify(target)
        return identity is not None and identity.size_bytes == packed.size


def _blocks(manifest: Manifest, name: str) -> list[BlockRef]:
    refs = [ref for ref in manifest.file_refs(name) if isinstance(ref, BlockRef)]
    return sorted(refs, key=lambda ref: ref.offset)


def _content(block: BlockRef) -> tuple[int, int, str]:
    return block.offset, block.length, block.xxh3
