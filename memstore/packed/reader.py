"""Read frames of a packed file back: checksum first, then zstd with its own, then what the index says.

The index (the MANIFEST's `PackedFile`) is believed, because its line is checked; the file has to agree with it.
"""

from __future__ import annotations

import operator
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from memstore.codec.checksum import RunningChecksum
from memstore.codec.zstd import CHECKSUM_BYTES, decompress
from memstore.errors import CorruptionError
from memstore.format.frames import SeekEntry, content_check, decode_seek_table
from memstore.format.lines import lines_span_us, split_lines
from memstore.format.manifest import Frame, PackedFile
from memstore.fs.storage import StorageFile
from memstore.fs.verified import read_verified

_NOT_SORTED = "its lines are not sorted"
_TASKS_WAITING = 2
"""Tasks that are read ahead besides one a thread."""
_TASK_BYTES = 1 << 20
"""Lines that a thread unpacks before it hands them back: that costs 0.2 ms, as much as unpacking 256 KiB."""

_Place = tuple[int, Frame]


@dataclass(frozen=True, slots=True)
class _Proved:
    """A frame that agrees with its index, as far as one frame can."""

    data: bytes
    first_line: bytes
    last_line: bytes
    entry: SeekEntry
    offset: int
    frame: Frame


def read_frame(file: StorageFile, *, offset_bytes: int, frame: Frame) -> bytes:
    """The lines of one frame.

    Args:
        file: the packed file.
        offset_bytes: where the frame begins: the lengths of all before it, added up.
        frame: what the MANIFEST says of it.

    Raises:
        CorruptionError: the bytes are not those that were written, or do not unpack to ``raw_length`` bytes.
    """
    packed = read_verified(
        file, offset_bytes=offset_bytes, length_bytes=frame.length, xxh3=frame.xxh3, records=frame.records
    )
    try:
        return decompress(packed, raw_length=frame.raw_length)
    except ValueError as error:
        raise _damaged(file, offset_bytes, frame, str(error)) from error


def verify_packed(file: StorageFile, packed: PackedFile, *, prefix_bytes: int, threads: int = 0) -> int:
    """Read all of a packed file and hold it against its index, in memory for a few frames.

    Args:
        file: the packed file.
        packed: what the MANIFEST says of it, or is about to.
        prefix_bytes: length of what every line of the agent starts with.
        threads: how many unpack, where there are frames for all of them; 0: the calling thread does.

    Returns:
        How many lines it holds.

    Raises:
        CorruptionError: something disagrees: a frame's bytes, count or times, the order of the lines, the checksum over
            all of them, the seek table, the size.
    """
    size = file.identity().size_bytes
    if size != packed.size:
        raise _all_damaged(file, packed, f"it is {size} bytes long, not {packed.size}")
    all_lines = RunningChecksum()
    entries: list[SeekEntry] = []
    last_line = b""

    def prove(places: list[_Place]) -> list[_Proved]:
        return [_prove(file, offset, frame, prefix_bytes=prefix_bytes) for offset, frame in places]

    tasks = _tasks(packed)
    for proved in _in_order(prove, tasks, threads=threads if len(tasks) > 2 * threads else 0):
        if last_line > proved.first_line:
            raise _damaged(file, proved.offset, proved.frame, _NOT_SORTED)
        all_lines.update(proved.data)
        entries.append(proved.entry)
        last_line = proved.last_line
    if all_lines.text() != packed.xxh3:
        raise _all_damaged(file, packed, "each frame is whole, but the checksum over all lines does not agree")
    _verify_seek_table(file, entries, table_offset=sum(frame.length for frame in packed.frames), size=size)
    return packed.records


def _tasks(packed: PackedFile) -> list[list[_Place]]:
    """The frames and their places, as many together as a thread is given at once."""
    tasks: list[list[_Place]] = []
    offset, size = 0, _TASK_BYTES
    for frame in packed.frames:
        if size >= _TASK_BYTES:
            tasks.append([])
            size = 0
        tasks[-1].append((offset, frame))
        offset += frame.length
        size += frame.raw_length
    return tasks


def _prove(file: StorageFile, offset: int, frame: Frame, *, prefix_bytes: int) -> _Proved:
    """Raises: CorruptionError: the frame does not agree with its index."""
    data = read_frame(file, offset_bytes=offset, frame=frame)
    lines = split_lines(data)
    reason = _disagreement(lines, frame, prefix_bytes)
    if reason is not None:
        raise _damaged(file, offset, frame, reason)
    check = content_check(file.read(offset + frame.length - CHECKSUM_BYTES, CHECKSUM_BYTES))
    return _Proved(
        data, lines[0], lines[-1], SeekEntry(frame.length, frame.raw_length, check), offset=offset, frame=frame
    )


def _in_order(
    prove: Callable[[list[_Place]], list[_Proved]], tasks: Iterable[list[_Place]], *, threads: int
) -> Iterator[_Proved]:
    """Each frame proved, in order; an error comes where its frame would have."""
    if not threads:
        for task in tasks:
            yield from prove(task)
        return
    under_way: deque[Future[list[_Proved]]] = deque()
    with ThreadPoolExecutor(threads, thread_name_prefix="memstore-verify") as pool:
        try:
            for task in tasks:
                if len(under_way) == threads + _TASKS_WAITING:
                    yield from under_way.popleft().result()
                under_way.append(pool.submit(prove, task))
            while under_way:
                yield from under_way.popleft().result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _verify_seek_table(file: StorageFile, entries: list[SeekEntry], *, table_offset: int, size: int) -> None:
    table = file.read(table_offset, size - table_offset)
    try:
        if decode_seek_table(table, file_bytes=size) != entries:
            raise ValueError("the seek table does not list the frames that are there")
    except ValueError as error:
        raise CorruptionError(
            file.path, offset_bytes=table_offset, length_bytes=len(table), reason=str(error), records=0
        ) from error


def _disagreement(lines: list[bytes], frame: Frame, prefix_bytes: int) -> str | None:
    """What does not agree between a frame's lines and its index, or None."""
    if not lines or len(lines) != frame.records:
        return f"it holds {len(lines)} lines, not {frame.records}"
    if not lines[-1].endswith(b"\n"):
        return "its last line has no end"
    try:
        span = lines_span_us(lines, prefix_bytes)
    except ValueError:
        return "its first or last line is not laid out as this agent's records"
    if span != (frame.t_min, frame.t_max):
        return f"its lines are from {span[0]} to {span[1]}, not from {frame.t_min} to {frame.t_max}"
    if not all(map(operator.le, lines, lines[1:])):
        return _NOT_SORTED
    return None


def _damaged(file: StorageFile, offset_bytes: int, frame: Frame, reason: str) -> CorruptionError:
    return CorruptionError(
        file.path, offset_bytes=offset_bytes, length_bytes=frame.length, reason=reason, records=frame.records
    )


def _all_damaged(file: StorageFile, packed: PackedFile, reason: str) -> CorruptionError:
    return CorruptionError(file.path, offset_bytes=0, length_bytes=packed.size, reason=reason, records=packed.records)
