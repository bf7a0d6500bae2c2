"""One agent's share of a merge: its slices to the end of its day files, and the MANIFEST line that makes them so.

Slices that its MANIFEST does not cite yet are copied, sorted in runs of at most 8 MiB. Slices that it cites already
come from a merge that was stopped before its sync: its chunks are written again, the same bytes at the same offsets,
and so is its line.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import secrets
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import orjson

from memstore.clock import Clock
from memstore.codec.checksum import checksum
from memstore.engine.syncing import SyncSet
from memstore.errors import CorruptionError, StorageError
from memstore.format.lane import Seal, Slice
from memstore.format.lines import agent_prefix
from memstore.format.manifest import Block, Chunk, decode_manifest_line, encode_merge
from memstore.format.names import day_file_name
from memstore.fs.storage import Storage, StorageFile
from memstore.fs.verified import read_verified
from memstore.hot.writer import SortedPart, append_parts, cut_blocks, part_of_lines
from memstore.manifest.cache import ManifestCache
from memstore.manifest.reader import Manifest
from memstore.manifest.writer import ManifestWriter, open_manifest
from memstore.metrics import Metrics
from memstore.wal.reader import LaneReader, iterate_footer

_log = logging.getLogger(__name__)
TaggedSlice = tuple[Slice, int]
"""A slice, and the index of the lane that holds it."""


@dataclass(frozen=True, slots=True)
class SealedLane:
    """A lane that takes part in a merge."""

    path: str
    token: str
    file: StorageFile
    seal: Seal
    seal_offset: int

    def slices(self) -> Iterator[Slice]:
        """All of them, sorted by agent, day and offset."""
        return iterate_footer(self.file, self.seal, self.seal_offset)


class DamagedSliceError(Exception):
    """A slice of a lane does not verify: what the lane holds of this agent stays in the lane."""

    def __init__(self, token: str, error: CorruptionError) -> None:
        super().__init__(token)
        self.token = token
        self.error = error


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
    ) -> None:
        self._storage = storage
        self._manifests = manifests
        self._clock = clock
        self._metrics = metrics
        self._lanes = lanes
        self._waiting = waiting
        self._standing = standing
        self._syncs = syncs
        self._run_bytes_max = run_bytes_max

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
        self._check_torn(directory, agent, manifest)
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
                    repeats.setdefault(manifest.merged[token], []).append(item)
                elif token not in skipped:
                    fresh.append(item)
            # First what a crash may have left, so that day files have their committed length again.
            records = sum(self._repeat(job, index, items) for index, items in repeats.items())
            if fresh:
                records += self._copy(job, fresh)
        finally:
            self._syncs.add_file(writer.file)
        return records

    def _check_torn(self, directory: str, agent: str, manifest: Manifest | None) -> None:
        """See that a MANIFEST's end that does not verify may be cut.

        Raises:
            CorruptionError: it cites what is nowhere else.
        """
        torn = self._manifests.torn_tail(directory, manifest)
        if torn is None:
            return
        waiting: dict[str, int] = {}
        for item, _ in self._unmerged(agent, manifest):
            waiting[item.day] = waiting.get(item.day, 0) + item.length
        error = torn.damage(lanes=self._waiting(), waiting_bytes=waiting)
        if error is not None:
            raise error
        for name, (committed, _) in torn.surplus.items():
            file = self._storage.open_read(os.path.join(directory, name))
            try:
                self._check_surplus(file, agent, committed, manifest)
            finally:
                file.close()

    def _check_surplus(self, file: StorageFile, agent: str, committed: int, manifest: Manifest | None) -> None:
        """See that what stands behind the committed length of a day file may be cut.

        A merge that was stopped left it, so every record in it has to be in a lane that still stands.

        Raises:
            CorruptionError: a whole record of the agent is there that no lane has.
        """
        day = os.path.basename(file.path).partition(".")[0]
        prefix = agent_prefix(agent)
        in_lanes: set[str] | None = None
        position = committed
        rest = b""
        while data := file.read(position, self._run_bytes_max):
            position += len(data)
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                if not line.startswith(prefix):
                    continue
                if in_lanes is None:
                    in_lanes = self._line_checksums(agent, day, manifest)
                if checksum(line) not in in_lanes and _is_json(line):
                    raise CorruptionError(
                        file.path,
                        offset_bytes=committed,
                        length_bytes=file.identity().size_bytes - committed,
                        reason="it holds records that neither its MANIFEST nor a lane knows",
                    )

    def _unmerged(self, agent: str, manifest: Manifest | None) -> Iterator[tuple[Slice, StorageFile]]:
        """What all lanes hold of an agent that its MANIFEST does not cite.

        Not the chosen lanes alone: the merge that was stopped may have taken others with them.
        """
        for lane in self._standing():
            if manifest is None or lane.token not in manifest.merged:
                for item in lane.agent_slices(agent).slices:
                    yield item, lane.file

    def _line_checksums(self, agent: str, day: str, manifest: Manifest | None) -> set[str]:
        """Checksums of the lines that lanes hold of one day and that are not merged, those of damaged slices aside."""
        found: set[str] = set()
        for item, file in self._unmerged(agent, manifest):
            if item.day != day:
                continue
            with contextlib.suppress(CorruptionError):
                data = read_verified(
                    file,
                    offset_bytes=item.offset,
                    length_bytes=item.length,
                    xxh3=item.xxh3,
                    records=item.records,
                )
                found.update(checksum(line) for line in data.split(b"\n"))
        return found

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
        for day, of_day in itertools.groupby(sorted(items, key=_merge_order), key=_day):
            known = None if job.manifest is None else job.manifest.day_file(day)
            name, committed = known or (day_file_name(day, 1), 0)
            with self._open(job, name) as file:
                if file.identity().size_bytes > committed:
                    self._check_surplus(file, job.agent, committed, job.manifest)
                _cut_to(file, committed)
                written.append((name, committed))
                blocks: list[Block] = []
                offset = committed
                for run in _runs(of_day, self._run_bytes_max):
                    parts = self._sorted_parts(run, job.prefix_bytes)
                    blocks += append_parts(file, offset=offset, parts=parts, prefix_bytes=job.prefix_bytes)
                    offset += sum(len(part.data) for part in parts)
            chunks.append((name, committed, blocks))
        cited = sorted({self._lanes[index].token for _, index in items})
        line = encode_merge(
            merge_id=secrets.token_hex(8),
            at=self._clock.now_us(),
            lanes=cited,
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
        by_day = {day: list(of_day) for day, of_day in itertools.groupby(sorted(items, key=_merge_order), key=_day)}
        for chunk in line.merge.chunks:
            of_day = by_day.get(chunk.file.partition(".")[0], [])
            with self._open(job, chunk.file) as file:
                try:
                    self._write_again(file, chunk, of_day, job.prefix_bytes, line.merge.run_bytes)
                except DamagedSliceError as damaged:
                    _log.error(
                        "agent %r: a lane is damaged; what was merged from it is kept: %s", job.agent, damaged.error
                    )
                    _write_over_itself(file, chunk)
        job.writer.rewrite(merge.offset, merge.length)
        self._metrics.add("merges_repeated")
        return sum(item.records for item, _ in items)

    def _write_again(
        self, file: StorageFile, chunk: Chunk, items: list[TaggedSlice], prefix_bytes: int, run_bytes: int
    ) -> None:
        """The chunk from the lanes, proved equal to what the MANIFEST says before it is written.

        In the runs of the merge that is repeated: this process may have other settings than the one that was stopped.
        """
        expected = iter(chunk.blocks)
        offset = chunk.offset
        for run in _runs(items, run_bytes):
            parts = self._sorted_parts(run, prefix_bytes)
            for block, data in cut_blocks(parts, prefix_bytes):
                if block != next(expected, None):
                    raise CorruptionError(
                        file.path,
                        offset_bytes=offset,
                        length_bytes=block.length,
                        reason="its lanes disagree with its MANIFEST",
                        records=block.records,
                    )
                file.write(data, offset)
                offset += block.length
        if next(expected, None) is not None:
            raise CorruptionError(
                file.path,
                offset_bytes=offset,
                length_bytes=chunk.offset + chunk.length_bytes - offset,
                reason="its lanes hold less than its MANIFEST says",
            )

    def _sorted_parts(self, run: list[TaggedSlice], prefix_bytes: int) -> list[SortedPart]:
        """The slices of a run as sorted parts: as they are where none overlaps another, else line by line."""
        parts: list[SortedPart] = []
        for item, index in run:
            lane = self._lanes[index]
            try:
                data = read_verified(
                    lane.file, offset_bytes=item.offset, length_bytes=item.length, xxh3=item.xxh3, records=item.records
                )
            except CorruptionError as error:
                raise DamagedSliceError(lane.token, error) from error
            parts.append(SortedPart(data, item.records, item.t_min, item.t_max))
        if all(before.t_max < after.t_min for before, after in itertools.pairwise(parts)):
            return parts
        lines = b"".join([part.data for part in parts]).split(b"\n")
        lines.pop()
        lines.sort()
        return [part_of_lines(lines, prefix_bytes)]


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


def _is_json(line: bytes) -> bool:
    """Whether a line is whole; what a crash tore holds zeros or half of another line."""
    try:
        orjson.loads(line)
    except orjson.JSONDecodeError:
        return False
    return True


def _day(tagged: TaggedSlice) -> str:
    return tagged[0].day


def _merge_order(tagged: TaggedSlice) -> tuple[str, int, int, int, int]:
    """Day, then time, then a total order that recovery finds again: the lanes are sorted by name."""
    item, index = tagged
    return (item.day, item.t_min, item.t_max, index, item.offset)


def _runs(tagged: Iterable[TaggedSlice], bytes_max: int) -> Iterator[list[TaggedSlice]]:
    """Slices of one day in groups of at most ``bytes_max`` (or one slice)."""
    run: list[TaggedSlice] = []
    size = 0
    for item in tagged:
        if run and size + item[0].length > bytes_max:
            yield run
            run, size = [], 0
        run.append(item)
        size += item[0].length
    if run:
        yield run


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


def _write_over_itself(file: StorageFile, chunk: Chunk) -> None:
    """A chunk's own bytes, verified, so that the next sync carries them.

    Raises:
        CorruptionError: a block does not verify.
    """
    offset = chunk.offset
    for block in chunk.blocks:
        data = read_verified(
            file, offset_bytes=offset, length_bytes=block.length, xxh3=block.xxh3, records=block.records
        )
        file.write(data, offset)
        offset += block.length
