"""What goes on behind the appends: seal lanes, merge them, drain.

`Maintenance` decides nothing about bytes; it chooses the moment. A merge is worth it when the bytes waiting per agent
make it worth opening the files; at the latest it comes by total size, count and age (DESIGN 5.4).
"""

from __future__ import annotations

import logging
import os
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from memstore.bell import Bell
from memstore.clock import Clock
from memstore.config import MergingSettings, WritingSettings
from memstore.engine.catalog import Catalog
from memstore.engine.committer import Committer
from memstore.engine.merge import Merger, MergeReport
from memstore.engine.mirroring import Mirroring
from memstore.errors import CorruptionError, LockedError, MemstoreError
from memstore.format.lane import Seal
from memstore.format.names import LANE_SUFFIX, StorePaths
from memstore.fs.atomic import replace_file
from memstore.fs.lock import locked, try_lock_file
from memstore.fs.storage import Storage
from memstore.metrics import Metrics
from memstore.wal.lane import LaneWriter
from memstore.wal.seal import read_seal, seal_lane

_log = logging.getLogger(__name__)
TICK_S = 1.0
"""How often committers look for a SEAL mark: a drain waits about this long for the others."""
AGENT_SLICES_MAX = 262_144
"""Slices of one agent that a merge holds at a time: some 100 MiB at 400 bytes each."""
LANES_PER_MERGE_MAX = 256
"""A merge has so many files open."""
REPORT_AGAIN_S = 60.0
"""How often a failure that goes on is logged."""
_DRAIN_POLL_S = 0.05
_MERGE_WAIT_S = 60.0
_SEAL_MARK_BYTES_MAX = 64


@dataclass(slots=True)
class DrainReport:
    """What a drain did.

    Attributes:
        merged_lanes: lanes that are merged and gone.
        records: records in them.
        pending: names of lanes that could not be sealed (a stopped process holds them) or are damaged.
    """

    merged_lanes: int = 0
    records: int = 0
    pending: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Waiting:
    """Lanes that are not merged."""

    sealed: dict[str, Seal]
    open: list[str]
    bytes: int
    agents: int
    age_us: int


class Maintenance:
    """Seals and merges, in the background of a store that writes or when it is asked to. Thread-safe.

    Attributes:
        on_merged: called under the merge lock when lanes were merged; must not wait for anything.
    """

    def __init__(
        self,
        storage: Storage,
        paths: StorePaths,
        *,
        clock: Clock,
        catalog: Catalog,
        merger: Merger,
        mirroring: Mirroring,
        metrics: Metrics,
        writing: WritingSettings,
        merging: MergingSettings,
        ballast_bytes: int,
    ) -> None:
        self._storage = storage
        self._paths = paths
        self._clock = clock
        self._catalog = catalog
        self._merger = merger
        self._mirroring = mirroring
        self._metrics = metrics
        self._writing = writing
        self._merging = merging
        self._ballast_bytes = ballast_bytes
        self._seals: dict[str, tuple[Seal, int]] = {}
        self._own: list[LaneWriter] = []
        self._own_lock = threading.Lock()
        self._seal_lock = threading.Lock()
        self._mark: bytes | None = None
        self._bell = Bell()
        self._thread: threading.Thread | None = None
        self._closing = False
        self._reported: type[Exception] | None = None
        self._reported_s = 0.0
        self.on_merged: Callable[[], None] = _nobody

    # -- lanes of this process

    def start(self, committer: Committer) -> None:
        """Begin to work in the background, at the first append."""
        self._mark = self._read_mark()
        self._thread = threading.Thread(target=self._run, args=(committer,), name="memstore-maintenance", daemon=True)
        self._thread.start()

    def retire(self, lane: LaneWriter) -> None:
        """Take over a lane that the committer is done with; it is sealed soon."""
        with self._own_lock:
            self._own.append(lane)
        self._bell.ring()

    def make_room(self) -> None:
        """Hold the committer while more than ``waiting_bytes_max`` waits to be merged."""
        while self._waiting().bytes >= self._writing.waiting_bytes_max and not self._closing:
            self._seal_own()
            try:
                with locked(self._storage, self._paths.lock("merge"), timeout_s=_MERGE_WAIT_S):
                    self._merge_waiting()
            except LockedError:
                continue
            except MemstoreError as error:
                _log.error("a merge failed while writers wait for it: %s", error)
                return

    def close(self, committer: Committer) -> None:
        """Seal what this process wrote and merge, unless somebody else is at it. The committer has stopped."""
        self._closing = True
        self._bell.ring()
        if self._thread is not None:
            self._thread.join()
        lane = committer.release_lane()
        if lane is not None:
            self.retire(lane)
        try:
            self._seal_own()
            if self._merging.background:
                self._try_merge()
        except MemstoreError as error:
            # Everything is durable in its lane; the next process that opens the store goes on from there.
            _log.warning("%s: not merged at close: %s", self._paths.root, error)
        for left in self._own:
            left.close()

    def forget(self) -> None:
        """In a forked child: the parent's lanes and threads are the parent's."""
        self._own_lock = threading.Lock()
        self._seal_lock = threading.Lock()
        self._own = []
        self._bell = Bell()
        self._thread = None

    def _run(self, committer: Committer) -> None:
        while not self._closing:
            self._bell.wait(TICK_S)
            try:
                self._look_after_lane(committer)
                self._seal_own()
                if self._merging.background and not self._closing and self._due(self._waiting()):
                    self._try_merge()
            except Exception as error:  # noqa: BLE001 - logged, and tried again
                # Of any kind: be it a bug of ours or a store whose directories are gone, lanes must be sealed and
                # merged all the same once it is over.
                self._metrics.add("maintenance_failures")
                self._report(error)

    def _report(self, error: Exception) -> None:
        """Log a failure, and while it goes on (a full disk) not at every tick."""
        now_s = self._clock.monotonic_s()
        if type(error) is not self._reported or now_s - self._reported_s >= REPORT_AGAIN_S:
            self._reported, self._reported_s = type(error), now_s
            unforeseen = None if isinstance(error, MemstoreError) else error
            _log.error("%s: maintenance will try again: %s", self._paths.root, error, exc_info=unforeseen)

    def _look_after_lane(self, committer: Committer) -> None:
        """Seal the open lane when it is old or a drain asks for it."""
        mark = self._read_mark()
        lane = committer.lane
        if lane is None:  # or it is just being made, and a drain has seen its file: the mark stays new for it
            return
        asked, self._mark = mark != self._mark, mark
        if asked or self._clock.monotonic_s() - lane.created_s >= self._writing.seal_after_s:
            released = committer.release_lane()
            if released is not None:
                self.retire(released)

    def _read_mark(self) -> bytes | None:
        # Its content, not its identity: the inode of a mark that was replaced twice may be the first one's again.
        try:
            file = self._storage.open_read(self._paths.seal_mark)
        except FileNotFoundError:
            return None
        try:
            return file.read(0, _SEAL_MARK_BYTES_MAX)
        finally:
            file.close()

    def _seal_own(self) -> None:
        with self._seal_lock:
            while True:
                with self._own_lock:
                    if not self._own:
                        return
                    lane = self._own.pop(0)
                try:
                    if not lane.broken:
                        seal_lane(self._storage, self._paths, lane.file, at_us=self._clock.now_us(), own=True)
                        self._metrics.add("lanes_sealed")
                except MemstoreError:
                    with self._own_lock:
                        self._own.insert(0, lane)
                    raise
                lane.close()

    # -- everybody's lanes

    def _waiting(self) -> _Waiting:
        sealed: dict[str, Seal] = {}
        still_open: list[str] = []
        total = agents = age_us = 0
        now_us = self._clock.now_us()
        names = {e.name for e in self._storage.list_directory(self._paths.lanes) if e.name.endswith(LANE_SUFFIX)}
        for gone in self._seals.keys() - names:
            self._seals.pop(gone, None)
        for name in sorted(names):
            known = self._seals.get(name) or self._look_at(name)
            if known is None:
                still_open.append(name)
                continue
            self._seals[name] = known
            seal, size = known
            sealed[name] = seal
            total += size
            agents = max(agents, seal.agents)
            # One that is far ahead was sealed by a clock that has been set back since: nobody knows how old it is.
            age_us = max(age_us, abs(now_us - seal.at))
        return _Waiting(sealed, still_open, total, agents, age_us)

    def _look_at(self, name: str) -> tuple[Seal, int] | None:
        """A lane's seal and size; a lane whose writer is dead is sealed here."""
        path = os.path.join(self._paths.lanes, name)
        try:
            file = self._storage.open_read(path)
        except FileNotFoundError:
            return None
        try:
            size = file.identity().size_bytes
            found = read_seal(file, size)
        finally:
            file.close()
        if found is not None:
            return found[0], size
        return self._seal_orphan(path)

    def _seal_orphan(self, path: str) -> tuple[Seal, int] | None:
        """Seal a lane whose lock nobody holds; None where somebody does, or where it has gone."""
        try:
            file = self._storage.open_update(path)
        except FileNotFoundError:
            return None
        try:
            if not file.try_lock() or self._storage.identify(path) != file.identity():
                return None
            outcome = seal_lane(
                self._storage,
                self._paths,
                file,
                at_us=self._clock.now_us(),
                own=False,
                before_footer=self._mirroring.complete,
            )
            self._metrics.add("orphans_sealed")
            self._metrics.add("torn_bytes", outcome.torn_bytes)
            return outcome.seal, file.identity().size_bytes
        except CorruptionError as error:
            _log.error("a dead writer's lane cannot be sealed: %s", error)
            return None
        finally:
            file.close()

    def _due(self, waiting: _Waiting) -> bool:
        if not waiting.sealed:
            return False
        settings = self._merging
        return (
            waiting.bytes >= settings.bytes_per_agent * max(waiting.agents, 1)
            or waiting.bytes >= settings.waiting_bytes
            or len(waiting.sealed) >= settings.lanes_max
            or waiting.age_us >= settings.age_s * 1_000_000
        )

    def merge_due(self) -> MergeReport | None:
        """Seal what dead writers left, and merge what waits if it is worth it; None where not, or another is at it."""
        return self._try_merge() if self._due(self._waiting()) else None

    def _try_merge(self) -> MergeReport | None:
        """Merge what is sealed, unless another process is at it."""
        lock = try_lock_file(self._storage, self._paths.lock("merge"))
        if lock is None:
            return None
        try:
            return self._merge_waiting()
        finally:
            lock.close()

    def _merge_waiting(self) -> MergeReport:
        """Merge what is sealed; the merge lock is held."""
        total = MergeReport()
        for names in self._groups(self._waiting().sealed):
            report = self._merger.merge(names)
            total.lanes += report.lanes
            total.kept += report.kept
            total.records += report.records
            total.errors += report.errors
        self._restore_ballast()
        if total.lanes:
            self.on_merged()
        return total

    def _groups(self, sealed: dict[str, Seal]) -> Iterator[list[str]]:
        """Lanes that are merged together: as many as possible, so that each agent's files are opened once."""
        group: list[str] = []
        weight = 0
        for name, seal in sealed.items():
            # No agent can have more slices in a lane than it has slices over its number of agents.
            most = seal.slices - seal.agents + 1
            if group and (weight + most > AGENT_SLICES_MAX or len(group) >= LANES_PER_MERGE_MAX):
                yield group
                group, weight = [], 0
            group.append(name)
            weight += most
        if group:
            yield group

    def _restore_ballast(self) -> None:
        if not self._ballast_bytes or self._storage.identify(self._paths.ballast) is not None:
            return
        if self._storage.free_bytes(self._paths.root) > 4 * self._ballast_bytes:
            self._storage.allocate(self._paths.ballast, self._ballast_bytes)

    def drain(self, committer: Committer | None, *, timeout_s: float) -> DrainReport:
        """Seal and merge every lane there is (DESIGN 5, ``drain``).

        Args:
            committer: this process's, if it writes.
            timeout_s: how long to wait for the merge lock, and then for other processes to seal their lanes.

        Raises:
            LockedError: another merge did not end in time.
        """
        with locked(self._storage, self._paths.lock("merge"), timeout_s=timeout_s):
            return self.drain_locked(committer, timeout_s=timeout_s)

    def drain_locked(self, committer: Committer | None, *, timeout_s: float) -> DrainReport:
        """`drain` for a caller that holds the merge lock."""
        own = None if committer is None else committer.release_lane()
        if own is not None:
            self.retire(own)
        self._seal_own()
        waiting = self._waiting()
        asked = set(waiting.open)
        if asked:
            replace_file(self._storage, self._paths.seal_mark, secrets.token_hex(16).encode() + b"\n")
        deadline = self._clock.monotonic_s() + timeout_s
        while asked.intersection(waiting.open) and self._clock.monotonic_s() < deadline:
            time.sleep(_DRAIN_POLL_S)
            self._seal_own()
            waiting = self._waiting()
        report = self._merge_waiting()
        pending = sorted({*asked.intersection(self._waiting().open), *report.kept})
        return DrainReport(len(report.lanes), report.records, pending)


def _nobody() -> None:
    """Who is told of merges where nobody asked to be."""
