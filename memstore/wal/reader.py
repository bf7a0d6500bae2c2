"""Tail anyone's lane: which slices of an agent it holds, as of now.

An open lane is followed by reading its new commit lines only. Its last commit counts once its whole body verifies
(the writer may be in the middle of it, or have died there); every earlier one was finished before the next was begun.
A sealed lane is not loaded: its footer is bisected on disk.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from memstore.format.lane import Seal, Slice, decode_slice
from memstore.format.lines import agent_prefix
from memstore.fs.storage import StorageFile
from memstore.ids import agent_directory
from memstore.wal.scan import LaneEnd, LineWindow, ScannedCommit, ScannedDamage, ScannedEnd, scan_lane
from memstore.wal.seal import commit_is_whole, header_end, read_seal

_log = logging.getLogger(__name__)
SLICE_MEMORY_BYTES = 320
"""What one slice costs in memory, or one agent of a sealed lane that has been asked for; measured with 65,536."""
_FOOTER_PAGE_BYTES = 8192
_FOOTER_READ_BYTES = 256 * 1024
_TAIL_PROBE_BYTES = 1024
"""Enough to tell one unproven commit line from the next: the line starts with its time."""
_SEALED_AGENTS_MAX = 4096
_DAMAGE_READ_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class LaneSlices:
    """What a lane holds of one agent.

    Attributes:
        slices: in no order.
        damaged: ranges of the lane that do not verify and in which a line of the agent was seen.
    """

    slices: tuple[Slice, ...]
    damaged: tuple[tuple[int, int], ...] = ()


_NOTHING = LaneSlices(())


class LaneReader:
    """One lane, followed. Thread-safe.

    Attributes:
        token: how MANIFESTs cite it.
    """

    def __init__(self, file: StorageFile, token: str) -> None:
        self._file: StorageFile | None = file
        self._reopen: Callable[[], StorageFile] | None = None
        self.token = token
        self._lock = threading.Lock()
        self._first = header_end(file)
        self._is_half_read = False
        self._reset()

    def _reset(self) -> None:
        self._end = self._first
        self._size = 0
        self._torn_tail: tuple[int, bytes] | None = None
        self._slices: dict[str, list[Slice]] = {}
        self._count = 0
        self._damaged: list[tuple[int, int]] = []
        self._seal: Seal | None = None
        self._seal_offset = 0
        self._sealed_cache: dict[str, LaneSlices] = {}
        self._damage_cache: dict[tuple[str, int], bool] = {}

    @property
    def file(self) -> StorageFile:
        """Open for reading; what was read stays readable when the lane is unlinked."""
        if self._file is not None:
            return self._file
        assert self._reopen is not None
        return self._reopen()

    def let_go(self, reopen: Callable[[], StorageFile]) -> None:
        """Hold the file no longer, if it is sealed: for a lane that is kept, of which there may be many.

        Args:
            reopen: opens it for a read; a kept lane stays where it is.
        """
        with self._lock:
            if self._seal is not None:
                self._file, self._reopen = None, reopen

    @property
    def sealed(self) -> bool:
        """Whether its footer stands, as of the last refresh."""
        return self._seal is not None

    @property
    def memory_bytes(self) -> int:
        """Estimate of what its index costs."""
        return self._count * SLICE_MEMORY_BYTES

    @property
    def damaged(self) -> list[tuple[int, int]]:
        """``(offset, length)`` ranges that do not verify."""
        return list(self._damaged)

    def size_bytes(self) -> int:
        """Size of the file as of the last refresh."""
        return self._size

    def forget(self) -> None:
        """Drop the index; it is read again when it is needed."""
        with self._lock:
            self._is_half_read = True
            self._reset()
            self._is_half_read = False

    def refresh(self, *, known_end: int | None = None) -> None:
        """Read what was committed since the last time.

        Args:
            known_end: for a lane of this very process: how far it is committed, so that its last commit need not be
                verified.
        """
        with self._lock:
            self._refresh(known_end)

    def _refresh(self, known_end: int | None) -> None:
        if self._is_half_read:  # whoever read it was interrupted, by Ctrl-C perhaps, between any two steps
            self._reset()
        elif self._seal is not None:
            return
        size = self.file.identity().size_bytes
        if size == self._end:
            self._size = size
        else:
            self._is_half_read = True
            self._read_on(size, known_end)
        self._is_half_read = False

    def _read_on(self, size: int, known_end: int | None) -> None:
        if size < self._end:  # a failed or torn commit was cut off again
            self._reset()
        # A torn tail stays until somebody seals the lane; it is not read again and again.
        tail = (size, self.file.read(self._end, _TAIL_PROBE_BYTES))
        if tail != self._torn_tail:
            self._follow(size, known_end)
            self._torn_tail = tail if self._end < size and self._seal is None else None
        self._size = size

    def _follow(self, size: int, known_end: int | None) -> None:
        sealed = read_seal(self.file, size) if known_end is None else None
        if sealed is not None:
            self._reset()
            self._seal, self._seal_offset = sealed
            self._damaged = list(self._seal.damaged)
            return
        for attempt in (1, 2):
            last: ScannedCommit | None = None
            end = ScannedEnd(self._end, LaneEnd.CLEAN)
            for item in scan_lane(self.file, start=self._end, size=size):
                if isinstance(item, ScannedCommit):
                    if last is not None:
                        self._take(last)
                    last = item
                elif isinstance(item, ScannedDamage):
                    self._damaged.append((item.offset, item.length))
                else:
                    end = item
            if (
                end.kind is LaneEnd.TORN
                and attempt == 1
                and self._end > self._first
                and last is None
                and end.offset == self._end
            ):
                # What ended here may have been cut off and written over since: look from the start, once.
                self._reset()
                continue
            break
        if last is not None and (
            end.kind is LaneEnd.FOOTER
            or (known_end is not None and last.end <= known_end)
            or commit_is_whole(self.file, last)
        ):
            self._take(last)

    def _take(self, scanned: ScannedCommit) -> None:
        for item in scanned.slices():
            self._slices.setdefault(item.agent, []).append(item)
            self._count += 1
        self._end = scanned.end

    def _make_whole(self) -> None:
        if self._is_half_read:
            self._refresh(None)

    def agent_slices(self, agent: str) -> LaneSlices:
        """What it holds of an agent, as of the last refresh."""
        with self._lock:
            self._make_whole()
            if self._seal is None:
                slices = tuple(self._slices.get(agent, ()))
            else:
                cached = self._sealed_cache.get(agent)
                if cached is None:
                    cached = LaneSlices(tuple(self._bisect(agent)))
                    if len(self._sealed_cache) >= _SEALED_AGENTS_MAX:
                        self._sealed_cache.clear()
                        self._count = 0
                    self._sealed_cache[agent] = cached
                    self._count += 1 + len(cached.slices)
                slices = cached.slices
            if not self._damaged:
                return LaneSlices(slices) if slices else _NOTHING
            damaged = tuple(d for d in self._damaged if self._concerns(agent, d))
            return LaneSlices(slices, damaged)

    def agents(self) -> set[str]:
        """Every agent that has a slice in it. Reads a sealed lane's whole footer."""
        with self._lock:
            self._make_whole()
            if self._seal is None:
                return set(self._slices)
            return {item.agent for item in iterate_footer(self.file, self._seal, self._seal_offset)}

    def _bisect(self, agent: str) -> list[Slice]:
        """The agent's lines of the sorted footer, read in pages."""
        assert self._seal is not None
        low, high = self._seal.footer, self._seal_offset
        try:
            while high - low > _FOOTER_PAGE_BYTES:
                middle = (low + high) // 2
                page = self.file.read(middle, _FOOTER_PAGE_BYTES)
                start = page.find(b"\n") + 1
                stop = page.find(b"\n", start)
                if start == 0 or stop < 0 or middle + start >= high:
                    break
                item = decode_slice(page[start:stop])
                if item is None:
                    raise _BadFooterError
                if item.agent < agent:
                    low = middle + start
                else:
                    high = middle
            found: list[Slice] = []
            window = LineWindow(self.file)
            position = low
            while position < self._seal_offset:
                line = window.line_at(position)
                item = None if line is None else decode_slice(line)
                if line is None or item is None:
                    raise _BadFooterError
                if item.agent > agent:
                    break
                if item.agent == agent:
                    found.append(item)
                position += len(line) + 1
        except _BadFooterError:
            _log.warning("%s: the footer does not verify; reading the commits instead", self.file.path)
            return [
                item
                for scanned in scan_lane(self.file, start=self._first, size=self._seal.footer)
                if isinstance(scanned, ScannedCommit)
                for item in scanned.slices()
                if item.agent == agent
            ]
        return found

    def _concerns(self, agent: str, damaged: tuple[int, int]) -> bool:
        """Whether records of the agent may be in a damaged range: its header is gone, its lines may be whole.

        A range that holds wiped bytes concerns everybody, for nobody can tell whose they were.
        """
        key = (agent, damaged[0])
        known = self._damage_cache.get(key)
        if known is None:
            needle = agent_prefix(agent)
            offset, length = damaged
            known = False
            position = offset
            while position < offset + length and not known:
                data = self.file.read(position, min(_DAMAGE_READ_BYTES, offset + length - position) + len(needle))
                known = needle in data or b"\0" in data
                position += _DAMAGE_READ_BYTES
            self._damage_cache[key] = known
        return known


class _BadFooterError(Exception):
    """A footer line does not verify; the commits say the same."""


def agent_of_directory_name(lanes: Iterable[LaneReader], name: str) -> str | None:
    """Whose directory has this name, where a lane holds something of him.

    The name of a directory does not always spell its agent's, and a power cut may take the MANIFEST that does from an
    agent that is new, whose records are all in lanes then.
    """
    agents = (agent for lane in lanes for agent in lane.agents())
    return next((agent for agent in agents if agent_directory(agent) == name), None)


def iterate_footer(file: StorageFile, seal: Seal, seal_offset: int) -> Iterator[Slice]:
    """Every slice of a sealed lane, sorted by agent, day and offset, in bounded memory.

    Where the footer is damaged, the commits say the same.
    """
    last: Slice | None = None
    position = seal.footer
    rest = b""
    while position < seal_offset:
        data = file.read(position, min(_FOOTER_READ_BYTES, seal_offset - position))
        if not data:
            break
        position += len(data)
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            item = decode_slice(line)
            if item is None:
                _log.warning("%s: the footer does not verify; reading the commits instead", file.path)
                everything = sorted(
                    item
                    for scanned in scan_lane(file, start=header_end(file), size=seal.footer)
                    if isinstance(scanned, ScannedCommit)
                    for item in scanned.slices()
                )
                yield from (item for item in everything if last is None or item > last)
                return
            last = item
            yield item
