"""Sealed lanes into day files: many lanes at once, agent by agent, as bytes.

The store-wide merge lock is held from choosing the lanes until they are unlinked and ``lanes/`` is synced. For each
agent, under its shard's lock, its slices are sorted in runs of at most 8 MiB, copied to the end of its day files, and
one MANIFEST line covers all of its days. Nothing is believed before one sync has covered everything; only then are
the lanes unlinked (DESIGN 5.4).

Recovery is redo (DESIGN 5.6). While a lane that a MANIFEST line cites still exists, that line's chunks are written
again from the lanes, the same bytes at the same offsets, and so is the line: what the page cache says after a crash
is not believed. So a merge that was stopped at any instruction is repeated by simply merging again.
"""

from __future__ import annotations

import heapq
import itertools
import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass, field

from memstore.clock import Clock
from memstore.engine.catalog import Catalog, check_shard_is_there
from memstore.engine.consumers import Consumers
from memstore.engine.forgotten import Forgotten
from memstore.engine.home import home_for_writing
from memstore.engine.lane_set import LaneSet
from memstore.engine.merge_agent import AgentMerge, MissingLaneError
from memstore.engine.merge_source import DamagedSliceError, SealedLane, TaggedSlice
from memstore.engine.syncing import SyncSet
from memstore.errors import CorruptionError, MemstoreError, StorageError, StorageFullError
from memstore.format.names import KEPT_SUFFIX, LANE_SUFFIX, StorePaths, lane_token
from memstore.fs.storage import Storage
from memstore.manifest.cache import ManifestCache
from memstore.metrics import Metrics
from memstore.wal.seal import read_seal

_log = logging.getLogger(__name__)
RESERVE_BYTES = 8 * 1024 * 1024
"""Free space a merge leaves for the appenders."""
_AGENT_OVERHEAD_BYTES = 2 * 4096
"""What a new day file and a new MANIFEST cost beside their content: a block of the file system each."""


@dataclass(slots=True)
class MergeReport:
    """What a merge did.

    Attributes:
        lanes: names of lanes that are merged and gone, or wait for a consumer only.
        kept: names of lanes that are merged but for damaged parts and stay.
        agents: how many agents were written to.
        records: how many records were copied (repeated ones included).
        errors: agents that could not be merged, and why; their lanes stay.
    """

    lanes: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    agents: int = 0
    records: int = 0
    errors: list[tuple[str, MemstoreError]] = field(default_factory=list)


class Merger:
    """Performs merges. The caller holds the merge lock; used by one thread at a time."""

    def __init__(
        self,
        storage: Storage,
        paths: StorePaths,
        *,
        clock: Clock,
        catalog: Catalog,
        manifests: ManifestCache,
        lanes: LaneSet,
        consumers: Consumers,
        forgotten: Forgotten,
        metrics: Metrics,
        run_bytes_max: int,
        file_syncs_max: int,
    ) -> None:
        self._storage = storage
        self._paths = paths
        self._consumers = consumers
        self._forgotten = forgotten
        self._clock = clock
        self._catalog = catalog
        self._manifests = manifests
        self._lanes = lanes
        self._metrics = metrics
        self._run_bytes_max = run_bytes_max
        self._file_syncs_max = file_syncs_max

    def merge(self, names: list[str]) -> MergeReport:
        """Merge these sealed lanes; those that are not sealed are left alone.

        Raises:
            StorageFullError: not enough room to finish; nothing was begun.
            StorageError: the disk failed; the lanes stay, and the next merge does it again.
        """
        chosen = set(names)
        while True:
            lanes = [lane for name in sorted(chosen) if (lane := self._open(name)) is not None]
            try:
                return self._merge_lanes(lanes) if lanes else MergeReport()
            except MissingLaneError as missing:
                _log.info("a merge that was interrupted is repeated with one lane more: %s", missing.token)
                added = {
                    name
                    for name in self._lanes.names()
                    if lane_token(name) == missing.token and name.endswith(LANE_SUFFIX)
                } - chosen
                if not added:
                    raise StorageError(
                        f"{self._paths.lanes}: lane {missing.token} is part of a merge that was interrupted and cannot "
                        "be read: its last line does not verify. Nothing is lost: the lanes stay, and reads go on"
                    ) from missing
                chosen |= added
            finally:
                for lane in lanes:
                    lane.file.close()

    def _merge_lanes(self, lanes: list[SealedLane]) -> MergeReport:
        report = MergeReport()
        roots = list(self._catalog.reload().shard_paths.values())
        for root in roots:
            check_shard_is_there(self._storage, root)
        self._ask_for_room(lanes, roots)
        faulty = {lane.token for lane in lanes if lane.seal.damaged}
        syncs = SyncSet(self._storage, roots, file_syncs_max=self._file_syncs_max)
        merge = AgentMerge(
            self._storage,
            manifests=self._manifests,
            clock=self._clock,
            metrics=self._metrics,
            lanes=lanes,
            waiting=self._lanes.waiting,
            standing=self._lanes.refresh,
            syncs=syncs,
            run_bytes_max=self._run_bytes_max,
            after_us=max(self._forgotten.unfinished().values(), default=0),
        )
        try:
            everything = heapq.merge(*(_tagged(index, lane) for index, lane in enumerate(lanes)))
            for agent, group in itertools.groupby(everything, key=_agent):
                slices = list(group)
                try:
                    report.records += self._merge_agent(merge, agent, slices, faulty)
                    report.agents += 1
                except CorruptionError as error:
                    # The agent's index or files are damaged: its lanes wait for repair, everybody else's go on.
                    _log.error("agent %r cannot be merged: %s", agent, error)
                    report.errors.append((agent, error))
                    faulty.update(lanes[index].token for _, index in slices)
            syncs.sync()
        finally:
            syncs.close()
        for lane in lanes:
            name = os.path.basename(lane.path)
            if lane.token in faulty:
                self._storage.rename(lane.path, lane.path.removesuffix(LANE_SUFFIX) + KEPT_SUFFIX)
                report.kept.append(name)
            else:
                self._consumers.settle(lane.path, lane.token, lane.seal.footer)
                report.lanes.append(name)
        self._storage.sync_directory(self._paths.lanes)
        self._consumers.keep_bound()
        self._metrics.add("merges")
        self._metrics.add("lanes_merged", len(report.lanes))
        self._metrics.add("lanes_kept", len(report.kept))
        self._metrics.add("records_merged", report.records)
        return report

    def _open(self, name: str) -> SealedLane | None:
        path = os.path.join(self._paths.lanes, name)
        file = self._storage.open_read(path)
        sealed = read_seal(file, file.identity().size_bytes)
        if sealed is None:
            file.close()
            return None
        return SealedLane(path, lane_token(name), file, *sealed)

    def _ask_for_room(self, lanes: list[SealedLane], roots: list[str]) -> None:
        """Start only with room to finish; the ballast is given up for it."""
        need = RESERVE_BYTES + sum(lane.seal.footer + lane.seal.agents * _AGENT_OVERHEAD_BYTES for lane in lanes)
        free = min(self._storage.free_bytes(root) for root in roots)
        if free >= need:
            return
        ballast = self._storage.identify(self._paths.ballast)
        if ballast is not None and free + ballast.size_bytes >= need:
            _log.warning(
                "%s: the disk is nearly full; giving up the ballast to make room for a merge", self._paths.ballast
            )
            self._storage.unlink(self._paths.ballast)
            return
        raise StorageFullError(
            f"{self._paths.root}: a merge needs {need} bytes and {free} are free; free some space. "
            "Nothing is lost: the lanes stay"
        )

    def _merge_agent(self, merge: AgentMerge, agent: str, tagged: list[TaggedSlice], faulty: set[str]) -> int:
        with home_for_writing(self._storage, self._catalog, agent) as directory:
            skipped: set[str] = set()
            while True:
                try:
                    return merge.merge(directory, agent, tagged, skipped)
                except DamagedSliceError as damaged:
                    _log.error("agent %r: a lane is damaged and is kept: %s", agent, damaged.error)
                    self._metrics.add("damaged_slices")
                    skipped.add(damaged.token)
                    faulty.add(damaged.token)


def _tagged(index: int, lane: SealedLane) -> Iterator[TaggedSlice]:
    return ((item, index) for item in lane.slices())


def _agent(tagged: TaggedSlice) -> str:
    return tagged[0].agent
