"""The records of some files of an agent as one stream of sorted lines, in bounded memory: what a move reads.

Pieces are taken by the time they begin. One that overlaps no other is passed on as it is, bytes and all, and blocks
that lie one behind the other are read at once. The lines of those that overlap are merged in a window, and leave it as
soon as no piece that is still to come can hold an earlier one. So the window holds one block or frame of each run that
goes on at one time, whatever the size of a day.

Where even that is too much (a day that came in thousands of merges, each of all hours), the pieces are gone through
again and again, and each time the earliest lines are picked that have not been passed on: slow, but in bounded memory
and without a second copy on the disk.
"""

from __future__ import annotations

import bisect
import heapq
import operator
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from memstore.engine.piece_reader import PieceReader
from memstore.format.lines import agent_prefix, time_bound
from memstore.manifest.index import SETTLED, BlockRef, FrameRef, Manifest

PART_BYTES_MAX = 1 << 20
"""Blocks read at once, and merged lines given out at once: enough that what is done once a part does not count."""
WINDOW_BYTES_MAX = 64 * 1024 * 1024
"""Lines in a window. Eight times what a day of a gigabyte takes whose runs all overlap; with all else that a move
holds, and 41 bytes more for each line, it stays under 256 MiB for lines of 60 bytes and more."""

_t_min = operator.attrgetter("piece.t_min")


@dataclass(frozen=True, slots=True)
class SortedLines:
    """Whole lines in order, each with its line break; ``ingested`` is when the youngest reached a day file."""

    data: bytes
    ingested: int


@dataclass(frozen=True, slots=True)
class _Dated:
    piece: BlockRef | FrameRef
    ingested: int

    @property
    def raw_bytes(self) -> int:
        return self.piece.frame.raw_length if isinstance(self.piece, FrameRef) else self.piece.length


def sorted_lines(
    reader: PieceReader, manifest: Manifest, files: Sequence[str], *, window_bytes_max: int = WINDOW_BYTES_MAX
) -> Iterator[SortedLines]:
    """Every line of these files in order, repeats in full, those that tombstones hide included.

    Args:
        reader: reads and verifies pieces.
        manifest: lists the files, as ones that count or in the trash.
        files: names.
        window_bytes_max: bytes of lines held for sorting.

    Raises:
        CorruptionError: a piece is not what was written.
        FileNotFoundError: a file has gone.
    """
    window = _Window(reader, manifest, bytes_max=window_bytes_max)
    behind: list[_Dated] = []
    for cluster in _clusters(sorted((dated for file in files for dated in _dated(manifest, file)), key=_t_min)):
        alone = len(cluster) == 1 and not _has_repeats(manifest, cluster[0].piece)
        if behind and not (alone and _lies_behind(behind, cluster[0])):
            yield _as_they_are(reader, manifest, behind)
            behind = []
        if alone:
            behind.append(cluster[0])
        elif _overlap_bytes(cluster) <= window_bytes_max:
            yield from window.sweep(cluster)
        else:
            yield from window.pick(cluster)
    if behind:
        yield _as_they_are(reader, manifest, behind)


class _Window:
    """Puts the lines of pieces that overlap in order."""

    def __init__(self, reader: PieceReader, manifest: Manifest, *, bytes_max: int) -> None:
        self._reader = reader
        self._manifest = manifest
        self._prefix = agent_prefix(manifest.agent)
        self._bytes_max = bytes_max

    def sweep(self, cluster: Sequence[_Dated]) -> Iterator[SortedLines]:
        """One time through; lines leave once no piece to come can hold an earlier one."""
        window: list[bytes] = []
        held_bytes = fresh_bytes = ingested = 0
        for index, dated in enumerate(cluster):
            window += self._lines(dated)
            fresh_bytes += dated.raw_bytes
            ingested = max(ingested, dated.ingested)
            # Not for every piece: sorting goes through all that is held.
            if index + 1 < len(cluster) and fresh_bytes < max(PART_BYTES_MAX, held_bytes // 4):
                continue
            window.sort()  # finds the sorted runs and merges them
            cut = len(window)
            if index + 1 < len(cluster):
                cut = bisect.bisect_left(window, time_bound(self._prefix, cluster[index + 1].piece.t_min))
            yield from _parts(window[:cut], ingested)
            del window[:cut]
            held_bytes, fresh_bytes = sum(map(len, window)), 0

    def pick(self, cluster: Sequence[_Dated]) -> Iterator[SortedLines]:
        """As often as it takes; each time the earliest lines that are left, up to half of what may be held or more."""
        low: bytes | None = self._prefix
        while low is not None:
            window: list[bytes] = []
            held_bytes = ingested = 0
            high: bytes | None = None
            for dated in cluster:
                if time_bound(self._prefix, dated.piece.t_max + 1) <= low:
                    continue
                if high is not None and time_bound(self._prefix, dated.piece.t_min) >= high:
                    break  # by the time they begin: nor can any other
                lines = self._lines(dated)
                first = bisect.bisect_left(lines, low)
                lines = lines[first : len(lines) if high is None else bisect.bisect_left(lines, high)]
                window += lines
                held_bytes += sum(map(len, lines))
                ingested = max(ingested, dated.ingested)
                if held_bytes > self._bytes_max:
                    window.sort()
                    cut = _half(window, held_bytes)
                    high = window[cut] if cut < len(window) else high
                    del window[cut:]
                    held_bytes = sum(map(len, window))
            window.sort()
            yield from _parts(window, ingested)
            low = high

    def _lines(self, dated: _Dated) -> list[bytes]:
        return self._reader.all_lines(self._manifest, dated.piece)


def _clusters(pieces: Sequence[_Dated]) -> Iterator[list[_Dated]]:
    """Pieces, sorted by the time they begin, that overlap directly or through others."""
    cluster: list[_Dated] = []
    t_max = 0
    for dated in pieces:
        if cluster and dated.piece.t_min > t_max:
            yield cluster
            cluster = []
        t_max = dated.piece.t_max if not cluster else max(t_max, dated.piece.t_max)
        cluster.append(dated)
    if cluster:
        yield cluster


def _overlap_bytes(cluster: Sequence[_Dated]) -> int:
    """The most that a window can come to hold of pieces that have begun and not ended."""
    going_on: list[tuple[int, int]] = []
    held = most = 0
    for dated in cluster:
        while going_on and going_on[0][0] < dated.piece.t_min:
            held -= heapq.heappop(going_on)[1]
        heapq.heappush(going_on, (dated.piece.t_max, dated.raw_bytes))
        held += dated.raw_bytes
        most = max(most, held)
    return most


def _lies_behind(pieces: Sequence[_Dated], dated: _Dated) -> bool:
    """Whether a block can be read with those that lie before it."""
    first, last, piece = pieces[0].piece, pieces[-1].piece, dated.piece
    return (
        isinstance(piece, BlockRef)
        and isinstance(last, BlockRef)
        and piece.file == last.file
        and piece.offset == last.offset + last.length
        and piece.offset + piece.length - first.offset <= PART_BYTES_MAX
        and dated.ingested == pieces[-1].ingested
    )


def _as_they_are(reader: PieceReader, manifest: Manifest, pieces: Sequence[_Dated]) -> SortedLines:
    blocks = [dated.piece for dated in pieces if isinstance(dated.piece, BlockRef)]
    data = reader.adjoining(manifest, blocks) if len(blocks) > 1 else reader.data(manifest, pieces[0].piece)
    return SortedLines(data, pieces[0].ingested)


def _parts(lines: list[bytes], ingested: int) -> Iterator[SortedLines]:
    """Sorted lines, some at a time."""
    first = size = 0
    for index, line in enumerate(lines):
        if size and size + len(line) >= PART_BYTES_MAX:
            yield SortedLines(b"\n".join(lines[first:index]) + b"\n", ingested)
            first, size = index, 0
        size += len(line) + 1
    if size:
        yield SortedLines(b"\n".join(lines[first:]) + b"\n", ingested)


def _half(lines: list[bytes], size: int) -> int:
    """Where sorted lines are cut so that about half of the bytes stay, and at least one line, and no equals part."""
    before = 0
    for line in lines:
        before += len(line)
        if 2 * before > size:
            return bisect.bisect_left(lines, line) or bisect.bisect_right(lines, lines[0])
    return len(lines)


def _dated(manifest: Manifest, file: str) -> Iterator[_Dated]:
    for ref in manifest.file_refs(file):
        if isinstance(ref, FrameRef):
            yield _Dated(ref, ref.frame.ingested)
        else:
            yield _Dated(ref, manifest.ingested[file] if ref.merge == SETTLED else manifest.merges[ref.merge].at)


def _has_repeats(manifest: Manifest, piece: BlockRef | FrameRef) -> bool:
    return isinstance(piece, FrameRef) and manifest.repeats_in(piece.file)
