"""A packed file: its seek table against the MANIFEST; in full, every frame, every line, and what is said of all."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from operator import attrgetter

from memstore.codec.checksum import RunningChecksum
from memstore.codec.zstd import CHECKSUM_BYTES
from memstore.errors import CorruptionError, StorageError
from memstore.format.frames import SeekEntry, content_check, decode_seek_table, seek_table_bytes
from memstore.format.lines import split_lines
from memstore.format.manifest import PackedFile
from memstore.format.repeats import is_repeat
from memstore.fs.handles import ReadHandles
from memstore.lifecycle.collapse import Expander
from memstore.manifest.index import FrameRef, frame_refs
from memstore.ops.finding import Finding, Kind
from memstore.ops.reading_files import FileResult, IdPiece, IdRun, OnBytes
from memstore.ops.record_lines import RecordLines
from memstore.packed.reader import read_frame

SALVAGE = "keep its other frames in a new file, and set this one aside"
NEW_TABLE = "write it anew from its frames, which are whole"
_kind = attrgetter("memory_type", "importance")


def check_seek_table(
    path: str, agent: str, packed: PackedFile, *, handles: ReadHandles, on_bytes: OnBytes
) -> FileResult:
    """Hold the end of a packed file against its index, which is what a quick check looks at.

    Raises:
        FileNotFoundError: it is not there.
        StorageError: it cannot be read.
    """
    result = FileResult(records=packed.records)
    file = handles.get(path)
    size = file.identity().size_bytes
    if size != packed.size:
        reason = f"it is {size} bytes long, not {packed.size}"
        result.findings.append(
            _finding("packed_file", path, agent, reason, (0, size), records=packed.records, repair=SALVAGE)
        )
        return result
    length = seek_table_bytes(len(packed.frames))
    offset = size - length
    on_bytes(length)
    fault = _table_fault(file.read(offset, length), packed, size)
    if fault is not None:
        result.findings.append(_finding("seek_table", path, agent, fault, (offset, length), repair=NEW_TABLE))
    return result


def _table_fault(table: bytes, packed: PackedFile, size: int) -> str | None:
    try:
        entries = decode_seek_table(table, file_bytes=size)
    except ValueError as error:
        return str(error)
    if [entry[:2] for entry in entries] != [frame[:2] for frame in packed.frames]:
        return "the seek table does not list the frames that the MANIFEST lists"
    return None


def check_frames(
    path: str, agent: str, packed: PackedFile, *, handles: ReadHandles, lines: RecordLines, on_bytes: OnBytes
) -> FileResult:
    """Hold every byte of a packed file against its index. Raises as `check_seek_table`."""
    return _PackedCheck(path, agent, packed, handles=handles, lines=lines, on_bytes=on_bytes).run()


@dataclass(slots=True)
class _Totals:
    """What the MANIFEST says of all lines of a file together; believed only where every frame is whole."""

    stored: RunningChecksum = field(default_factory=RunningChecksum)
    kinds: Counter[tuple[str, str]] = field(default_factory=Counter)
    repeats: int = 0


class _PackedCheck:
    def __init__(
        self,
        path: str,
        agent: str,
        packed: PackedFile,
        *,
        handles: ReadHandles,
        lines: RecordLines,
        on_bytes: OnBytes,
    ) -> None:
        self._path = path
        self._agent = agent
        self._packed = packed
        self._handles = handles
        self._file = handles.get(path)
        self._lines = lines
        self._on_bytes = on_bytes
        self._result = FileResult()
        self._totals = _Totals()
        self._entries: list[SeekEntry] = []
        self._expander = Expander(lines.prefix_bytes, self._original) if packed.repeats else None

    def run(self) -> FileResult:
        size = self._file.identity().size_bytes
        if size != self._packed.size:
            self._find("packed_file", f"it is {size} bytes long, not {self._packed.size}", (0, size), repair=SALVAGE)
        pieces: list[IdPiece] = []
        last_needle = b""
        for ref in frame_refs(self._packed):
            data = self._frame(ref)
            if data is None:
                continue
            needle = data[: self._lines.needle_bytes]
            if needle <= last_needle:
                reason = "its lines do not come behind those of the frame before it"
                self._find("packed_file", reason, (ref.offset, ref.length), records=ref.records, repair=SALVAGE)
                continue
            last_line = data.rfind(b"\n", 0, -1) + 1
            last_needle = data[last_line : last_line + self._lines.needle_bytes]
            self._result.records += ref.records
            pieces.append(
                IdPiece(
                    self._path,
                    ref.offset,
                    ref.length,
                    ref.records,
                    ref.t_min,
                    ref.t_max,
                    functools.partial(_load, self._handles, self._path, ref),
                )
            )
        if pieces:
            self._result.runs.append(IdRun(tuple(pieces)))
        if not self._result.findings:
            self._check_totals(size)
        return self._result

    def _frame(self, ref: FrameRef) -> bytes | None:
        """The lines of a frame that is what it should be; None where it is not, which has been told then."""
        self._on_bytes(ref.length)
        try:
            data = read_frame(self._file, offset_bytes=ref.offset, frame=ref.frame)
            check = content_check(self._file.read(ref.offset + ref.length - CHECKSUM_BYTES, CHECKSUM_BYTES))
        except CorruptionError as error:
            self._refuse(ref, error.reason)
            return None
        except StorageError as error:
            self._refuse(ref, f"it cannot be read: {error}")
            return None
        listed = split_lines(data)
        fault = self._lines.fault(listed, records=ref.records, t_min=ref.t_min, t_max=ref.t_max)
        if fault is not None:
            self._refuse(ref, fault)
            return None
        whole = listed
        if self._expander is not None:
            try:
                whole = self._expander.expand([line[:-1] for line in listed])
            except StorageError as error:
                self._refuse(ref, f"a line of it stands for a repeat, and its record is lost: {error}")
                return None
            self._totals.repeats += sum(is_repeat(line, self._lines.prefix_bytes) for line in listed)
        records = self._lines.decoded(whole)
        if isinstance(records, str):
            self._refuse(ref, records)
            return None
        self._totals.stored.update(data)
        self._totals.kinds.update(map(_kind, records))
        self._entries.append(SeekEntry(ref.length, ref.frame.raw_length, check))
        return data

    def _refuse(self, ref: FrameRef, reason: str) -> None:
        self._find("packed_file", reason, (ref.offset, ref.length), records=ref.records, repair=SALVAGE)

    def _check_totals(self, size: int) -> None:
        """What is said of the file as a whole, once each of its frames is known to be whole."""
        offset = sum(frame.length for frame in self._packed.frames)
        self._on_bytes(size - offset)
        table = self._file.read(offset, size - offset)
        try:
            if decode_seek_table(table, file_bytes=size) != self._entries:
                raise ValueError("the seek table does not list the frames that are there")
        except ValueError as error:
            self._find("seek_table", str(error), (offset, len(table)), repair=NEW_TABLE)
        for reason in self._wrong_totals():
            self._find("manifest", f"{reason}, though each of its frames is whole", (0, 0), repair="write it anew")

    def _wrong_totals(self) -> Iterator[str]:
        packed, totals = self._packed, self._totals
        if totals.stored.text() != packed.xxh3:
            yield "the checksum that the MANIFEST gives for all lines of the file does not agree"
        if totals.kinds != {(kind.memory_type, kind.importance): kind.records for kind in packed.kinds}:
            yield "the MANIFEST counts other kinds of records than the file holds"
        if totals.repeats != packed.repeats:
            yield f"the MANIFEST counts {packed.repeats} repeats, and the file holds {totals.repeats}"

    def _original(self, needle: bytes) -> bytes:
        """Asked for what lies too far back to be still at hand; looked for in the whole frames of the file."""
        for ref in frame_refs(self._packed):
            try:
                data = read_frame(self._file, offset_bytes=ref.offset, frame=ref.frame)
            except StorageError:
                continue
            for line in split_lines(data):
                if line.startswith(needle):
                    return line[:-1]
        raise CorruptionError(
            self._path, offset_bytes=0, length_bytes=0, reason=f"{needle!r} is not in a whole frame of the file"
        )

    def _find(self, kind: Kind, reason: str, place: tuple[int, int], *, repair: str, records: int | None = 0) -> None:
        self._result.findings.append(
            _finding(kind, self._path, self._agent, reason, place, records=records, repair=repair)
        )


def _finding(
    kind: Kind,
    path: str,
    agent: str,
    reason: str,
    place: tuple[int, int],
    *,
    repair: str,
    records: int | None = 0,
) -> Finding:
    return Finding(kind, "damage", path, reason, *place, records=records, agent=agent, repair=repair)


def _load(handles: ReadHandles, path: str, ref: FrameRef) -> bytes:
    return read_frame(handles.get(path), offset_bytes=ref.offset, frame=ref.frame)
