"""What can be saved of a packed file: frames by their checksums, and where no index lists it, by walking the file."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from memstore.codec.checksum import RunningChecksum
from memstore.codec.zstd import CHECKSUM_BYTES, decompress
from memstore.errors import StorageError
from memstore.format.frames import SeekEntry, content_check, decode_seek_table, seek_table_bytes
from memstore.format.lines import split_lines
from memstore.format.manifest import PackedFile, TrashedFile
from memstore.format.repeats import is_repeat
from memstore.fs.storage import Storage, StorageFile
from memstore.lifecycle.collapse import Expander
from memstore.manifest.index import FrameRef, frame_refs
from memstore.ops.record_lines import RecordLines
from memstore.ops.repair.good_copies import GoodCopies
from memstore.ops.repair.salvage import FileSalvage, LostRange
from memstore.ops.repair.take_piece import read_or_nothing, take_piece
from memstore.packed.kinds import KindCounter
from memstore.packed.rebuild import rebuild_frames


@dataclass(frozen=True, slots=True)
class PackedFilePlace:
    """A packed file of an agent.

    Attributes:
        path: where it lies.
        trashed: what the trash says of it; None where it counts.
    """

    path: str
    trashed: TrashedFile | None = None


def salvage_packed_file(
    storage: Storage,
    place: PackedFilePlace,
    packed: PackedFile | None,
    *,
    lines: RecordLines,
    copies: GoodCopies,
    ingested_us: int,
) -> FileSalvage:
    """Hold a packed file against its index, and mend what can be mended.

    Args:
        storage: where it lies.
        place: which.
        packed: what the MANIFEST says of it; None where it does not name it.
        lines: what its lines must be.
        copies: where good copies may be had.
        ingested_us: when its youngest line came, where no index says so.

    Raises:
        StorageError: it cannot be opened.
    """
    return _PackedSalvage(storage, place, packed, lines=lines, copies=copies, ingested_us=ingested_us).run()


class _PackedSalvage:
    def __init__(
        self,
        storage: Storage,
        place: PackedFilePlace,
        packed: PackedFile | None,
        *,
        lines: RecordLines,
        copies: GoodCopies,
        ingested_us: int,
    ) -> None:
        self._storage = storage
        self._place = place
        self._packed = packed
        self._lines = lines
        self._copies = copies
        self._ingested_us = ingested_us
        name = os.path.basename(place.path)
        self._result = FileSalvage(name, place.path, packed is not None, place.trashed, ingested=ingested_us)
        self._expander = Expander(lines.prefix_bytes, _not_at_hand)
        self._kinds = KindCounter(whole=True)
        self._stored = RunningChecksum()
        self._entries: list[SeekEntry] = []
        self._repeats = 0
        self._saved = 0
        self._last_needle = b""

    def run(self) -> FileSalvage:
        result = self._result
        try:
            file: StorageFile | None = self._storage.open_read(self._place.path)
        except FileNotFoundError:
            file, result.is_missing = None, True
        try:
            size = 0 if file is None else file.identity().size_bytes
            packed = self._packed
            if packed is None:
                packed = None if file is None else self._rebuilt(file)
            if packed is None:
                return result
            result.ingested = packed.ingested
            for ref in frame_refs(packed) if self._packed is not None else self._found:
                self._take(file, ref)
            if result.is_whole and file is not None and self._ends_as_it_should(file, size, packed):
                result.packed = self._index(packed, size)
                result.changed |= result.packed != self._packed
        finally:
            if file is not None:
                file.close()
        return result

    def _rebuilt(self, file: StorageFile) -> PackedFile | None:
        """An index of the file alone; None where it has no whole frame."""
        found = rebuild_frames(file, prefix_bytes=self._lines.prefix_bytes, ingested_us=self._ingested_us)
        self._result.changed = True
        name = self._result.name
        self._found = [
            FrameRef(
                each.frame.t_min, each.frame.t_max, each.offset, each.frame.length, each.frame.records, name,
                each.frame.xxh3, each.frame,
            )
            for each in found.found
        ]  # fmt: skip
        self._result.lost += [LostRange(each.offset, each.length, None, each.reason) for each in found.damaged]
        if not found.frames:
            return None
        return PackedFile(file=name, size=found.size, xxh3=found.xxh3, frames=found.frames, kinds=[])

    def _take(self, file: StorageFile | None, ref: FrameRef) -> None:
        """Take a frame whole, mended or not at all."""
        result = self._result
        packed = take_piece(result, ref, file, self._copies)
        if packed is None:
            return
        try:
            data = decompress(packed, raw_length=ref.frame.raw_length)
        except ValueError as error:
            result.lost.append(LostRange(ref.offset, ref.length, ref.records, str(error)))
            return
        listed = split_lines(data)
        fault = self._lines.fault(listed, records=ref.records, t_min=ref.t_min, t_max=ref.t_max)
        if fault is None and data[: self._lines.needle_bytes] <= self._last_needle:
            fault = "its lines do not come behind those of the frame before it"
        whole = [] if fault is not None else self._expanded(listed)
        if fault is None and isinstance(self._lines.decoded(whole), str):
            fault = "a line of it is no record"
        if fault is not None:
            result.flipped.pop(ref.offset, None)
            result.copied.pop(ref.offset, None)
            result.lost.append(LostRange(ref.offset, ref.length, ref.records, fault))
            return
        result.pieces.append(ref)
        self._last_needle = listed[-1][: self._lines.needle_bytes]
        self._stored.update(data)
        if whole:
            self._kinds.add(b"\n".join(whole) + b"\n", ingested_us=ref.frame.ingested)
        self._entries.append(SeekEntry(ref.length, ref.frame.raw_length, content_check(packed[-CHECKSUM_BYTES:])))

    def _expanded(self, listed: Sequence[bytes]) -> list[bytes]:
        """The records of some lines; those whose originals are lost are noted and left out."""
        whole: list[bytes] = []
        for line in listed:
            stored = line[:-1]
            try:
                (record,) = self._expander.expand([stored])
            except StorageError:
                self._result.lost_repeats.add(line[: self._lines.needle_bytes])
                continue
            if is_repeat(stored, self._lines.prefix_bytes):
                self._repeats += 1
                self._saved += len(record) - len(stored)
            whole.append(record)
        return whole

    def _ends_as_it_should(self, file: StorageFile, size: int, packed: PackedFile) -> bool:
        """Whether frames and seek table fill the file."""
        offset = sum(frame.length for frame in packed.frames)
        if size != offset + seek_table_bytes(len(packed.frames)):
            return False
        try:
            return decode_seek_table(read_or_nothing(file, offset, size - offset), file_bytes=size) == self._entries
        except ValueError:
            return False

    def _index(self, packed: PackedFile, size: int) -> PackedFile:
        """What the MANIFEST has to say of a file that is whole."""
        own = self._kinds.own
        if self._packed is not None and own is not None and self._packed.own is not None:
            own = self._packed.own if self._packed.own[0] == own[0] else own
        return msgspec.structs.replace(
            packed,
            size=size,
            xxh3=self._stored.text(),
            kinds=self._kinds.kinds(),
            own=own,
            repeats=self._repeats,
            saved=packed.saved if packed.repeats == self._repeats else self._saved,
        )

    _found: Sequence[FrameRef] = ()


def _not_at_hand(needle: bytes) -> bytes:
    """Every line before it has been given to the `Expander`: an original that is not in its window is lost."""
    raise StorageError(f"{needle!r} is in no good frame")
