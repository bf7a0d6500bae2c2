"""Read one piece: its bytes, verified, as whole lines, whatever kind of file it lies in.

Frames are unpacked through a cache with a byte budget, for a frame that holds one wanted line holds its neighbours too,
and a frame of several days is asked for once for each of them. Lines that stand for a repeat come back as the record
they stand for.
"""

from __future__ import annotations

import bisect
import os
from collections.abc import Callable, Sequence
from contextlib import suppress

from memstore.cache.sieve import SieveCache
from memstore.codec.checksum import checksum
from memstore.engine.catalog import Catalog
from memstore.engine.piece import Piece, SlicePiece
from memstore.errors import CorruptionError, StorageError
from memstore.format.lines import agent_prefix, bare_lines, line_time_us
from memstore.format.names import TRASH_DIRECTORY, parse_cold_file_name, parse_day_file_name
from memstore.format.repeats import LineParts, expand_parts, is_repeat, original_id, take_apart
from memstore.fs.handles import ReadHandles
from memstore.fs.storage import Storage, StorageFile
from memstore.fs.verified import read_listed
from memstore.manifest.index import BlockRef, FrameRef, Manifest, frame_refs
from memstore.packed.reader import read_frame

SpareData = Callable[[Manifest | None, Piece, Exception], bytes | None]
"""Gives the verified bytes of a piece from elsewhere, told why they are not here; None where it cannot."""


class PieceReader:
    """Thread-safe.

    Args:
        storage: where everything lies.
        catalog: says where the archive is.
        handles: open files.
        frames: unpacked frames by path and offset.

    Attributes:
        spare: where to read what does not verify; None: nowhere.
    """

    def __init__(self, storage: Storage, *, catalog: Catalog, handles: ReadHandles, frames: SieveCache[bytes]) -> None:
        self._storage = storage
        self._catalog = catalog
        self._handles = handles
        self._frames = frames
        self.spare: SpareData | None = None

    def path_of(self, manifest: Manifest, file: str) -> str:
        """Where a file of an agent lies."""
        directory = manifest.directory
        if parse_cold_file_name(file) is not None:
            directory = self._catalog.state.archive_of(manifest.agent)
        if file in manifest.trash:
            return f"{directory}/{TRASH_DIRECTORY}/{file}"
        return f"{directory}/{file}"

    def lines(self, manifest: Manifest | None, piece: Piece) -> list[bytes]:
        """The lines of a piece that are not hidden, without line breaks.

        Args:
            manifest: the one that a block or frame comes from.
            piece: which.

        Raises:
            CorruptionError: they are not what was written.
            FileNotFoundError: the file has moved.
            StorageError: the volume of the archive is not there.
        """
        lines = self.all_lines(manifest, piece)
        if manifest is not None and manifest.hidden.times and manifest.hidden.touches(piece.t_min, piece.t_max):
            lines = manifest.hidden.without(lines)
        return lines

    def all_lines(self, manifest: Manifest | None, piece: Piece) -> list[bytes]:
        """Like `lines`, the hidden ones too."""
        lines = bare_lines(self.data(manifest, piece))
        if isinstance(piece, FrameRef) and manifest is not None and manifest.repeats_in(piece.file):
            lines = self._expanded(manifest, piece, lines)
        return lines

    def find(self, manifest: Manifest | None, piece: Piece, needle: bytes) -> bytes | None:
        """The line of a piece that starts with ``needle``, hidden or not; None where it has none. Raises as `lines`."""
        data = self.data(manifest, piece)
        line = find_in(data, needle)
        if line is None or manifest is None or not isinstance(piece, FrameRef):
            return line
        if not manifest.repeats_in(piece.file):
            return line
        return self._expanded(manifest, piece, [line])[0]

    def beginning(self, manifest: Manifest, piece: BlockRef | FrameRef, length_bytes: int) -> bytes:
        """The first bytes of a piece, those of a block not verified. Raises as `lines`."""
        if isinstance(piece, FrameRef):
            return self.data(manifest, piece)[:length_bytes]
        return self._handles.get(self.path_of(manifest, piece.file)).read(piece.offset, length_bytes)

    def data(self, manifest: Manifest | None, piece: Piece) -> bytes:
        """The bytes of a piece as they are stored, unpacked and verified. Raises as `lines`."""
        try:
            return self._data(manifest, piece)
        except StorageError as error:
            data = None if self.spare is None else self.spare(manifest, piece, error)
            if data is None:
                raise
            return data
        except FileNotFoundError as error:
            # A move went by, unless the MANIFEST still says so: then the file is lost.
            if self.spare is None or manifest is None or not self._still_says(manifest):
                raise
            data = self.spare(manifest, piece, error)
            if data is None:
                raise
            return data

    def _still_says(self, manifest: Manifest) -> bool:
        identity = self._storage.identify(manifest.path)
        return identity is not None and manifest.stands_at(identity)

    def _data(self, manifest: Manifest | None, piece: Piece) -> bytes:
        if isinstance(piece, SlicePiece):
            return read_listed(piece.file, piece)
        assert manifest is not None
        path = self.path_of(manifest, piece.file)
        if isinstance(piece, BlockRef):
            return read_listed(self._handles.get(path), piece)
        key = (path, piece.offset, piece.xxh3)  # the name may come back once an agent was erased
        data = self._frames.get(key)
        if data is None:
            file = self._open_packed(path, piece.file)
            data = read_frame(file, offset_bytes=piece.offset, frame=piece.frame)
            self._frames.put(key, data, len(data))
        return data

    def adjoining(self, manifest: Manifest, blocks: Sequence[BlockRef]) -> bytes:
        """The bytes of blocks that lie one behind the other in a day file, read at once. Raises as `lines`."""
        first, last = blocks[0], blocks[-1]
        try:
            file = self._handles.get(self.path_of(manifest, first.file))
            data = file.read(first.offset, last.offset + last.length - first.offset)
        except (StorageError, FileNotFoundError):
            return b"".join(self.data(manifest, each) for each in blocks)
        view = memoryview(data)
        for block in blocks:
            start = block.offset - first.offset
            if checksum(view[start : start + block.length]) != block.xxh3:
                return b"".join(self.data(manifest, each) for each in blocks)  # says which it is
        return data

    def open(self, manifest: Manifest, file: str) -> StorageFile:
        """A file of an agent: whoever holds it reads on when a move has unlinked it. Raises as `lines`."""
        path = self.path_of(manifest, file)
        return self._handles.get(path) if parse_day_file_name(file) is not None else self._open_packed(path, file)

    def _open_packed(self, path: str, name: str) -> StorageFile:
        """A packed file; where a move to or from the trash was stopped, it still lies at the other place."""
        try:
            return self._handles.get(path)
        except FileNotFoundError as missing:
            self._check_archive(name)
            directory = os.path.dirname(path)
            in_trash = os.path.basename(directory) == TRASH_DIRECTORY
            home = os.path.dirname(directory) if in_trash else os.path.join(directory, TRASH_DIRECTORY)
            try:
                return self._handles.get(os.path.join(home, name))
            except FileNotFoundError:
                raise missing from None

    def reads_anew(self, manifest: Manifest, piece: BlockRef | FrameRef) -> bool:
        """Whether a piece that could not be read can be now, from the file that has its name now.

        All of it: where a line repeats another one, that lies in another frame, which may be the damaged one.
        """
        path = self.path_of(manifest, piece.file)
        self._handles.drop(path)
        self._frames.discard((path, piece.offset, piece.xxh3))
        try:
            self.all_lines(manifest, piece)
        except (CorruptionError, FileNotFoundError):
            return False
        return True

    def lines_left(self, manifest: Manifest | None, piece: Piece) -> list[bytes]:
        """Those of `lines` that can be had although the damage of another frame keeps others from being expanded."""
        if manifest is None or not isinstance(piece, FrameRef) or not manifest.repeats_in(piece.file):
            return []
        try:
            lines = bare_lines(self.data(manifest, piece))
        except (CorruptionError, FileNotFoundError):
            return []
        left: list[bytes] = []
        for line in lines:
            with suppress(CorruptionError, FileNotFoundError):
                left += self._expanded(manifest, piece, [line])
        return manifest.hidden.without(left)

    def follow(self, before: Manifest, now: Manifest | None) -> None:
        """Close files that count no longer: while somebody holds them open, their space is not free."""
        gone = {*before.day_files, *before.packed}
        if now is not None:
            gone -= now.day_files.keys() | now.packed.keys()
        for name in gone:
            self._handles.drop(self.path_of(before, name))

    def clear(self) -> None:
        """Forget all frames."""
        self._frames.clear()

    def drop_under(self, directory: str) -> None:
        """Close files below a directory, and forget all frames: what is erased must not stay open or in memory."""
        self._handles.drop_under(directory)
        self._frames.clear()

    def _expanded(self, manifest: Manifest, piece: FrameRef, lines: list[bytes]) -> list[bytes]:
        """The lines with each repeat in full."""
        prefix_bytes = len(agent_prefix(manifest.agent))
        originals: dict[bytes, LineParts] = {}
        whole: list[bytes] = []
        for line in lines:
            if not is_repeat(line, prefix_bytes):
                whole.append(line)
                continue
            try:
                escaped = original_id(line, prefix_bytes)
                original = originals.get(escaped)
                if original is None:
                    original = originals[escaped] = self._original(manifest, piece, escaped, prefix_bytes)
                whole.append(expand_parts(line, original, prefix_bytes))
            except ValueError as error:
                raise CorruptionError(
                    self.path_of(manifest, piece.file),
                    offset_bytes=piece.offset,
                    length_bytes=piece.length,
                    reason=f"a line stands for a repeat and its record cannot be made of it: {error}",
                    records=piece.records,
                ) from error
        return whole

    def _original(self, manifest: Manifest, piece: FrameRef, escaped: bytes, prefix_bytes: int) -> LineParts:
        """The line of the same file that repeats stand for, given its id as lines have it.

        Raises:
            ValueError: it is not there.
        """
        needle = b'{"memory_id":"%b"' % escaped
        time_us = line_time_us(needle, prefix_bytes)
        frames = list(frame_refs(manifest.packed_file(piece.file)))
        first = bisect.bisect_left(frames, time_us, key=_t_max)
        for frame in frames[first:]:
            if frame.t_min > time_us:
                break
            line = find_in(self.data(manifest, frame), needle)
            parts = None if line is None else take_apart(line, prefix_bytes)
            if parts is not None:
                return parts
        raise ValueError("its original is not in the file")

    def _check_archive(self, file: str) -> None:
        """Raises: StorageError: the archive is gone as a whole, rather than one file of it."""
        archive = self._catalog.state.archive
        if parse_cold_file_name(file) is not None and self._storage.identify(archive) is None:
            raise StorageError(
                f"{archive}: the archive is missing; mount its volume, or restore it from a backup. "
                f"{os.path.basename(file)} and the other cold files lie there"
            )


def find_in(data: bytes, needle: bytes) -> bytes | None:
    """The line of a piece that starts with ``needle``."""
    if data.startswith(needle):
        start = 0
    else:
        start = data.find(b"\n" + needle) + 1
        if start == 0:
            return None
    return data[start : data.index(b"\n", start)]


def _t_max(frame: FrameRef) -> int:
    return frame.t_max
