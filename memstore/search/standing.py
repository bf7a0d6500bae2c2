"""How the search index stands: which partitions count, how far they are, and what of them is stale or in doubt.

In the order of every read: the lanes are listed, then the watermark is read, then FORGOTTEN.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import msgspec

from memstore.engine.consumers import ConsumerState
from memstore.engine.engine import Engine
from memstore.engine.feed import FedLane, is_cut_back
from memstore.errors import CorruptionError
from memstore.format.consumer_file import ConsumerFile
from memstore.search.doubts import Doubts, doubts_of
from memstore.search.schema import IndexShape
from memstore.search.state import CONSUMER, IndexState, stale_months, state_of

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Standing:
    """The index as it stands at one moment; None where there is none of this shape."""

    lanes: list[FedLane]
    content: ConsumerFile | None
    state: IndexState
    stale: frozenset[str]
    doubts: Doubts

    @property
    def ready(self) -> bool:
        """Whether there is an index at all."""
        return self.content is not None


class Standings:
    """Reads it, and keeps what was read until it is replaced. Thread-safe.

    Args:
        engine: whose index.
        shape: what the index must be like to be used.
        on_change: told of each new state.
    """

    def __init__(self, engine: Engine, *, shape: IndexShape, on_change: Callable[[IndexState], None]) -> None:
        self._engine = engine
        self._shape = shape
        self._on_change = on_change
        self.forget_after_fork()

    def forget_after_fork(self) -> None:
        """In a forked child: a new lock, and nothing known."""
        self._lock = threading.Lock()
        self._read: ConsumerState | None = None
        self._content: ConsumerFile | None = None
        self._state = IndexState()
        self._doubts: tuple[tuple[int, int], Doubts] = ((0, 0), Doubts())

    def clear(self) -> None:
        """Read it anew the next time."""
        with self._lock:
            self._read = None

    def now(self) -> Standing:
        """The index as it stands now."""
        while True:
            standing = self._stand()
            passed = {} if standing.content is None else standing.content.lanes
            # A lane that the watermark does not name is new, or was passed, unlinked and struck off since the lanes
            # were listed; then it must not be read again.
            unnamed = [lane for lane in standing.lanes if lane.token not in passed]
            if standing.content is None or all(map(self._engine.feed.stands, unnamed)):
                return standing

    def _stand(self) -> Standing:
        lanes = self._engine.feed.lanes()
        with self._lock:
            self._look()
            content, state = self._content, self._state
            epoch = self._engine.forgotten.epoch()
            if self._doubts[0] != (state.forgotten, epoch):
                found = doubts_of(self._engine.forgotten.entries(state.forgotten, epoch))
                self._doubts = ((state.forgotten, epoch), found)
            stale = frozenset() if content is None else stale_months(content, state) | _cut_back(lanes, content, state)
            return Standing(lanes, content, state, stale, self._doubts[1])

    def _look(self) -> None:
        """Read the state again if it has been replaced."""
        consumers = self._engine.consumers
        identity = consumers.identify(CONSUMER)
        if identity is not None and self._read is not None and identity == self._read.identity:
            return
        self._read, self._content, self._state = None, None, IndexState()
        try:
            found = consumers.read(CONSUMER)
            if found is None:
                return
            state = state_of(found.content)
        except (CorruptionError, msgspec.ValidationError) as error:
            _log.error("%s; everything is scanned until the search index is built anew", error)
            return
        if state.shape == self._shape.fingerprint and state.listed:
            self._on_change(state)
            self._read, self._content, self._state = found, found.content, state

    def has_changed(self, standing: Standing) -> bool:
        """Whether the state says something else by now."""
        try:
            state = self._engine.consumers.read(CONSUMER)
        except CorruptionError:
            return False  # the next look at it says so
        return state is None or state.content != standing.content


def _cut_back(lanes: Sequence[FedLane], content: ConsumerFile, state: IndexState) -> frozenset[str]:
    """Months of commits that were indexed and have been cut off their lanes again."""
    return frozenset(
        month
        for lane in lanes
        if is_cut_back(lane, content.lanes.get(lane.token, 0))
        for month in state.tips.get(lane.token, ())
    )
