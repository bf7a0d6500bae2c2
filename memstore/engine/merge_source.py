"""What a merge copies from: sealed lanes, and an agent's slices in them in the one order that recovery finds again."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from memstore.errors import CorruptionError
from memstore.format.lane import Seal, Slice
from memstore.format.lines import bare_lines
from memstore.fs.storage import StorageFile
from memstore.fs.verified import read_listed
from memstore.hot.writer import SortedPart, part_of_lines
from memstore.wal.reader import iterate_footer

TaggedSlice = tuple[Slice, int]
"""A slice, and the index of the lane that holds it."""


@dataclass(frozen=True, slots=True)
class SealedLane:
    """A lane that takes part in a merge."""

    path: str
    token: str
    file: StorageFile
    seal: Seal
    seal_offset: int

    def slices(self) -> Iterator[Slice]:
        """All of them, sorted by agent, day and offset."""
        return iterate_footer(self.file, self.seal, self.seal_offset)


class DamagedSliceError(Exception):
    """A slice of a lane does not verify: what the lane holds of this agent stays in the lane."""

    def __init__(self, token: str, error: CorruptionError) -> None:
        super().__init__(token)
        self.token = token
        self.error = error


def by_day(tagged: Iterable[TaggedSlice]) -> Iterator[tuple[str, list[TaggedSlice]]]:
    """An agent's slices by UTC day, each day's in merge order."""
    for day, of_day in itertools.groupby(sorted(tagged, key=_merge_order), key=_day):
        yield day, list(of_day)


def _day(tagged: TaggedSlice) -> str:
    return tagged[0].day


def _merge_order(tagged: TaggedSlice) -> tuple[str, int, int, int, int]:
    """Day, then time, then a total order that recovery finds again: the lanes are sorted by name."""
    item, index = tagged
    return (item.day, item.t_min, item.t_max, index, item.offset)


def runs(tagged: Iterable[TaggedSlice], bytes_max: int) -> Iterator[list[TaggedSlice]]:
    """Slices of one day in groups of at most ``bytes_max`` (or one slice)."""
    run: list[TaggedSlice] = []
    size = 0
    for item in tagged:
        if run and size + item[0].length > bytes_max:
            yield run
            run, size = [], 0
        run.append(item)
        size += item[0].length
    if run:
        yield run


def sorted_parts(lanes: list[SealedLane], run: list[TaggedSlice], prefix_bytes: int) -> list[SortedPart]:
    """The slices of a run as sorted parts: as they are where none overlaps another, else line by line.

    Raises:
        DamagedSliceError: one does not verify.
    """
    parts: list[SortedPart] = []
    for item, index in run:
        lane = lanes[index]
        try:
            data = read_listed(lane.file, item)
        except CorruptionError as error:
            raise DamagedSliceError(lane.token, error) from error
        parts.append(SortedPart(data, item.records, item.t_min, item.t_max))
    if all(before.t_max < after.t_min for before, after in itertools.pairwise(parts)):
        return parts
    lines = bare_lines(b"".join([part.data for part in parts]))
    lines.sort()
    return [part_of_lines(lines, prefix_bytes)]
