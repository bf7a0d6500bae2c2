"""Hide again what was forgotten, where an index has lost its tombstones: as far as FORGOTTEN says which records."""

from __future__ import annotations

from collections.abc import Iterator

from memstore.format.forgotten import text_hash
from memstore.format.lines import split_lines
from memstore.lifecycle.needles import line_id
from memstore.ops.repair.agent_plan import AgentPlan
from memstore.ops.repair.good_pieces import LoadLines
from memstore.ops.repair.waiting_lanes import WaitingLanes


def found_forgotten(
    plan: AgentPlan, lanes: WaitingLanes, forgotten: frozenset[str], *, load: LoadLines
) -> frozenset[str]:
    """Ids of the records in an agent's files and lanes that were forgotten.

    Args:
        plan: with every file in it that is kept.
        lanes: what waits to be merged.
        forgotten: hashes of their ids.
        load: reads the lines of a piece.

    Raises:
        CorruptionError: a file is no longer what it was when it was looked at.
        StorageError: the disk refuses.
    """
    if not forgotten:
        return frozenset()
    return frozenset(
        memory_id
        for data in _all_lines(plan, lanes, load)
        for memory_id in _ids(data)
        if text_hash(memory_id) in forgotten
    )


def _all_lines(plan: AgentPlan, lanes: WaitingLanes, load: LoadLines) -> Iterator[bytes]:
    for each in plan.files:
        for piece in each.pieces if each.trashed is None else ():
            yield load(each, piece)
    for run in lanes.runs():
        yield run.pieces[0].load()


def _ids(data: bytes) -> Iterator[str]:
    for line in split_lines(data):
        try:
            yield line_id(line)
        except ValueError:  # of a slice that is damaged
            continue
