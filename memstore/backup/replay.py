"""The commits between a point and a moment: from the archived lanes into lanes of the restored store.

A lane is archived with each point that finds it, longer each time. What the point that is restored has of it already
says that point's list; the rest is written as a lane of its own, commit by commit as it was, so that whoever opens the
store finds what a crash at that moment would have left.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field

import orjson

from memstore.backup.gone import Gone
from memstore.backup.repository import Repository
from memstore.codec.checksum import checksum
from memstore.errors import CorruptionError
from memstore.format.backup_file import ArchivedLane, BackupHead, Gap
from memstore.format.backup_names import point_time
from memstore.format.forgotten import text_hash
from memstore.format.lane import Slice, encode_commit, encode_header
from memstore.format.lines import agent_prefix, lines_span_us, split_lines
from memstore.format.names import lane_name, lane_token
from memstore.fs.parts import checksum_of
from memstore.fs.storage import Storage, StorageFile
from memstore.wal.scan import ScannedCommit, scan_lane
from memstore.wal.seal import read_header

_ID_START = len(b'{"memory_id":"')


@dataclass(slots=True)
class Between:
    """What the archive has between a point and a moment.

    Attributes:
        lanes: path and entry of the longest copy of each lane.
        gaps: what it lacks.
        reached: up to which moment it goes; before the one that was asked for where that is behind the newest point.
    """

    lanes: list[tuple[str, ArchivedLane]] = field(default_factory=list)
    gaps: list[Gap] = field(default_factory=list)
    reached: int = 0


def lanes_between(repository: Repository, base: str, head: BackupHead, at_us: int) -> Between:
    """Find the lanes that were written to after a point, and up to a moment.

    Args:
        repository: where the lanes are.
        base: name of the point.
        head: of its list.
        at_us: the moment.

    Raises:
        CorruptionError: a list of lanes does not verify.
    """
    found = Between(reached=head.at)
    best: dict[str, tuple[str, ArchivedLane]] = {}
    followed = base
    for name in repository.lanes_points():
        if name <= base or found.reached >= at_us:
            continue
        listed = repository.read_lanes(name)
        if listed.previous is None or listed.previous > followed:
            found.gaps.append(Gap(until=listed.at, months=[]))  # lanes in between were pruned
        if listed.gap is not None:
            found.gaps.append(listed.gap)
        for lane in listed.lanes:
            token = lane_token(lane.file)
            known = best.get(token)
            if lane.end > head.lanes.get(token, 0) and (known is None or lane.end > known[1].end):
                best[token] = (os.path.join(repository.paths.lanes_of(name), lane.file), lane)
        followed, found.reached = name, point_time(name) or listed.at
    found.reached = min(found.reached, at_us) if found.reached > head.at else head.at
    found.lanes = [best[token] for token in sorted(best)]
    return found


class LaneReplay:
    """Writes lanes of one restored store.

    Args:
        storage: where everything lies.
        lanes: the ``lanes/`` of the restored store.
        head: of the point that it was restored from.
        at_us: leave out commits behind this time.
        gone: what must not come back.
        agents: take slices of these only; None: of all.
    """

    def __init__(
        self,
        storage: Storage,
        lanes: str,
        head: BackupHead,
        *,
        at_us: int,
        gone: Gone,
        agents: Collection[str] | None,
    ) -> None:
        self._storage = storage
        self._lanes = lanes
        self._head = head
        self._at_us = at_us
        self._gone = gone
        self._agents = agents
        self.records = 0
        self.writers: set[int] = set()

    def replay(self, path: str, lane: ArchivedLane) -> bool:
        """Write what a point does not have of an archived lane; whether there was any.

        Raises:
            CorruptionError: the archived lane is not what was archived.
        """
        file = self._proved(path, lane)
        try:
            header, start = read_header(file)
            self.writers.add(header.writer)
            begin = max(start, self._head.lanes.get(lane_token(lane.file), 0))
            target: StorageFile | None = None
            position = 0
            for data, records in self._commits(file, begin, lane.end):
                if target is None:
                    name = lane_name(header.writer, secrets.token_hex(16))
                    target = self._storage.create(os.path.join(self._lanes, name))
                    first = encode_header(
                        store=header.store, writer=header.writer, at=header.at, durability=header.durability
                    )
                    target.write(first, 0)
                    position = len(first)
                target.write(data, position)
                position += len(data)
                self.records += records
            if target is not None:
                target.close()
            return target is not None
        finally:
            file.close()

    def _proved(self, path: str, lane: ArchivedLane) -> StorageFile:
        try:
            file = self._storage.open_read(path)
        except FileNotFoundError:
            raise CorruptionError(
                path, offset_bytes=0, length_bytes=0, reason="it is missing from the backup"
            ) from None
        size, xxh3 = checksum_of(file)
        if size != lane.size or xxh3 != lane.xxh3:
            file.close()
            raise CorruptionError(path, offset_bytes=0, length_bytes=size, reason="it is not what was archived")
        return file

    def _commits(self, file: StorageFile, begin: int, end: int) -> Iterator[tuple[bytes, int]]:
        """Bytes and records of each commit that is to come back."""
        for item in scan_lane(file, start=begin, size=end):
            if not isinstance(item, ScannedCommit) or item.commit.at > self._at_us:
                continue
            if not any(self._is_touched(each.agent) for each in item.commit.slices):
                data = file.read(item.offset, item.end - item.offset)
                yield data, sum(each.records for each in item.commit.slices)
                continue
            slices = [kept for each in item.slices() if (kept := self._kept(file, each, item.commit.at)) is not None]
            if slices:
                yield _commit_of(item.commit.at, slices), sum(kept.records for kept, _ in slices)

    def _is_touched(self, agent: str) -> bool:
        return (self._agents is not None and agent not in self._agents) or bool(self._gone.erased_from(agent))

    def _kept(self, file: StorageFile, item: Slice, at_us: int) -> tuple[Slice, bytes] | None:
        """A slice without what was erased, and its bytes; None where nothing is left."""
        if self._agents is not None and item.agent not in self._agents:
            return None
        data = file.read(item.offset, item.length)
        erased: set[str] = set()
        for erasure in self._gone.erased_from(item.agent):
            if not erasure.ids and at_us <= erasure.at:
                return None
            erased.update(erasure.ids)
        if not erased:
            return item, data
        lines = [line for line in split_lines(data) if text_hash(_memory_id(line)) not in erased]
        if not lines:
            return None
        left = b"".join(lines)
        t_min, t_max = lines_span_us(lines, len(agent_prefix(item.agent)))
        kept = item._replace(length=len(left), records=len(lines), t_min=t_min, t_max=t_max, xxh3=checksum(left))
        return kept, left


def _memory_id(line: bytes) -> str:
    text: str = orjson.loads(line[_ID_START - 1 : line.index(b'","timestamp_utc"', _ID_START) + 1])
    return text


def _commit_of(at_us: int, slices: list[tuple[Slice, bytes]]) -> bytes:
    body: list[bytes] = []
    placed: list[Slice] = []
    offset = 0
    for item, data in slices:
        placed.append(item._replace(offset=offset))
        body.append(data)
        offset += len(data)
    return encode_commit(at=at_us, body_bytes=offset, slices=placed) + b"".join(body)
