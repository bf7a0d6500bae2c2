"""The lanes that wait to be merged into an agent's files while those are repaired, and the records in them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from memstore.codec.checksum import checksum
from memstore.engine.engine import Engine
from memstore.errors import CorruptionError
from memstore.format.lines import split_lines
from memstore.format.names import KEPT_SUFFIX, LANE_SUFFIX, is_lane_name, lane_token
from memstore.fs.verified import read_listed
from memstore.manifest.index import Manifest
from memstore.ops.lanes_explain import lane_runs
from memstore.ops.reading_files import IdRun
from memstore.wal.reader import LaneReader


class WaitingLanes:
    """Of one agent. Used by one thread.

    Attributes:
        all: every lane there is.
        taken_back: tokens of those whose merge is taken back: it is repeated.

    Args:
        engine: the store.
        lanes: every lane there is.
        manifest: what is left of the agent's.
    """

    def __init__(self, engine: Engine, lanes: list[LaneReader], manifest: Manifest) -> None:
        self._engine = engine
        self._manifest = manifest
        self._checksums: set[str] | None = None
        self.all = lanes
        self.taken_back: frozenset[str] = frozenset()

    def take_back(self, merges: Iterable[int]) -> None:
        """Let merges count as never made, by their place in `Manifest.merges`."""
        self.taken_back = frozenset(token for merge in merges for token in self._manifest.merges[merge].lanes)
        self._checksums = None

    def runs(self) -> Iterator[IdRun]:
        """What they hold of the agent."""
        return lane_runs(self._waiting(), self._manifest.agent)

    def has_line(self, line: bytes) -> bool:
        """Whether a line, with its line break, stands in one of them, whole."""
        if self._checksums is None:
            self._checksums = set(self._line_checksums())
        return checksum(line) in self._checksums

    def _waiting(self) -> list[LaneReader]:
        """Lanes whose slices of the agent are not merged, or are to be merged again."""
        waiting = {
            lane_token(name)
            for name in self._engine.lanes.names()
            if is_lane_name(name) and name.endswith((LANE_SUFFIX, KEPT_SUFFIX))
        }
        return [
            lane
            for lane in self.all
            if lane.token in waiting and (lane.token not in self._manifest.merged or lane.token in self.taken_back)
        ]

    def _line_checksums(self) -> Iterator[str]:
        for lane in self._waiting():
            for item in lane.agent_slices(self._manifest.agent).slices:
                try:
                    data = read_listed(lane.file, item)
                except CorruptionError:
                    continue
                yield from map(checksum, split_lines(data))
