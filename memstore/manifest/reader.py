"""An agent's index, as its MANIFEST states it: which block of which file holds what.

Immutable: following a MANIFEST that has grown gives a new `Manifest`, so that a reader never sees half a merge. A
torn last line is ignored (somebody is writing it, or died there); a line that does not verify with a valid one behind
it is damage and is kept as a range, for reads to report.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from memstore.errors import CorruptionError
from memstore.format.manifest import Merge, decode_manifest_line
from memstore.format.names import MANIFEST, parse_day_file_name
from memstore.fs.storage import FileIdentity, Storage, StorageFile

BLOCK_MEMORY_BYTES = 260
"""What one block costs in memory; measured with 60,000 of them."""


class BlockRef(NamedTuple):
    """A block, with its place. Times are microseconds, inclusive; ``merge`` indexes `Manifest.merges`."""

    t_min: int
    t_max: int
    offset: int
    length: int
    records: int
    file: str
    xxh3: str
    merge: int


class MergeRef(NamedTuple):
    """A merge line: where it stands in the MANIFEST, and the tokens of the lanes it copied."""

    id: str
    offset: int
    length: int
    lanes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Manifest:
    """What one agent's MANIFEST says, up to its last whole line.

    Attributes:
        path: the MANIFEST.
        directory: the agent's.
        agent: the true agent id.
        identity: device, inode and size when it was read.
        end: bytes of whole lines; anything behind is torn.
        days: blocks by UTC day, in the order they were appended.
        day_files: committed length by file name.
        merged: lane token to index in ``merges``.
        merges: merge lines in order.
        damaged: ranges that do not verify.
    """

    path: str
    directory: str
    agent: str
    identity: FileIdentity
    end: int
    days: Mapping[str, tuple[BlockRef, ...]] = field(default_factory=dict)
    day_files: Mapping[str, int] = field(default_factory=dict)
    merged: Mapping[str, int] = field(default_factory=dict)
    merges: tuple[MergeRef, ...] = ()
    damaged: tuple[tuple[int, int], ...] = ()

    def stands_at(self, identity: FileIdentity) -> bool:
        """Whether the MANIFEST still says this, by what stands at its path.

        Not where its end was torn: that may have been cut and something else of the same length written in its place.
        """
        return identity == self.identity and self.end == identity.size_bytes

    @property
    def memory_bytes(self) -> int:
        """Estimate of what it costs in memory."""
        blocks = sum(len(refs) for refs in self.days.values())
        return 1000 + blocks * BLOCK_MEMORY_BYTES + len(self.merged) * 150 + len(self.merges) * 200

    def day_file(self, day: str) -> tuple[str, int] | None:
        """Name and committed length of the day's hot file, or None where it has none."""
        found: tuple[int, str] | None = None
        for name in self.day_files:
            parsed = parse_day_file_name(name)
            if parsed is not None and parsed[0] == day and (found is None or parsed[1] > found[0]):
                found = (parsed[1], name)
        return None if found is None else (found[1], self.day_files[found[1]])

    def records(self) -> int:
        """Records in its files."""
        return sum(ref.records for refs in self.days.values() for ref in refs)

    def damage(self) -> CorruptionError | None:
        """The first damaged range as an error, or None."""
        if not self.damaged:
            return None
        offset, length = self.damaged[0]
        return CorruptionError(
            self.path, offset_bytes=offset, length_bytes=length, reason=f"{len(self.damaged)} line(s) do not verify"
        )


def load_manifest(storage: Storage, directory: str, known: Manifest | None = None) -> Manifest | None:
    """Read an agent's MANIFEST, or only what was added since ``known``.

    Returns:
        None where there is no MANIFEST or not even its first line is whole.

    Raises:
        VersionError: written by a newer format.
        StorageError: a line verifies but is of no known kind.
    """
    path = os.path.join(directory, MANIFEST)
    identity = storage.identify(path)
    if identity is None:
        return None
    if known is not None and known.stands_at(identity):
        return known
    try:
        file = storage.open_read(path)
    except FileNotFoundError:
        return None
    try:
        return _read(file, path, known)
    finally:
        file.close()


def _read(file: StorageFile, path: str, known: Manifest | None) -> Manifest | None:
    identity = file.identity()
    if known is not None and not _continues(known.identity, identity, known.end):
        known = None
    start = 0 if known is None else known.end
    data = file.read(start, identity.size_bytes - start)
    lines = data.split(b"\n")[:-1]  # what follows the last line break is torn
    decoded = [decode_manifest_line(line, path) for line in lines]
    while decoded and decoded[-1] is None:
        decoded.pop()
    if known is None:
        if not decoded:
            return None
        header = None if decoded[0] is None else decoded[0].manifest
        if header is None:
            raise CorruptionError(
                path, offset_bytes=0, length_bytes=len(lines[0]), reason="the first line does not verify"
            )
        known = Manifest(path, os.path.dirname(path), header.agent, identity, 0)
    growing = _Growing(known)
    position = start
    for raw, line in zip(lines, decoded, strict=False):
        length = len(raw) + 1
        if line is None:
            growing.damaged.append((position, length))
        elif line.merge is not None:
            growing.add_merge(line.merge, position, length)
        position += length
    return growing.manifest(identity, position)


def _continues(before: FileIdentity, now: FileIdentity, end: int) -> bool:
    """Whether it is the same file, not cut since."""
    return (before.device, before.inode) == (now.device, now.inode) and now.size_bytes >= end


class _Growing:
    """A MANIFEST that lines are added to; shares nothing mutable with the one it began from."""

    def __init__(self, known: Manifest) -> None:
        self._known = known
        self._day_files = dict(known.day_files)
        self._merged = dict(known.merged)
        self._merges = list(known.merges)
        self._ids = {merge.id for merge in known.merges}
        self._blocks: dict[str, list[BlockRef]] = {}
        self.damaged = list(known.damaged)

    def add_merge(self, merge: Merge, position: int, length: int) -> None:
        """One merge line; a repeated one (same id) says nothing new."""
        if merge.id in self._ids:
            return
        self._ids.add(merge.id)
        index = len(self._merges)
        self._merges.append(MergeRef(merge.id, position, length, tuple(merge.lanes)))
        self._merged.update(dict.fromkeys(merge.lanes, index))
        for chunk in merge.chunks:
            parsed = parse_day_file_name(chunk.file)
            if parsed is None:
                raise CorruptionError(
                    self._known.path,
                    offset_bytes=position,
                    length_bytes=length,
                    reason=f"{chunk.file!r} is no day file's name",
                )
            refs = self._blocks.setdefault(parsed[0], [])
            offset = chunk.offset
            for block in chunk.blocks:
                refs.append(
                    BlockRef(
                        t_min=block.t_min,
                        t_max=block.t_max,
                        offset=offset,
                        length=block.length,
                        records=block.records,
                        file=chunk.file,
                        xxh3=block.xxh3,
                        merge=index,
                    )
                )
                offset += block.length
            self._day_files[chunk.file] = max(self._day_files.get(chunk.file, 0), offset)

    def manifest(self, identity: FileIdentity, end: int) -> Manifest:
        """What it says now."""
        days = dict(self._known.days)
        for day, refs in self._blocks.items():
            days[day] = (*days.get(day, ()), *refs)
        return Manifest(
            path=self._known.path,
            directory=self._known.directory,
            agent=self._known.agent,
            identity=identity,
            end=end,
            days=days,
            day_files=self._day_files,
            merged=self._merged,
            merges=tuple(self._merges),
            damaged=tuple(self.damaged),
        )
