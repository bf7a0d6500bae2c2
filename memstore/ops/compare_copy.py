"""What of an agent the store has and its second copy lacks, and what the copy shows that the store hides.

Pieces of equal content are passed over without being read: while nothing has moved since the last pass, the two differ
in lanes alone, if at all. The rest is read on both sides, within the times of those pieces, as two streams in order.

Both sides change meanwhile, the store's always first. So whatever is found is looked for once more, when whoever was
changing them is done, and counts only if it is found again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from memstore.engine.lookup import find_lines
from memstore.engine.reading import Reading
from memstore.engine.view import Snapshot, ViewBuilder
from memstore.errors import CorruptionError
from memstore.format.lines import ID_STAMP_CHARS, agent_prefix
from memstore.ids import SUFFIX_CHARS, parse_id
from memstore.lifecycle.needles import line_id
from memstore.manifest.index import BlockRef, FrameRef

MISSING_MAX = 10_000
"""So many ids are kept of an agent to be looked for again: 1 MB. What is said of more is said of these."""


@dataclass(slots=True)
class Difference:
    """What the two have otherwise.

    Attributes:
        missing: ids that the copy lacks, sorted; at most `MISSING_MAX`.
        shown: ids that the store hides and the copy does not, sorted.
        damage: what of the copy could not be read on the way.
        damage_here: what of the store could not.
    """

    missing: list[str] = field(default_factory=list)
    shown: list[str] = field(default_factory=list)
    damage: list[CorruptionError] = field(default_factory=list)
    damage_here: list[CorruptionError] = field(default_factory=list)


def compare_agent(
    store: ViewBuilder, copy: ViewBuilder, agent: str, *, settle: Callable[[], None] = lambda: None
) -> Difference:
    """What there is to say of one agent, found twice.

    Args:
        store: reads the store.
        copy: reads the copy.
        agent: whose records.
        settle: called in between; returns when changes that were under way at the first look are done.

    Raises:
        CorruptionError: a MANIFEST does not verify.
        StorageError: a volume is not there.
    """
    first = _compare(store, copy, agent)
    if not (first.missing or first.shown):
        return first
    settle()
    again = _compare(store, copy, agent)
    again.missing = sorted(set(first.missing) & set(again.missing))
    again.shown = sorted(set(first.shown) & set(again.shown))
    return again


def _compare(store: ViewBuilder, copy: ViewBuilder, agent: str) -> Difference:
    found = Difference()
    ours = store.snapshot(agent)  # first: what is in it was acknowledged before the copy is looked at
    theirs = copy.snapshot(agent)
    found.shown = _shown(copy, ours, theirs)
    span = _span(ours, theirs)
    if span is not None:
        have = Reading(store, agent, found.damage_here.append)
        given = Reading(copy, agent, found.damage.append)
        found.missing = list(_missing(agent, have, given, span))
    return found


def _shown(copy: ViewBuilder, ours: Snapshot, theirs: Snapshot) -> list[str]:
    """Tombstones that the copy lacks, of records that it has."""
    hidden = frozenset() if ours.manifest is None else ours.manifest.hidden.ids
    there = frozenset() if theirs.manifest is None else theirs.manifest.hidden.ids
    times = {memory_id: parse_id(memory_id).time_us for memory_id in hidden - there}
    return sorted(find_lines(copy, ours.agent, times)) if times else []


def _span(ours: Snapshot, theirs: Snapshot) -> tuple[int, int] | None:
    """Record times between which pieces of the store lie that the copy does not have as they are; None: nowhere."""
    same = {key for _, _, key in _pieces(theirs)}
    times = [(t_min, t_max) for t_min, t_max, key in _pieces(ours) if key not in same]
    return (min(low for low, _ in times), max(high for _, high in times) + 1) if times else None


def _pieces(snapshot: Snapshot) -> Iterator[tuple[int, int, tuple[object, ...]]]:
    """First and last time of each piece, and what tells its content."""
    if snapshot.manifest is not None:
        for refs in snapshot.manifest.days.values():
            for ref in refs:
                yield ref.t_min, ref.t_max, _content(ref)
    for slices in snapshot.slices.values():
        for item in slices:
            yield item.t_min, item.t_max, ("lines", item.length, item.xxh3)


def _content(ref: BlockRef | FrameRef) -> tuple[object, ...]:
    # A frame may have repeats whose originals are in others of its file: of two files that agree by name all do.
    return (ref.file, ref.offset, ref.xxh3) if isinstance(ref, FrameRef) else ("lines", ref.length, ref.xxh3)


def _missing(agent: str, have: Reading, given: Reading, span: tuple[int, int]) -> Iterator[str]:
    """Ids of the first stream that the second one lacks."""
    needle_bytes = len(agent_prefix(agent)) + ID_STAMP_CHARS + SUFFIX_CHARS
    since_us, until_us = span
    there = given.scan(since_us=since_us, until_us=until_us, newest_first=False)
    beside = next(there, None)
    told = 0
    for line in have.scan(since_us=since_us, until_us=until_us, newest_first=False):
        needle = line[:needle_bytes]
        while beside is not None and beside[:needle_bytes] < needle:
            beside = next(there, None)
        if beside is None or beside[:needle_bytes] != needle:
            told += 1
            yield line_id(line)
            if told == MISSING_MAX:
                return
