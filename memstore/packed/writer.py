"""Pack sorted lines into frames, compressed by a few threads and written in order.

Lines gather until the next would make the frame too large; so where frames are cut depends on the lines alone, not on
the pieces they came in. Closed frames go to a small pool, a megabyte at a time (zstd lets go of the GIL); while
``threads + 2`` such tasks are under way the oldest is waited for and written. So that many are in memory and the one
that gathers, however much is packed. The caller compresses the first frame, and all of them where they are few, so that
small files, which are many, start no threads.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Self

from memstore.codec.checksum import RunningChecksum, checksum
from memstore.codec.zstd import compress
from memstore.errors import StorageError
from memstore.format.frames import SeekEntry, content_check, encode_seek_table
from memstore.format.lines import lines_span_us, split_lines
from memstore.format.manifest import Frame, KindCount, PackedFile
from memstore.fs.storage import StorageFile

_TASKS_WAITING = 2
"""Tasks that may wait besides one a thread: one to begin with at once, one that is being written."""
TASK_BYTES = 1 << 20
"""Lines that a thread is given at once, or one frame where that is more: handing over costs 0.2 ms, which is half of
what compressing 256 KiB at level 3 takes."""


@dataclass(frozen=True, slots=True)
class PackedLines:
    """What a finished file holds, as far as its writer knows.

    Attributes:
        size: bytes of the whole file, seek table included.
        xxh3: checksum over all lines.
        frames: in order; none where nothing was added: such a file is of no use.
    """

    size: int
    xxh3: str
    frames: list[Frame]

    @property
    def records(self) -> int:
        """Lines in all of its frames."""
        return sum(frame.records for frame in self.frames)

    @property
    def raw_bytes(self) -> int:
        """Bytes of its lines, unpacked."""
        return sum(frame.raw_length for frame in self.frames)

    def named(self, file: str, *, kinds: list[KindCount], own: tuple[int, int, int] | None = None) -> PackedFile:
        """The file as a MANIFEST lists it, without repeats or digests."""
        return PackedFile(file=file, size=self.size, xxh3=self.xxh3, frames=self.frames, kinds=kinds, own=own)


@dataclass(frozen=True, slots=True)
class _Closed:
    """A frame whose lines are known; ``length`` and ``xxh3`` follow when it is compressed."""

    raw_length: int
    records: int
    t_min: int
    t_max: int
    ingested: int


class PackedWriter:
    """Writes one packed file from offset 0 on; nothing is durable until the caller syncs it.

    For one thread. Used with ``with``, or closed by `close`: then no thread of it is left, and what stands in the file
    is worth nothing unless `finish` returned. After any error it refuses to go on.

    Args:
        file: open for writing, empty.
        prefix_bytes: length of what every line of the agent starts with.
        frame_bytes_max: bytes of lines in a frame; one longer line is a frame of its own.
        level: of zstd, 1 to 22.
        threads: how many compress; 0: the calling thread does.
    """

    def __init__(self, file: StorageFile, *, prefix_bytes: int, frame_bytes_max: int, level: int, threads: int) -> None:
        assert frame_bytes_max > 0, frame_bytes_max
        self._file = file
        self._prefix_bytes = prefix_bytes
        self._frame_bytes_max = frame_bytes_max
        self._level = level
        self._threads = threads
        self._pool: ThreadPoolExecutor | None = None
        self._under_way: deque[tuple[list[_Closed], Future[list[tuple[bytes, str]]]]] = deque()
        self._closed: list[tuple[_Closed, bytes]] = []
        self._closed_bytes = 0
        self._gathered: list[bytes] = []
        self._gathered_bytes = 0
        self._ingested_us = 0
        self._checksum = RunningChecksum()
        self._frames: list[Frame] = []
        self._entries: list[SeekEntry] = []
        self._offset = 0
        self._last_us: int | None = None
        self._stopped = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def add(self, lines: bytes, *, ingested_us: int) -> None:
        """Pack whole lines that sort behind all that were added before.

        Args:
            lines: any number of them, each with its line break.
            ingested_us: when the youngest of them reached a day file.

        Raises:
            StorageFullError: no space is left.
            StorageError: the disk refused, a line is not laid out as a record's, or an earlier call failed.
        """
        if lines:
            assert lines.endswith(b"\n"), lines[-80:]
            self._or_stop(lambda: self._gather(lines, ingested_us))

    def finish(self) -> PackedLines:
        """Write what is left and the seek table, and stop. The file is not synced.

        Raises:
            StorageFullError: no space is left.
            StorageError: the disk refused, a line is not laid out as a record's, or an earlier call failed.
        """
        self._or_stop(self._write_rest)
        self.close()
        return PackedLines(self._offset, self._checksum.text(), self._frames)

    def close(self) -> None:
        """Stop its threads and forget what is not written. Idempotent."""
        self._stopped = True
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
            self._pool = None
        self._under_way.clear()
        self._closed.clear()
        self._gathered.clear()

    def _or_stop(self, action: Callable[[], None]) -> None:
        if self._stopped:
            raise StorageError(f"{self._file.path}: no more can be packed: it is finished, or an earlier write failed")
        try:
            action()
        except BaseException:
            self.close()
            raise

    def _gather(self, lines: bytes, ingested_us: int) -> None:
        self._checksum.update(lines)
        position = 0
        while self._gathered_bytes + len(lines) - position > self._frame_bytes_max:
            room_end = position + self._frame_bytes_max - self._gathered_bytes
            end = lines.rfind(b"\n", position, room_end) + 1
            if not end and not self._gathered:
                end = lines.index(b"\n", room_end) + 1  # a line that is longer than a frame
            if end:
                self._keep(lines[position:end], ingested_us)
                position = end
            self._close_frame()
        if position < len(lines):
            self._keep(lines[position:] if position else lines, ingested_us)

    def _keep(self, lines: bytes, ingested_us: int) -> None:
        self._gathered.append(lines)
        self._gathered_bytes += len(lines)
        self._ingested_us = max(self._ingested_us, ingested_us)

    def _close_frame(self) -> None:
        """Hand what has gathered to be compressed."""
        data = self._gathered[0] if len(self._gathered) == 1 else b"".join(self._gathered)
        closed = self._describe(data)
        self._gathered, self._gathered_bytes, self._ingested_us = [], 0, 0
        if self._threads == 0 or not self._offset:
            self._write_frame(closed, *_pack(data, self._level))
            return
        self._closed.append((closed, data))
        self._closed_bytes += len(data)
        if self._closed_bytes >= TASK_BYTES:
            self._hand_over()

    def _hand_over(self) -> None:
        """Give the closed frames to a thread."""
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self._threads, thread_name_prefix="memstore-pack")
        if len(self._under_way) == self._threads + _TASKS_WAITING:
            self._write_oldest()
        contents = [data for _, data in self._closed]
        self._under_way.append(
            ([each for each, _ in self._closed], self._pool.submit(_pack_all, contents, self._level))
        )
        self._closed, self._closed_bytes = [], 0

    def _describe(self, data: bytes) -> _Closed:
        last_line = data[data.rfind(b"\n", 0, len(data) - 1) + 1 :]
        try:
            t_min, t_max = lines_span_us((data, last_line), self._prefix_bytes)
        except ValueError as error:
            raise StorageError(
                f"{self._file.path}: not packed, because a line is not laid out as this agent's records: "
                f"{data[:80]!r} or {last_line[:80]!r} ({error})"
            ) from error
        assert (t_min if self._last_us is None else self._last_us) <= t_min <= t_max, "lines are not sorted"
        self._last_us = t_max
        return _Closed(len(data), len(split_lines(data)), t_min, t_max, self._ingested_us)

    def _write_oldest(self) -> None:
        closed, packed = self._under_way.popleft()
        for each, (frame, xxh3) in zip(closed, packed.result(), strict=True):
            self._write_frame(each, frame, xxh3)

    def _write_frame(self, closed: _Closed, frame: bytes, xxh3: str) -> None:
        self._file.write(frame, self._offset)
        self._offset += len(frame)
        self._frames.append(
            Frame(len(frame), closed.raw_length, closed.records, closed.t_min, closed.t_max, closed.ingested, xxh3)
        )
        self._entries.append(SeekEntry(len(frame), closed.raw_length, content_check(frame)))

    def _write_rest(self) -> None:
        if self._gathered:
            self._close_frame()
        if self._closed and self._pool is not None:
            self._hand_over()
        while self._under_way:
            self._write_oldest()
        for closed, data in self._closed:  # too few for a thread
            self._write_frame(closed, *_pack(data, self._level))
        table = encode_seek_table(self._entries)
        self._file.write(table, self._offset)
        self._offset += len(table)


def _pack_all(contents: list[bytes], level: int) -> list[tuple[bytes, str]]:
    return [_pack(data, level) for data in contents]


def _pack(data: bytes, level: int) -> tuple[bytes, str]:
    """A frame and its checksum."""
    frame = compress(data, level=level)
    return frame, checksum(frame)
