"""Read one agent's records in time order, whatever moves or breaks meanwhile.

Records stream by a sweep over the pieces of one day after the other: a piece is loaded when the sweep reaches its
start, and a line is given out when no piece that is still to come can hold an earlier one. So the window is what
overlaps within a day, and no more. A frame of several days is loaded for each of them, cut to the day.

When a file has vanished, a move went by: a new snapshot is taken and the sweep goes on behind the last line it gave
out. When a block does not verify but the lanes that it was merged from still stand, its merge was not synced before
the power went: the lanes are read instead (DESIGN 5.6).
"""

from __future__ import annotations

import bisect
import operator
from collections.abc import Callable, Iterator, Mapping

from memstore.engine.piece import Piece, SlicePiece
from memstore.engine.view import ViewBuilder
from memstore.errors import CorruptionError, StorageError
from memstore.format.lines import agent_prefix, id_needle, time_bound
from memstore.manifest.index import SETTLED, BlockRef, FrameRef
from memstore.timestamps import US_PER_DAY, YEAR_10000_US, day_start_us, day_text

MOVES_FOLLOWED_MAX = 5
"""How often in a row a read follows files that vanish under it; each time means that a whole move went by between two
system calls."""

DamageHandler = Callable[[CorruptionError], None]
"""Told of damage that a read comes upon; raises it, or returns so that the read goes around it."""

ReadHandler = Callable[[str, str], None]
"""Told the agent and the name of each file that a read has read in."""

_t_min = operator.attrgetter("t_min")
_t_max = operator.attrgetter("t_max")


def raise_damage(error: CorruptionError) -> None:
    """The `DamageHandler` of every read that was not asked for another."""
    raise error


class Reading:
    """One read of one agent: one snapshot, and what it has met on the way. Used by one thread.

    Args:
        builder: where snapshots come from.
        agent: whose records.
        on_damage: see `DamageHandler`; told once of each damaged range.
        on_read: see `ReadHandler`; None where the read is no use of what it reads (a count, a check).
    """

    def __init__(
        self,
        builder: ViewBuilder,
        agent: str,
        on_damage: DamageHandler = raise_damage,
        *,
        on_read: ReadHandler | None = None,
    ) -> None:
        self._builder = builder
        self._pieces_of = builder.reader
        self._on_read = on_read
        self._agent = agent
        self._prefix = agent_prefix(agent)
        self._on_damage = on_damage
        self._moves = 0
        self._lanes_forgotten = False
        self._reported: set[tuple[str, int]] = set()
        self._look(frozenset())

    @property
    def met_damage(self) -> bool:
        """Whether it has read around damage so far."""
        return bool(self._reported)

    @property
    def version(self) -> tuple[object, ...]:
        """Equal versions mean equal records."""
        return self._snapshot.version

    def scan(self, *, since_us: int, until_us: int, newest_first: bool) -> Iterator[bytes]:
        """Lines of ``[since_us, until_us)`` in time order, without line breaks."""
        for lines in self.portions(since_us=since_us, until_us=until_us, newest_first=newest_first):
            yield from lines

    def portions(self, *, since_us: int, until_us: int, newest_first: bool) -> Iterator[list[bytes]]:
        """`scan`, as many lines at a time as come at once; one at least."""
        if until_us <= since_us:
            return
        sweep = self._sweep_down if newest_first else self._sweep_up
        low, high = self._bounds(since_us, until_us)
        while True:
            days = self._builder.days(self._snapshot, since_us, until_us)
            complete = True
            for day in reversed(days) if newest_first else days:
                first, end = self._bounds(day_start_us(day), day_start_us(day) + US_PER_DAY)
                for lines in sweep(self._pieces(day, since_us, until_us), max(low, first), min(high, end)):
                    if lines is None:
                        complete = False
                        break
                    self._moves = 0  # it has got on: only moves in a row count
                    yield lines
                    if newest_first:
                        high = lines[-1]
                    else:
                        low = lines[-1] + b"\0"
                if not complete:
                    break
                # The day is done: should files move now, the new look starts behind it.
                if newest_first:
                    until_us = min(until_us, day_start_us(day))
                else:
                    since_us = max(since_us, day_start_us(day) + US_PER_DAY)
            if complete:
                return

    def count(self, *, since_us: int, until_us: int) -> int:
        """How many lines ``[since_us, until_us)`` has; only pieces at its edges are read."""
        if until_us <= since_us:
            return 0
        low, high = self._bounds(since_us, until_us)
        while True:
            total = 0
            for piece in self._pieces_between(since_us, until_us):
                if since_us <= piece.t_min and piece.t_max < until_us and not self._may_hide(piece):
                    total += piece.records
                    continue
                lines = self._load(piece, low, high)
                if lines is None:
                    break
                total += len(lines)
            else:
                return total

    def find(self, needle: bytes, time_us: int) -> bytes | None:
        """The line that starts with ``needle``, unless it is hidden."""
        while True:
            complete = True
            manifest = self._snapshot.manifest
            if manifest is not None and needle in manifest.hidden.needles:
                return None
            for piece in self._pieces(day_text(time_us), time_us, time_us + 1):
                try:
                    line = self._pieces_of.find(manifest, piece, needle)
                except (CorruptionError, FileNotFoundError) as error:
                    if self._begin_again(piece, error):
                        complete = False
                        break
                    continue
                if line is not None:
                    self._note(piece)
                    return line
            if complete:
                return None

    def forgot(self, memory_id: str) -> bool:
        """Whether a record was stored and forgotten, so that it must not be imported again."""
        manifest = self._snapshot.manifest
        return manifest is not None and (memory_id in manifest.hidden.ids or memory_id in manifest.purged)

    def find_many(self, wanted: Mapping[str, int]) -> dict[str, bytes]:
        """The lines of these ids; a piece is read once, whatever the number of ids it may hold."""
        ordered = sorted((time_us, memory_id) for memory_id, time_us in wanted.items())
        times = [time_us for time_us, _ in ordered]
        found: dict[str, bytes] = {}
        while times:
            for piece in self._pieces_between(times[0], times[-1] + 1):
                first, last = bisect.bisect_left(times, piece.t_min), bisect.bisect_right(times, piece.t_max)
                if first == last:
                    continue
                lines = self._load(piece, b"", b"\xff")
                if lines is None:
                    break
                for _, memory_id in ordered[first:last]:
                    needle = id_needle(memory_id)
                    place = bisect.bisect_left(lines, needle)
                    if place < len(lines) and lines[place].startswith(needle):
                        found[memory_id] = lines[place]
            else:
                break
        return found

    def _look(self, distrusted: frozenset[str]) -> None:
        try:
            self._snapshot = self._builder.snapshot(self._agent, distrusted=distrusted)
            if self._snapshot.damage:
                self._turn_to_spare(self._snapshot.damage[0])
        except (StorageError, FileNotFoundError) as failure:
            if not self._turn_to_spare(failure):
                raise
        for error in self._snapshot.damage:
            self._report(error)

    def _turn_to_spare(self, why: Exception) -> bool:
        """Read the whole agent from the second copy from now on, where that is whole; whether it is."""
        builder = None if self._builder.spare is None else self._builder.spare(why)
        if builder is None:
            return False
        try:
            snapshot = builder.snapshot(self._agent)
        except (StorageError, FileNotFoundError):
            return False
        if snapshot.damage:
            return False
        self._builder, self._pieces_of, self._snapshot = builder, builder.reader, snapshot
        return True

    def _report(self, error: CorruptionError) -> None:
        place = (error.path, error.offset_bytes)
        if place not in self._reported:
            self._reported.add(place)
            self._on_damage(error)

    def _pieces(self, day: str, since_us: int, until_us: int) -> list[Piece]:
        return self._builder.pieces(self._snapshot, day, since_us, until_us)

    def _pieces_between(self, since_us: int, until_us: int) -> Iterator[Piece]:
        """Every piece of several days that may hold a line of ``[since_us, until_us)``, each once."""
        frames: set[tuple[str, int]] = set()
        for day in self._builder.days(self._snapshot, since_us, until_us):
            for piece in self._pieces(day, since_us, until_us):
                if isinstance(piece, FrameRef):
                    place = (piece.file, piece.offset)
                    if place in frames:
                        continue
                    frames.add(place)
                yield piece

    def _may_hide(self, piece: Piece) -> bool:
        """Whether a tombstone may hide a line of a piece."""
        manifest = self._snapshot.manifest
        return manifest is not None and manifest.hidden.touches(piece.t_min, piece.t_max)

    def _note(self, piece: Piece) -> None:
        if self._on_read is not None and not isinstance(piece, SlicePiece):
            self._on_read(self._agent, piece.file)

    def _bounds(self, since_us: int, until_us: int) -> tuple[bytes, bytes]:
        """Byte strings between which the wanted lines sort: ``low <= line < high``."""
        # "~" sorts behind every digit, so behind every stamp.
        high = self._prefix + b"~" if until_us >= YEAR_10000_US else time_bound(self._prefix, until_us)
        return time_bound(self._prefix, since_us), high

    def _load(self, piece: Piece, low: bytes, high: bytes) -> list[bytes] | None:
        """Its lines with ``low <= line < high``, or None to begin again with a new snapshot."""
        try:
            lines = self._pieces_of.lines(self._snapshot.manifest, piece)
        except (CorruptionError, FileNotFoundError) as error:
            if self._begin_again(piece, error):
                return None
            lines = self._pieces_of.lines_left(self._snapshot.manifest, piece)
        self._note(piece)
        if lines and (lines[0] < low or lines[-1] >= high):
            lines = lines[bisect.bisect_left(lines, low) : bisect.bisect_left(lines, high)]
        return lines

    def _begin_again(self, piece: Piece, error: CorruptionError | FileNotFoundError) -> bool:
        """Whether a new snapshot was taken; False to go on without the piece, whose damage has then been reported."""
        distrusted = self._snapshot.distrusted
        if isinstance(error, FileNotFoundError):
            self._moves += 1
            if self._moves <= MOVES_FOLLOWED_MAX:
                self._look(distrusted)
                return True
            error = CorruptionError(
                str(error.filename or error),
                offset_bytes=piece.offset,
                length_bytes=piece.length,
                reason="the file is missing",
                records=piece.records,
            )
        elif isinstance(piece, SlicePiece) and not self._lanes_forgotten:
            # The end of a lane may have been cut and written on since it was looked at: look from its start, once.
            self._lanes_forgotten = True
            self._builder.forget_lanes()
            self._look(distrusted)
            return True
        manifest = self._snapshot.manifest
        if not isinstance(piece, SlicePiece) and manifest is not None:
            if isinstance(piece, BlockRef) and piece.merge != SETTLED:
                merge = manifest.merges[piece.merge]
                if merge.id not in distrusted and self._builder.lane_tokens().issuperset(merge.lanes):
                    self._look(distrusted | {merge.id})
                    return True
            # Its lanes may have gone because the merge was repeated just now, or its file may have been moved away and
            # back: in the order of lanes first, files after, a second look is the last word.
            if self._pieces_of.reads_anew(manifest, piece):
                self._look(distrusted)
                return True
        self._report(error)
        return False

    def _sweep_up(self, pieces: list[Piece], low: bytes, high: bytes) -> Iterator[list[bytes] | None]:
        """Lines of one day, oldest first, one or more at a time; a None means: begin again."""
        pieces.sort(key=_t_min)
        window: list[bytes] = []
        for index, piece in enumerate(pieces):
            lines = self._load(piece, low, high)
            if lines is None:
                yield None
                return
            window = _merged(window, lines)
            if index + 1 < len(pieces):
                cut = bisect.bisect_left(window, time_bound(self._prefix, pieces[index + 1].t_min))
                if cut:
                    yield window[:cut]
                    window = window[cut:]
        if window:
            yield window

    def _sweep_down(self, pieces: list[Piece], low: bytes, high: bytes) -> Iterator[list[bytes] | None]:
        """Lines of one day, newest first, one or more at a time; a None means: begin again."""
        pieces.sort(key=_t_max, reverse=True)
        window: list[bytes] = []
        for index, piece in enumerate(pieces):
            lines = self._load(piece, low, high)
            if lines is None:
                yield None
                return
            window = _merged(window, lines)
            if index + 1 < len(pieces):
                cut = bisect.bisect_left(window, time_bound(self._prefix, pieces[index + 1].t_max + 1))
                if cut < len(window):
                    yield window[cut:][::-1]
                    window = window[:cut]
        if window:
            yield window[::-1]


def _merged(window: list[bytes], lines: list[bytes]) -> list[bytes]:
    """Two sorted lists as one; timsort finds the two runs and merges them in linear time."""
    if not window:
        return lines
    if lines:
        window = window + lines
        window.sort()
    return window
