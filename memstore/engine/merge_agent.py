"""One agent's share of a merge: its slices to the end of its day files, and the MANIFEST line that makes them so.

Slices that its MANIFEST does not cite yet are copied, sorted in runs of at most 8 MiB. Slices that it cites already
come from a merge that was stopped before its sync: its chunks are written again, the same bytes at the same offsets,
and so is its line.
"""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from memstore.clock import Clock
from memstore.engine.leftovers import Leftovers
from memstore.engine.merge_repeat import repeat_chunks
from memstore.engine.merge_source import SealedLane, TaggedSlice, by_day, runs, sorted_parts
from memstore.engine.syncing import SyncSet
from memstore.errors import CorruptionError, StorageError
from memstore.format.lines import agent_prefix
from memstore.format.manifest import Block, decode_manifest_line, encode_merge
from memstore.format.names import day_file_name
from memstore.fs.storage import Storage, StorageFile
from memstore.hot.writer import append_parts
from memstore.manifest.cache import ManifestCache
from memstore.manifest.index import SETTLED, Manifest
from memstore.manifest.writer import ManifestWriter, open_manifest
from memstore.metrics import Metrics
from memstore.wal.reader import LaneReader

_log = logging.getLogger(__name__)


class MissingLaneError(Exception):
    """A merge that must be repeated cites a lane that was not chosen."""

    def __init__(self, token: str) -> None:
        super().__init__(token)
        self.token = token


class AgentMerge:
    """Merges one agent after the other from the same lanes. Used by one thread, under the merge lock.

    Args:
        storage: where everything lies.
        manifests: MANIFESTs, as they stand.
        clock: stamps MANIFEST lines.
        metrics: counters.
        lanes: those that are merged, sorted by name: an order that recovery finds again.
        waiting: tokens of all lanes that are not merged yet, asked for when a merge is to be repeated.
        standing: every lane there is, chosen or not, asked for when a merge that was stopped has left something.
        syncs: told of every file that is written.
        run_bytes_max: how much is sorted at a time.
        after_us: when an erasure began that was interrupted: what is merged since came after it, whatever the clock
            says by now.
    """

    def __init__(
        self,
        storage: Storage,
        *,
        manifests: ManifestCache,
        clock: Clock,
        metrics: Metrics,
        lanes: list[SealedLane],
        waiting: Callable[[], set[str]],
        standing: Callable[[], list[LaneReader]],
        syncs: SyncSet,
        run_bytes_max: int,
        after_us: int,
    ) -> None:
        self._storage = storage
        self._manifests = manifests
        self._clock = clock
        self._metrics = metrics
        self._lanes = lanes
        self._waiting = waiting
        self._leftovers = Leftovers(storage, manifests=manifests, waiting=waiting, standing=standing)
        self._syncs = syncs
        self._run_bytes_max = run_bytes_max
        self._after_us = after_us

    def merge(self, directory: str, agent: str, tagged: list[TaggedSlice], skipped: set[str]) -> int:
        """Copy what is not merged yet, repeat what may not have been synced; how many records that were.

        Args:
            directory: the agent's; the lock of its shard is held.
            agent: whose slices.
            tagged: all of its slices in the lanes.
            skipped: tokens of lanes in which a slice of the agent is damaged; they are left as they are.

        Raises:
            DamagedSliceError: a slice does not verify; nothing of the agent was merged, call again with its lane
                skipped.
            MissingLaneError: a lane that must take part does not.
            CorruptionError: the agent's MANIFEST or a day file is damaged.
        """
        manifest = self._manifests.get(directory)
        self._leftovers.check_manifest(directory, agent, manifest)
        writer = open_manifest(
            self._storage, directory, agent, known=manifest, at_us=self._clock.now_us(), on_torn=self._on_torn
        )
        # Always, not only when they are new: a merge that was killed may have made them and never synced them.
        self._syncs.add_directory(directory)
        self._syncs.add_directory(os.path.dirname(directory))
        job = _Job(directory, agent, manifest, writer)
        try:
            fresh: list[TaggedSlice] = []
            repeats: dict[int, list[TaggedSlice]] = {}
            for item in tagged:
                token = self._lanes[item[1]].token
                if manifest is not None and token in manifest.merged:
                    if manifest.merged[token] != SETTLED:
                        repeats.setdefault(manifest.merged[token], []).append(item)
                elif token not in skipped:
                    fresh.append(item)
            # First what a crash may have left, so that day files have their committed length again.
            records = sum(self._repeat(job, index, items) for index, items in repeats.items())
            if fresh:
                if repeats:
                    # A line is written only behind lines that are durable: one that is whole behind one that a power
                    # cut has torn would look like damage.
                    writer.file.sync_data()
                records += self._copy(job, fresh)
        finally:
            self._syncs.add_file(writer.file)
        return records

    @contextlib.contextmanager
    def _open(self, job: _Job, name: str) -> Iterator[StorageFile]:
        """A day file for writing; then it is the `SyncSet`'s, so that many days do not mean many open files."""
        file = self._storage.open_write(os.path.join(job.directory, name))
        try:
            yield file
        finally:
            self._syncs.add_file(file)

    def _on_torn(self, path: str, length: int) -> None:
        _log.warning("%s: cutting a torn tail of %d bytes", path, length)
        self._metrics.add("torn_manifests")

    def _copy(self, job: _Job, items: list[TaggedSlice]) -> int:
        """Append slices that are not merged yet, then the MANIFEST line that makes them so."""
        written: list[tuple[str, int]] = []
        try:
            return self._append(job, items, written)
        except BaseException:
            # A disk that is full needs the space, and the next merge need not ask where these bytes come from.
            for name, committed in written:
                with contextlib.suppress(StorageError), self._open(job, name) as file:
                    file.truncate(committed)
            raise

    def _append(self, job: _Job, items: list[TaggedSlice], written: list[tuple[str, int]]) -> int:
        chunks: list[tuple[str, int, list[Block]]] = []
        for day, of_day in by_day(items):
            known = None if job.manifest is None else job.manifest.day_file(day)
            version = 1 if job.manifest is None else job.manifest.next_version
            name, committed = known or (day_file_name(day, version), 0)
            with self._open(job, name) as file:
                if file.identity().size_bytes > committed:
                    self._leftovers.check_day_file(file, job.agent, committed, job.manifest)
                _cut_to(file, committed)
                written.append((name, committed))
                blocks: list[Block] = []
                offset = committed
                for run in runs(of_day, self._run_bytes_max):
                    parts = sorted_parts(self._lanes, run, job.prefix_bytes)
                    blocks += append_parts(file, offset=offset, parts=parts, prefix_bytes=job.prefix_bytes)
                    offset += sum(len(part.data) for part in parts)
            chunks.append((name, committed, blocks))
        cited = [self._lanes[index] for index in {index for _, index in items}]
        line = encode_merge(
            merge_id=secrets.token_hex(8),
            # Periods are counted from here too. By a clock that was set back meanwhile they would end too soon.
            at=max([self._clock.now_us(), self._after_us + 1, *(lane.seal.at for lane in cited)]),
            lanes=sorted(lane.token for lane in cited),
            chunks=chunks,
            run_bytes=self._run_bytes_max,
        )
        job.writer.append(line)
        return sum(item.records for item, _ in items)

    def _repeat(self, job: _Job, index: int, items: list[TaggedSlice]) -> int:
        """Write the chunks of a merge again, and its line: they may not have reached the disk."""
        assert job.manifest is not None
        merge = job.manifest.merges[index]
        absent = set(merge.lanes) - {self._lanes[lane].token for _, lane in items}
        if absent:
            needed = absent & self._waiting()
            if needed:
                raise MissingLaneError(needed.pop())
            return 0  # a lane goes only when all is synced, so this merge was
        line = decode_manifest_line(job.writer.file.read(merge.offset, merge.length - 1), job.manifest.path)
        assert line is not None
        assert line.merge is not None
        repeat_chunks(
            line.merge,
            items,
            self._lanes,
            open_day_file=lambda name: self._open(job, name),
            prefix_bytes=job.prefix_bytes,
        )
        job.writer.rewrite(merge.offset, merge.length)
        self._metrics.add("merges_repeated")
        return sum(item.records for item, _ in items)


@dataclass(frozen=True, slots=True)
class _Job:
    """One agent's merge: where it lies, and its MANIFEST."""

    directory: str
    agent: str
    manifest: Manifest | None
    writer: ManifestWriter

    @property
    def prefix_bytes(self) -> int:
        """Length of what every line of the agent starts with."""
        return len(agent_prefix(self.agent))


def _cut_to(file: StorageFile, committed: int) -> None:
    """Cut what a crash left behind the committed length."""
    size = file.identity().size_bytes
    if size < committed:
        raise CorruptionError(
            file.path,
            offset_bytes=size,
            length_bytes=committed - size,
            reason="the file is shorter than its MANIFEST says",
        )
    if size > committed:
        file.truncate(committed)
