"""What of an agent's files is explained by lanes that its MANIFEST does not cite yet."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Sequence

from memstore.engine.unmerged_lanes import unmerged_lanes, waiting_bytes_by_day
from memstore.manifest.index import SETTLED, BlockRef, Manifest
from memstore.manifest.torn import is_newer
from memstore.ops.reading_files import IdPiece, IdRun
from memstore.wal.reader import LaneReader


def is_explained(lanes: Iterable[LaneReader], manifest: Manifest, name: str, *, committed: int, behind: int) -> bool:
    """Whether a merge that was stopped may have left so much behind the end of a day file: reads ask the same.

    Args:
        lanes: all that there are by now.
        manifest: the agent's.
        name: the file's.
        committed: how many bytes of it count.
        behind: how many stand behind those.
    """
    if not committed and not is_newer(name, manifest):
        return True  # of a version that was dropped: nobody reads it
    day = name.partition(".")[0]
    return behind <= waiting_bytes_by_day(unmerged_lanes(lanes, manifest), manifest.agent).get(day, 0)


def is_in_lanes(lanes: Iterable[LaneReader], manifest: Manifest, block: BlockRef) -> bool:
    """Whether all lanes that a block was merged from still stand, so that its merge can be repeated."""
    standing = {lane.token for lane in lanes}
    return block.merge != SETTLED and standing.issuperset(manifest.merges[block.merge].lanes)


def lane_runs(lanes: Sequence[LaneReader], agent: str) -> Iterator[IdRun]:
    """What lanes hold of an agent, as runs of one slice."""
    for lane in lanes:
        file = lane.file
        for item in lane.agent_slices(agent).slices:
            place = (file.path, item.offset, item.length, item.records, item.t_min, item.t_max)
            yield IdRun((IdPiece(*place, functools.partial(file.read, item.offset, item.length)),))
