"""Each record once, of all that was found of an agent.

It is kept in a lane, if one has it; else in a file that the index names and that is whole; else in one that it names;
else in one that it does not, the newest version first.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence

from memstore.format.lines import split_lines
from memstore.format.names import file_version
from memstore.ops.ids_once import twice
from memstore.ops.reading_files import IdPiece, IdRun
from memstore.ops.removed_records import RemovedRecords
from memstore.ops.repair.agent_plan import AgentPlan
from memstore.ops.repair.good_pieces import LoadLines
from memstore.ops.repair.salvage import FileSalvage
from memstore.ops.repair.waiting_lanes import WaitingLanes


def keep_each_once(
    plan: AgentPlan, lanes: WaitingLanes, removed: RemovedRecords, *, needle_bytes: int, load: LoadLines
) -> None:
    """Note in a plan what stands twice, and take out of it the files that hold nothing of their own.

    Args:
        plan: with every file in it that was found.
        lanes: what waits to be merged.
        removed: of a file that comes back from a copy, no line comes that was erased meanwhile.
        needle_bytes: how long the beginning of a line is that no other has.
        load: reads the lines of a piece.

    Raises:
        CorruptionError: a file is no longer what it was when it was looked at.
        StorageError: the disk refuses.
    """
    ordered = sorted(
        (each for each in plan.files if each.trashed is None),
        key=lambda each: (each.is_missing, not each.listed, not each.can_stay, -(file_version(each.name) or 0)),
    )
    _note_what_stands_twice(plan, ordered, lanes, needle_bytes=needle_bytes, load=load)
    if removed.erased or removed.erased_until:
        for each in ordered:
            erased = _erased(each, removed, needle_bytes=needle_bytes, load=load) if each.is_missing else None
            if erased:
                plan.doubled.setdefault(each.path, set()).update(erased)
    for each in ordered:
        if each.pieces and len(plan.doubled.get(each.path, ())) >= each.records:
            plan.files.remove(each)
            plan.doubled.pop(each.path, None)
            if not each.is_missing:
                plan.strangers.append(each.path)


def _note_what_stands_twice(
    plan: AgentPlan, ordered: Sequence[FileSalvage], lanes: WaitingLanes, *, needle_bytes: int, load: LoadLines
) -> None:
    """Of two places that have a record, note the one that comes later: behind all lanes, and in the order of files."""
    runs = list(lanes.runs())
    for priority, each in enumerate(ordered, start=1):
        runs += _file_runs(each, priority, load)
    paths = {each.path for each in ordered}
    for first, second, needle in twice(runs, needle_bytes=needle_bytes, on_bytes=lambda _: None):
        if second.path == first.path and second.path in paths:
            plan.repeated[second.path] = plan.repeated.get(second.path, 0) + 1
        elif second.path in paths:
            plan.doubled.setdefault(second.path, set()).add(needle)


def _file_runs(each: FileSalvage, priority: int, load: LoadLines) -> Iterator[IdRun]:
    for piece in each.pieces:
        place = (each.path, piece.offset, piece.length, piece.records, piece.t_min, piece.t_max)
        yield IdRun((IdPiece(*place, functools.partial(load, each, piece), priority),))


def _erased(each: FileSalvage, removed: RemovedRecords, *, needle_bytes: int, load: LoadLines) -> set[bytes]:
    """What lines of a file begin with that were erased."""
    return {
        line[:needle_bytes]
        for piece in each.pieces
        for line in split_lines(load(each, piece))
        if removed.was_erased(line)
    }
