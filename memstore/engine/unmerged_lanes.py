"""What lanes hold of an agent that its MANIFEST does not cite yet."""

from __future__ import annotations

from collections.abc import Iterable

from memstore.manifest.index import Manifest
from memstore.wal.reader import LaneReader


def unmerged_lanes(lanes: Iterable[LaneReader], manifest: Manifest | None) -> list[LaneReader]:
    """Lanes whose slices of an agent are not merged; all of them where nobody knows its MANIFEST."""
    return [lane for lane in lanes if manifest is None or lane.token not in manifest.merged]


def waiting_bytes_by_day(lanes: Iterable[LaneReader], agent: str) -> dict[str, int]:
    """How many bytes of an agent such lanes hold, by day."""
    waiting: dict[str, int] = {}
    for lane in lanes:
        for item in lane.agent_slices(agent).slices:
            waiting[item.day] = waiting.get(item.day, 0) + item.length
    return waiting
