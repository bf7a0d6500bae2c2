"""Pending batches to one durable commit: all of group commit.

While the disk works on one commit, the next one fills. The committer takes all that is pending, up to a byte limit
and never half a batch, joins it group by group behind one header line, writes it with one call and syncs once; then
every waiter is told. One lane belongs to one process, whatever the number of shards: no lock is on the way in.

When things go wrong (DESIGN 9): no space or a failed write, and the lane is cut back to its last commit and the
waiters are told; a failed sync, and that lane is never touched again, its lock is released for others to seal it, and
the waiters are told that the outcome is unknown; a second failed sync makes the store read-only.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable

from memstore.clock import Clock
from memstore.codec.checksum import checksum
from memstore.config import WritingSettings
from memstore.engine.batch import Batch, GroupKey, closed_error, settle_tickets
from memstore.errors import MemstoreError, ReadOnlyError, StorageError, StorageFullError, WriterBrokenError
from memstore.format.lane import Slice, encode_commit
from memstore.format.lines import agent_prefix, line_time_us, lines_span_us
from memstore.metrics import Metrics
from memstore.wal.lane import LaneWriter

_log = logging.getLogger(__name__)
SLICE_BYTES_MAX = 1024 * 1024
"""A group is cut into slices of this size, so that a reader verifies at most this much (or one record) to get at a
line."""
FAILED_SYNCS_MAX = 2


class Committer:
    """One thread, one lane at a time. ``submit`` is thread-safe.

    Args:
        clock: stamps commits.
        settings: the limits.
        new_lane: makes a lane; called by the committer's thread, may wait for a merge.
        retire_lane: takes over a lane that is full, to be sealed.
        metrics: counters.
    """

    def __init__(
        self,
        *,
        clock: Clock,
        settings: WritingSettings,
        new_lane: Callable[[], LaneWriter],
        retire_lane: Callable[[LaneWriter], None],
        metrics: Metrics,
    ) -> None:
        self._clock = clock
        self._settings = settings
        self._new_lane = new_lane
        self._retire_lane = retire_lane
        self._metrics = metrics
        self._pending: deque[Batch] = deque()
        self._pending_bytes = 0
        self._mutex = threading.Lock()
        self._work = threading.Condition(self._mutex)
        self._held_back: list[threading.Lock] = []
        self._lane_mutex = threading.Lock()
        self._lane: LaneWriter | None = None
        self._thread: threading.Thread | None = None
        self._closing = False
        self._failed_syncs = 0

    @property
    def full(self) -> bool:
        """Whether so much is pending that another batch should wait."""
        return self._pending_bytes >= self._settings.pending_bytes_max

    @property
    def lane(self) -> LaneWriter | None:
        """The open lane, if there is one."""
        return self._lane

    def known_end(self, path: str) -> int | None:
        """How far this process's own open lane is committed; None for any other path."""
        lane = self._lane
        return lane.end if lane is not None and lane.path == path else None

    def submit(self, batch: Batch, *, wait_for_room: bool) -> None:
        """Queue a batch; its ticket is settled when it is durable or has failed.

        Args:
            batch: at least one record.
            wait_for_room: hold the calling thread while more than ``pending_bytes_max`` is pending; a coroutine sees
                to it itself.

        Raises:
            ReadOnlyError: two syncs have failed.
            StoreClosedError: the store was closed.
        """
        while not self._queue(batch, even_if_full=not wait_for_room):
            self.wait_for_room()

    def _queue(self, batch: Batch, *, even_if_full: bool) -> bool:
        """Whether the batch was queued."""
        with self._mutex:
            if self._closing:
                raise closed_error()
            if self.full and not even_if_full:
                return False
            if self._failed_syncs >= FAILED_SYNCS_MAX:
                raise ReadOnlyError(
                    "two syncs have failed: this store is read-only until it is opened again; check the disk"
                )
            if self._thread is None or not self._thread.is_alive():  # or Ctrl-C interrupted its start
                self._thread = threading.Thread(target=self._run, name="memstore-committer", daemon=True)
                self._thread.start()
            self._pending.append(batch)
            self._pending_bytes += batch.bytes
            self._work.notify()
            return True

    def wait_for_room(self) -> None:
        """Return when less than ``pending_bytes_max`` is pending, or the store is being closed."""
        while True:
            with self._mutex:
                if not self.full or self._closing:
                    return
                # A lock that the committer releases, not a condition: whoever Ctrl-C interrupts in the wait for one
                # may be without the mutex where it takes itself to hold it.
                gate = threading.Lock()
                gate.acquire()
                self._held_back.append(gate)
            with gate:
                pass

    def release_lane(self) -> LaneWriter | None:
        """Take the open lane away between two commits, to be sealed; the next commit starts a new one."""
        with self._lane_mutex:
            lane, self._lane = self._lane, None
        return lane

    def close(self) -> None:
        """Write what is pending, then stop. Idempotent."""
        with self._mutex:
            self._closing = True
            self._work.notify_all()
            self._let_on()
            thread = self._thread
        if thread is not None and thread.is_alive():
            thread.join()

    def _run(self) -> None:
        while True:
            with self._mutex:
                if self._thread is not threading.current_thread():
                    return  # Ctrl-C interrupted its start, and another one was started for it
                while not self._pending and not self._closing:
                    self._work.wait()
                if not self._pending:
                    return
                batches = self._take()
                self._let_on()
            error: MemstoreError | None = None
            try:
                self._commit(batches)
            except MemstoreError as failure:
                error = failure
                _log.error("a commit of %d record(s) failed: %s", sum(b.records for b in batches), failure)
            except Exception as failure:  # noqa: BLE001 - told to the waiters and logged
                # A bug of ours, or a store whose directories are gone, must leave nobody waiting for ever: neither
                # these appenders nor the next, so the thread goes on.
                error = StorageError(f"the committer failed: {failure!r}")
                _log.exception("a commit of %d record(s) failed", sum(b.records for b in batches))
            settle_tickets([b.ticket for b in batches], error)

    def _let_on(self) -> None:
        """Have those look again who wait for room. The mutex is held."""
        gates, self._held_back = self._held_back, []
        for gate in gates:
            gate.release()

    def _take(self) -> list[Batch]:
        batches = [self._pending.popleft()]
        size = batches[0].bytes
        while self._pending and size + self._pending[0].bytes <= self._settings.commit_bytes_max:
            batch = self._pending.popleft()
            size += batch.bytes
            batches.append(batch)
        self._pending_bytes = self._pending_bytes - size if self._pending else 0
        return batches

    def _commit(self, batches: list[Batch]) -> None:
        payload, slices = encode_commit_payload(batches, self._clock.now_us())
        lane, full = self._append(payload, slices)
        self._metrics.add("commits")
        self._metrics.add("records_appended", sum(b.records for b in batches))
        self._metrics.add("bytes_appended", len(payload))
        if full:
            self._retire_lane(lane)

    def _append(self, payload: bytes, slices: int) -> tuple[LaneWriter, bool]:
        """Write a commit to the open lane, made here where there is none; the lane, and whether it is full."""
        while True:
            # Outside the mutex, for it may wait for the merge lock, whose holder may be waiting for the mutex.
            fresh = self._new_lane() if self._lane is None else None
            with self._lane_mutex:
                lane = self._lane = fresh or self._lane
                if lane is None:  # released since it was looked at
                    continue
                try:
                    lane.append(payload, slices)
                except StorageError as error:
                    self._metrics.add("commit_failures")
                    raise self._failed(lane, error) from error
                full = lane.end >= self._settings.lane_bytes_max or lane.slices >= self._settings.lane_slices_max
                if full:
                    self._lane = None
                return lane, full

    def _failed(self, lane: LaneWriter, error: StorageError) -> StorageError:
        """What to tell the waiters; a broken lane is given up."""
        if not lane.broken:
            return (
                error
                if isinstance(error, StorageFullError)
                else StorageError(f"{error}; nothing of this commit was stored")
            )
        self._failed_syncs += 1
        self._lane = None
        lane.close()
        return WriterBrokenError(
            f"{error}; whether these records are on disk is unknown. Read them back before writing them again"
        )


def encode_commit_payload(batches: list[Batch], at_us: int) -> tuple[bytes, int]:
    """Header line and body of one commit, and how many slices it has."""
    if len(batches) == 1:
        groups = batches[0].groups
    else:
        groups = {}
        for batch in batches:
            for key, lines in batch.groups.items():
                known = groups.get(key)
                if known is None:
                    groups[key] = lines.copy()
                else:
                    known.extend(lines)
    parts: list[bytes] = [b""]
    slices: list[Slice] = []
    offset = 0
    for key, lines in groups.items():
        for item, data in _cut_slices(key, lines, offset):
            slices.append(item)
            parts.append(data)
            offset += item.length
    parts[0] = encode_commit(at=at_us, body_bytes=offset, slices=slices)
    return b"".join(parts), len(slices)


def _cut_slices(key: GroupKey, lines: list[bytes], offset: int) -> list[tuple[Slice, bytes]]:
    agent, day = key
    prefix_bytes = len(agent_prefix(agent))
    if len(lines) == 1:
        (line,) = lines
        time_us = line_time_us(line, prefix_bytes)
        return [(Slice(agent, day, offset, len(line), 1, time_us, time_us, checksum(line)), line)]
    lines.sort()
    cut: list[tuple[Slice, bytes]] = []
    start = size = 0
    for index, line in enumerate(lines):
        if index > start and size + len(line) > SLICE_BYTES_MAX:
            cut.append(_slice(agent, day, lines[start:index], offset, prefix_bytes))
            offset += size
            start, size = index, 0
        size += len(line)
    cut.append(_slice(agent, day, lines[start:] if start else lines, offset, prefix_bytes))
    return cut


def _slice(agent: str, day: str, lines: list[bytes], offset: int, prefix_bytes: int) -> tuple[Slice, bytes]:
    data = b"".join(lines)
    t_min, t_max = lines_span_us(lines, prefix_bytes)
    return Slice(agent, day, offset, len(data), len(lines), t_min, t_max, checksum(data)), data
