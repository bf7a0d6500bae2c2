"""New matches as they are appended, by whomever: each once, in order of arrival.

A search sorted by time cannot do this, for records come late and bring times of their own. So the lanes are followed
commit by commit, and what is new is searched as a scan is. While it lasts the follower is a consumer of the lanes: one
that is written, sealed and merged between two looks waits for it. A follower that was killed leaves a registration
behind; its lock is free then, and the next follower or indexer clears it away.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import msgspec

from memstore.engine.consumers import Consumers
from memstore.engine.engine import Engine
from memstore.engine.feed import FedCommit, FedLane, is_cut_back
from memstore.errors import LockedError
from memstore.fs.lock import try_lock_file
from memstore.fs.storage import StorageFile
from memstore.search.result import SearchHit

CONSUMER_PREFIX = "follow-"
FOLLOWERS_MAX = 64
"""At once, of one store: each is a file that every merge looks into."""
LOOK_BYTES_MAX = 16 * 1024 * 1024
"""What one look takes in; the next goes on. Some 20,000 records: half a second's work."""
Match = Callable[[list[bytes]], list[SearchHit]]
"""The hits among these lines, in their order."""


@dataclass(slots=True)
class _Registration:
    """A place among the consumers, held by a lock."""

    name: str
    lock: StorageFile


class Follower:
    """New matches since it was made. Not thread-safe; close it, or use it in a ``with``.

    Args:
        engine: the store. Opened read-only it cannot register: what is written, sealed and merged between two looks is
            then missed, and `is_sure` says so.
        match: the question.
        hints: what of its text was not understood.

    Attributes:
        has_more: whether the last look ended before everything that had come was read: look again at once.
    """

    def __init__(self, engine: Engine, match: Match, hints: tuple[str, ...] = ()) -> None:
        self._engine = engine
        self._match = match
        self.hints = hints
        self._notes: list[str] = []
        self._known: dict[str, FedLane] = {}
        self._passed: dict[str, int] = {}
        self.has_more = False
        self._registration = None if engine.read_only else _register(engine)
        try:
            lanes = engine.feed.lanes()
            self._ends = {lane.token: engine.feed.whole_end(lane) for lane in lanes}
            self._known = {lane.token: lane for lane in lanes}
            self._let_go(lanes)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    @property
    def is_sure(self) -> bool:
        """Whether nothing can be missed, however much is merged between two looks."""
        return self._registration is not None

    def poll(self) -> list[SearchHit]:
        """Matches that have come since the last look, in order of arrival; see `has_more`.

        Raises:
            StoreClosedError: the store was closed.
            StorageError: the store cannot be read.
        """
        self._engine.check_open()
        lanes = self._lanes()
        lines = self._new_lines(lanes)
        hits = self._match(lines) if lines else []
        self._let_go(lanes)
        return hits

    def take_notes(self) -> list[str]:
        """What could not be seen since the last call, and why."""
        notes, self._notes = self._notes, []
        return notes

    def close(self) -> None:
        """Let no lane wait any more. Idempotent."""
        registration, self._registration = self._registration, None
        self._known.clear()
        if registration is not None:
            try:
                self._engine.consumers.unregister(registration.name)
            finally:
                registration.lock.close()

    # -- what is new

    def _lanes(self) -> list[FedLane]:
        """Lanes as they are now; those that went since the last look too, for an open file can be read to its end."""
        lanes = self._engine.feed.lanes()
        listed = {lane.token for lane in lanes}
        gone = [self._engine.feed.again(lane) for token, lane in self._known.items() if token not in listed]
        self._known = {lane.token: lane for lane in lanes}
        return [*lanes, *gone]

    def _new_lines(self, lanes: list[FedLane]) -> list[bytes]:
        """Lines behind the watermark, in order of the commits; moves the watermark."""
        found: list[tuple[int, int, FedCommit]] = []
        room = LOOK_BYTES_MAX
        self.has_more = False
        for lane in lanes:
            if room <= 0:
                self.has_more = True
                break
            self._cut_back(lane)
            at_us = 0
            for commit in self._unread(lane):
                at_us = max(at_us, commit.at)  # a clock that steps back must not turn one lane's order around
                found.append((at_us, len(found), commit))
                self._ends[lane.token] = commit.end
                if commit.damaged:
                    days = ", ".join(sorted(commit.damaged))
                    self._notes.append(
                        f"records of {days} are damaged and cannot be shown; `memstore check` says where"
                    )
                room -= sum(len(data) for _, data in commit.slices)
                if room <= 0:
                    self.has_more = True
                    break
            else:
                if lane.sealed:
                    self._ends[lane.token] = lane.end
        found.sort(key=lambda each: each[:2])
        return [line for _, _, commit in found for _, data in commit.slices for line in data.split(b"\n") if line]

    def _unread(self, lane: FedLane) -> Iterator[FedCommit]:
        start = self._ends.get(lane.token, 0)
        return self._engine.feed.commits(lane, start) if start < lane.end else iter(())

    def _cut_back(self, lane: FedLane) -> None:
        """A last commit whose sync failed is cut off again; nobody was told that it is stored."""
        if lane.sealed and is_cut_back(lane, self._ends.get(lane.token, 0)):
            self._ends[lane.token] = lane.end

    # -- those who wait for us

    def _let_go(self, lanes: list[FedLane]) -> None:
        """Note durably which sealed lanes are passed, where that has changed, and let them go."""
        ends = {lane.token: self._ends.get(lane.token, 0) for lane in lanes}
        self._ends = ends
        if self._registration is None:
            return
        consumers, name = self._engine.consumers, self._registration.name
        self._look_for_missed(consumers, name)
        passed = {lane.token: lane.end for lane in lanes if lane.sealed and ends[lane.token] == lane.end}
        if passed != self._passed:
            self._passed = passed
            consumers.update(name, lambda content: msgspec.structs.replace(content, lanes=passed))
            consumers.release()

    def _look_for_missed(self, consumers: Consumers, name: str) -> None:
        state = consumers.read(name)
        if state is None or not state.content.missed:
            return
        months = ", ".join(state.content.missed)
        self._notes.append(f"records of {months} went before they could be shown: search for them")
        consumers.update(name, lambda content: msgspec.structs.replace(content, missed=[], missed_at=0))


def _register(engine: Engine) -> _Registration:
    """Raises: LockedError: too many follow this store."""
    clear_dead_followers(engine)
    for number in range(1, FOLLOWERS_MAX + 1):
        name = f"{CONSUMER_PREFIX}{number}"
        lock = try_lock_file(engine.storage, engine.paths.lock(name))
        if lock is None:
            continue
        try:
            engine.consumers.unregister(name)
            engine.consumers.register(name, at_us=engine.clock.now_us())
        except BaseException:
            lock.close()
            raise
        return _Registration(name, lock)
    raise LockedError(f"{FOLLOWERS_MAX} processes follow this store already; end one of them")


def clear_dead_followers(engine: Engine) -> None:
    """Unregister followers whose process has died, so that no lane waits for them."""
    for name in engine.consumers.names():
        if not name.startswith(CONSUMER_PREFIX):
            continue
        lock = try_lock_file(engine.storage, engine.paths.lock(name))
        if lock is not None:
            try:
                engine.consumers.unregister(name)
            finally:
                lock.close()
