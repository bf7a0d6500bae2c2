"""An agent's index, as its MANIFEST states it: which block or frame of which file holds what.

Values only, and immutable: following a MANIFEST that has grown gives a new `Manifest`, so that a reader never sees
half a merge or half a move.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, Self

from memstore.errors import CorruptionError
from memstore.format.lines import id_needle
from memstore.format.manifest import Frame, PackedFile, TrashedFile
from memstore.format.names import parse_day_file_name
from memstore.fs.storage import FileIdentity
from memstore.ids import parse_id
from memstore.manifest.day_times import DayTimes

BLOCK_MEMORY_BYTES = 276
"""What one block or frame costs in memory, its times in `DayTimes` included; measured with 60,000 of them."""
HIDDEN_MEMORY_BYTES = 400
"""What one tombstone costs in memory: the id, its needle and its time."""
_FEW_PIECES = 64
SETTLED = -1
"""Index of a merge that a compaction has proved to be synced: its lanes are gone and it is never repeated."""


class BlockRef(NamedTuple):
    """A block of a day file, with its place. Times are microseconds, inclusive.

    ``merge`` indexes `Manifest.merges`, or is `SETTLED`.
    """

    t_min: int
    t_max: int
    offset: int
    length: int
    records: int
    file: str
    xxh3: str
    merge: int


class FrameRef(NamedTuple):
    """A frame of a packed file, with its place: what its line in the MANIFEST says, in the form of a `BlockRef`."""

    t_min: int
    t_max: int
    offset: int
    length: int
    records: int
    file: str
    xxh3: str
    frame: Frame


class MergeRef(NamedTuple):
    """A merge line: where it stands in the MANIFEST, when it was written, and the tokens of the lanes it copied."""

    id: str
    offset: int
    length: int
    at: int
    lanes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Hidden:
    """Tombstones that have not been carried out: these records are there and must not be seen.

    Attributes:
        ids: whose.
        needles: what their lines start with; all of one length, for they are of one agent.
        times: of the ids, sorted.
    """

    ids: frozenset[str] = frozenset()
    needles: frozenset[bytes] = frozenset()
    times: tuple[int, ...] = ()
    needle_bytes: int = 0

    @classmethod
    def of(cls, ids: Iterable[str]) -> Self:
        """The tombstones of these ids of one agent."""
        listed = frozenset(ids)
        needles = frozenset(id_needle(memory_id) for memory_id in listed)
        times = tuple(sorted(parse_id(memory_id).time_us for memory_id in listed))
        return cls(listed, needles, times, max(map(len, needles), default=0))

    def touches(self, t_min: int, t_max: int) -> bool:
        """Whether one of them has a time in this range, both ends inclusive."""
        first = bisect.bisect_left(self.times, t_min)
        return first < len(self.times) and self.times[first] <= t_max

    def by_needle(self) -> dict[bytes, str]:
        """Each id by what its line starts with."""
        return {id_needle(memory_id): memory_id for memory_id in self.ids}

    def without(self, lines: list[bytes]) -> list[bytes]:
        """Those lines that are not hidden."""
        length, needles = self.needle_bytes, self.needles
        return [line for line in lines if line[:length] not in needles]


@dataclass(frozen=True, slots=True)
class Manifest:
    """What one agent's MANIFEST says, up to its last whole line.

    Attributes:
        path: the MANIFEST.
        directory: the agent's.
        agent: the true agent id.
        header: its first line, by which one compaction is told from another.
        begun: when that was written, microseconds.
        identity: device, inode and size when it was read.
        end: bytes of whole lines; anything behind is torn.
        days: blocks and frames by UTC day, in the order they were written; a frame of several days stands in each.
        sorted_days: the days, in order.
        day_files: committed length by name of each day file that counts.
        ingested: when the youngest lines of each day file were merged, by name.
        packed: warm and cold files that count, by name.
        trash: files that an undelete brings back, by name.
        dropped: files that count no longer and may still be there, with the time they were dropped.
        hidden: tombstones that have not been carried out.
        purged: ids that were imported and forgotten, and must not be imported again.
        next_version: no file of the agent has had this number, or a higher one.
        merged: lane token to index in ``merges``, or `SETTLED`.
        merges: merge lines in order.
        damaged: ranges that do not verify.
        of: in a second copy: see `memstore.format.manifest.State`.
        day_times: made where a day of many pieces is asked for, and kept.
    """

    path: str
    directory: str
    agent: str
    header: bytes
    begun: int
    identity: FileIdentity
    end: int
    days: Mapping[str, tuple[BlockRef | FrameRef, ...]] = field(default_factory=dict)
    sorted_days: tuple[str, ...] = ()
    day_files: Mapping[str, int] = field(default_factory=dict)
    ingested: Mapping[str, int] = field(default_factory=dict)
    packed: Mapping[str, PackedFile] = field(default_factory=dict)
    trash: Mapping[str, TrashedFile] = field(default_factory=dict)
    dropped: Mapping[str, int] = field(default_factory=dict)
    hidden: Hidden = field(default_factory=Hidden)
    purged: frozenset[str] = frozenset()
    next_version: int = 1
    merged: Mapping[str, int] = field(default_factory=dict)
    merges: tuple[MergeRef, ...] = ()
    damaged: tuple[tuple[int, int], ...] = ()
    of: tuple[str, int] | None = None
    day_times: dict[str, DayTimes] = field(default_factory=dict, compare=False, repr=False)

    def refs_within(self, day: str, first_us: int, last_us: int) -> list[BlockRef | FrameRef]:
        """A day's blocks and frames that may hold a time of this range, both ends inclusive, as they were written."""
        refs = self.days.get(day, ())
        if len(refs) > _FEW_PIECES:
            times = self.day_times.get(day)
            if times is None:
                times = self.day_times[day] = DayTimes.of(refs)
            refs = refs[times.range(first_us, last_us)]
        return [ref for ref in refs if ref.t_min <= last_us and ref.t_max >= first_us]

    def stands_at(self, identity: FileIdentity) -> bool:
        """Whether the MANIFEST still says this, by what stands at its path.

        Not where its end was torn: that may have been cut and something else of the same length written in its place.
        """
        return (
            identity == self.identity
            and identity.changed_ns == self.identity.changed_ns
            and self.end == identity.size_bytes
        )

    @property
    def memory_bytes(self) -> int:
        """Estimate of what it costs in memory."""
        pieces = sum(len(refs) for refs in self.days.values()) + sum(len(p.frames) for p in self.packed.values())
        return (
            1000
            + pieces * BLOCK_MEMORY_BYTES
            + (len(self.merged) + len(self.dropped) + len(self.purged)) * 150
            + len(self.merges) * 200
            + len(self.hidden.ids) * HIDDEN_MEMORY_BYTES
        )

    def day_file(self, day: str) -> tuple[str, int] | None:
        """Name and committed length of the day's hot file, or None where it has none."""
        found: tuple[int, str] | None = None
        for name in self.day_files:
            parsed = parse_day_file_name(name)
            if parsed is not None and parsed[0] == day and (found is None or parsed[1] > found[0]):
                found = (parsed[1], name)
        return None if found is None else (found[1], self.day_files[found[1]])

    def file_refs(self, file: str) -> list[BlockRef | FrameRef]:
        """The blocks of a day file or the frames of a packed file that counts, in the order they were written."""
        day = parse_day_file_name(file)
        if day is not None:
            return [ref for ref in self.days.get(day[0], ()) if ref.file == file]
        return list(frame_refs(self.packed_file(file)))

    def packed_file(self, file: str) -> PackedFile:
        """A packed file by name, be it one that counts or one in the trash."""
        return self.packed[file] if file in self.packed else self.trash[file].packed

    def repeats_in(self, file: str) -> bool:
        """Whether some lines of a packed file stand for records that repeat another one's content."""
        return self.packed_file(file).repeats > 0

    def records(self) -> int:
        """Records in its files that are not hidden by a tombstone."""
        hot = sum(ref.records for refs in self.days.values() for ref in refs if isinstance(ref, BlockRef))
        return hot + sum(packed.records for packed in self.packed.values()) - len(self.hidden.ids)

    @property
    def lists_files(self) -> bool:
        """Whether something has been merged into it: until then a merge may have made it and been stopped at once."""
        return bool(self.day_files or self.packed or self.trash or self.dropped)

    def cites(self, tokens: Iterable[str]) -> bool:
        """Whether one of these lanes was merged into it."""
        return any(token in self.merged for token in tokens)

    def damage(self) -> CorruptionError | None:
        """The first damaged range as an error, or None."""
        if not self.damaged:
            return None
        offset, length = self.damaged[0]
        return CorruptionError(
            self.path, offset_bytes=offset, length_bytes=length, reason=f"{len(self.damaged)} line(s) do not verify"
        )


def frame_refs(packed: PackedFile) -> Iterable[FrameRef]:
    """The frames of a packed file with their places."""
    offset = 0
    for frame in packed.frames:
        yield FrameRef(
            t_min=frame.t_min,
            t_max=frame.t_max,
            offset=offset,
            length=frame.length,
            records=frame.records,
            file=packed.file,
            xxh3=frame.xxh3,
            frame=frame,
        )
        offset += frame.length
