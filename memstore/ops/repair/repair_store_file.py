"""STORE.json anew, as far as the directories, the lanes and the records tell; refused where they cannot.

What has to be right: where each agent lies, and that no writer number is given out twice. Agents are left where they
are found: the ring of all shards says where they belong, and those that lie elsewhere are pinned. The next writer
number is above every one that a lane's name or a record's id shows. A shard on another volume leaves no trace below
the root but a gap in the numbers: then the volume has to be named.
"""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import msgspec

from memstore.clock import Clock
from memstore.codec.zstd import any_frame_end, is_skippable, unpack_parts
from memstore.errors import CorruptionError, MemstoreError, StorageError, UsageError
from memstore.format.checked import states_the_same
from memstore.format.lines import agent_prefix
from memstore.format.names import StorePaths, is_lane_name, parse_day_file_name, shard_name, tier_of
from memstore.format.store_file import (
    Placement,
    ReplicaEntry,
    ShardEntry,
    StoreFile,
    decode_store_file,
    encode_store_file,
)
from memstore.fs.atomic import read_file, replace_file
from memstore.fs.lock import locked
from memstore.fs.parts import parts_of
from memstore.fs.storage import Storage
from memstore.ids import ID_TAIL_CHARS, WRITER_NUMBER_MAX, directory_agent
from memstore.lifecycle.needles import line_id
from memstore.manifest.reader import load_manifest
from memstore.ops.layout import Layout, entries_of
from memstore.ops.repair.bit_search import find_flip_in_line
from memstore.ops.repair.good_copies import OrderedCopies, file_of_root
from memstore.ops.repair.quarantine import Quarantine
from memstore.ops.repair.repair_step import CopiedRange, RepairStep
from memstore.ring import build_ring
from memstore.wal.seal import read_header

WRITERS_SKIPPED = 1000
"""Numbers of processes that took one and left no trace of it."""
_MINTED_ID = re.compile(rb'\{"memory_id":"(?:[^"\\\n]|\\.){1,1300}?_\d{8}_\d{6}_\d{6}([0-7][0-9a-f]{7})[0-9a-f]{8}"')
"""A minted id at the beginning of a line; the group is its writer number."""
_ID_OVERLAP_BYTES = 2048
_PROBE_BYTES = 16
_VOLUME = re.compile(r"memstore-([0-9a-f]{32})")
_SHARD = re.compile(r"shard_(\d{3,})")


@dataclass(frozen=True, slots=True)
class StoreFilePlan:
    """What STORE.json is to say; None: it cannot be known."""

    content: StoreFile | None
    step: RepairStep


class StoreFileRepair:
    """Plans and carries out. Used by one thread.

    Args:
        storage: where the store lies.
        paths: its root.
        clock: when it was made.
        copies: where a good copy may be had.
        volumes: other volumes on which shards and an archive may lie.
    """

    def __init__(
        self, storage: Storage, paths: StorePaths, *, clock: Clock, copies: OrderedCopies, volumes: Sequence[str] = ()
    ) -> None:
        self._storage = storage
        self._paths = paths
        self._clock = clock
        self._copies = copies
        # What it lacks since STORE.json was damaged nobody knows: it joins again.
        why = "STORE.json was written anew"
        root, now_us = copies.second_copy, clock.now_us()
        self._replica = None if root is None else ReplicaEntry(path=root, state="behind", since=now_us, why=why)
        self._volumes = [os.path.abspath(volume) for volume in volumes]
        for volume in self._volumes:
            if storage.identify(volume) is None:
                raise UsageError(f"{volume} is not there; --volume takes a directory in which memstore-<id> lies")

    def plan(self, layout: Layout) -> StoreFilePlan:
        """What can be known; nothing is changed.

        Raises:
            StorageError: the disk refuses.
        """
        path = self._paths.store_file
        mended = self._mended(layout)
        if mended is not None:
            content, how, source = mended
            copied = (CopiedRange(0, len(encode_store_file(content)), source),) if source else ()
            sentence = f"Write {path} again as it was: {how}."
            return StoreFilePlan(content, RepairStep("write_store_file", path, sentence, copied=copied))
        shards = self._shards(layout)
        gaps = sorted(set(range(max(shards, default=0) + 1)) - shards.keys())
        if not shards or gaps:
            what = ", ".join(f"shard_{index:03d}" for index in gaps) or "any shard"
            return StoreFilePlan(
                None,
                RepairStep(
                    "withheld",
                    path,
                    f"{path} cannot be written anew: {what} is nowhere below {self._paths.root}. If it lies on another "
                    "volume, name that with --volume DIR; or restore STORE.json from a backup with --from DIR.",
                ),
            )
        content = self._from_directories(shards)
        pinned = len(content.placement.pins)
        sentence = (
            f"Write {path} anew from {len(shards)} shard(s), with {pinned} agent(s) pinned to where they lie and "
            f"writer numbers from {content.next_writer} on. A shard on another volume with a higher number than these "
            "would be missed: name its volume with --volume DIR."
        )
        return StoreFilePlan(content, RepairStep("write_store_file", path, sentence))

    def carry_out(self, plan: StoreFilePlan, quarantine: Quarantine) -> None:
        """Write it.

        Raises:
            StorageError: the disk refuses; the old one stands.
        """
        assert plan.content is not None
        with locked(self._storage, self._paths.lock("store")):
            quarantine.copy(self._paths.store_file, why="it was missing or did not verify, and was written anew")
            replace_file(self._storage, self._paths.store_file, encode_store_file(plan.content))

    # -- as it was

    def _mended(self, layout: Layout) -> tuple[StoreFile, str, str] | None:
        """What it said, how that is known, and which source had it: none, where one bit is put right."""
        path = self._paths.store_file
        data = (read_file(self._storage, path) or b"").rstrip(b"\n")
        whole = find_flip_in_line(data)
        if whole is not None:
            return decode_store_file(whole, path), "one bit had flipped", ""
        ids = {each for each in self._store_ids() if each}
        for copied in self._copies.of(file_of_root(self._paths, path)):
            line = copied.read_all()
            try:
                known = decode_store_file(line, copied.path)
            except CorruptionError:
                continue
            if known.copy_of is not None or (ids and known.id not in ids):
                continue  # a second copy places its agents by itself; or it is the copy of another store
            if states_the_same(data, line.rstrip(b"\n")):
                return known, f"{copied.source} has what its checksum asks for", copied.source
            content = self._placed(known, layout)
            if content is not None:
                how = f"as {copied.source} has it, with writer numbers from {content.next_writer} on"
                return content, how, copied.source
        return None

    def _placed(self, known: StoreFile, layout: Layout) -> StoreFile | None:
        """What an older STORE.json says, of the shards that there are; None where it does not know all of them."""
        shards = self._shards(layout)
        if shards.keys() != {shard.index for shard in known.shards}:
            return None
        return msgspec.structs.replace(
            known,
            next_writer=max(known.next_writer, self._next_writer()),
            epoch=known.epoch + 1,
            shards=self._entries(shards),
            archive=known.archive or self._archive(),
            replica=known.replica or self._replica,
        )

    # -- from what there is

    def _shards(self, layout: Layout) -> dict[int, str]:
        """Directory of each shard that can be found, by its index."""
        found = dict(layout.shards)
        for _, path in self._on_volumes():
            for entry in entries_of(self._storage, path):
                match = _SHARD.fullmatch(entry.name)
                if match is not None and entry.is_directory:
                    found.setdefault(int(match[1]), os.path.join(path, entry.name))
        return found

    def _on_volumes(self) -> Iterator[tuple[str, str]]:
        """Id and directory of what stores have on the other volumes."""
        for volume in self._volumes:
            for entry in entries_of(self._storage, volume):
                match = _VOLUME.fullmatch(entry.name)
                if match is not None:
                    yield match[1], os.path.join(volume, entry.name)

    def _store_ids(self) -> Iterator[str]:
        """Ids that lanes and volumes give."""
        yield from (store_id for store_id, _ in self._on_volumes())
        for entry in entries_of(self._storage, self._paths.lanes):
            if is_lane_name(entry.name):
                file = self._storage.open_read(os.path.join(self._paths.lanes, entry.name))
                try:
                    yield read_header(file)[0].store
                except CorruptionError:
                    continue
                finally:
                    file.close()

    def _from_directories(self, shards: dict[int, str]) -> StoreFile:
        now_us = self._clock.now_us()
        indexes = sorted(shards)
        ring = build_ring(indexes)
        pins: dict[str, int] = {}
        for index in indexes:
            for agent in self._agents(shards[index]):
                if ring.shard_of(agent) != index:
                    pins[agent] = index
        return StoreFile(
            id=next(iter(self._store_ids()), None) or secrets.token_hex(16),
            created=now_us,
            epoch=now_us // 1_000_000,  # above every epoch that was counted up to
            next_writer=self._next_writer(),
            shards=self._entries(shards),
            placement=Placement(shards=indexes, pins=pins),
            archive=self._archive(),
            replica=self._replica,
        )

    def _entries(self, shards: dict[int, str]) -> list[ShardEntry]:
        default = {index: os.path.join(self._paths.shards, shard_name(index)) for index in shards}
        return [
            ShardEntry(index=index, path=None if path == default[index] else path)
            for index, path in sorted(shards.items())
        ]

    def _archive(self) -> str | None:
        """Where cold files lie on another volume, if one of those that were named has them."""
        archives = [os.path.join(path, "archive") for _, path in self._on_volumes()]
        return next((path for path in archives if self._storage.identify(path) is not None), None)

    def _agents(self, shard: str) -> Iterator[str]:
        for entry in entries_of(self._storage, shard):
            if not entry.is_directory or entry.name.startswith("."):
                continue
            agent = directory_agent(entry.name) or self._agent_of(os.path.join(shard, entry.name))
            if agent is not None:
                yield agent

    def _agent_of(self, directory: str) -> str | None:
        try:
            manifest = load_manifest(self._storage, directory)
        except MemstoreError:
            manifest = None
        if manifest is not None:
            return manifest.agent
        for entry in entries_of(self._storage, directory):
            if tier_of(entry.name) is not None:
                for data in _texts(self._storage, os.path.join(directory, entry.name)):
                    line = data.partition(b"\n")[0]
                    if line.startswith(agent_prefix("")[:-1]):
                        return line_id(line)[:-ID_TAIL_CHARS]
                    break
        return None

    def _next_writer(self) -> int:
        """Above every writer number that was given out, as far as lanes' names and ids of records show it."""
        highest = 0
        for entry in entries_of(self._storage, self._paths.lanes):
            if is_lane_name(entry.name):
                highest = max(highest, int(entry.name[:8], 16))
        for path in _files_below(self._storage, self._paths.root, self._paths.quarantine):
            for number in _writers_in(self._storage, path):
                highest = max(highest, number)
        for _, volume in self._on_volumes():
            for path in _files_below(self._storage, volume, ""):
                for number in _writers_in(self._storage, path):
                    highest = max(highest, number)
        return min(highest + 1 + WRITERS_SKIPPED, WRITER_NUMBER_MAX)


def _writers_in(storage: Storage, path: str) -> Iterator[int]:
    name = os.path.basename(path)
    if tier_of(name) is None and not is_lane_name(name):
        return
    rest = b""
    for data in _texts(storage, path):
        text = rest + data
        yield max((int(match, 16) for match in _MINTED_ID.findall(text)), default=0)
        rest = text[-_ID_OVERLAP_BYTES:]


def _texts(storage: Storage, path: str) -> Iterator[bytes]:
    """The content of a day file, a packed file or a lane, unpacked as far as that goes, in parts."""
    file = storage.open_read(path)
    try:
        if parse_day_file_name(os.path.basename(path)) is not None or not path.endswith(".zst"):
            yield from parts_of(file)
            return
        offset, size = 0, file.identity().size_bytes
        while offset < size:
            end = any_frame_end(file.read, offset, size=size)
            if not is_skippable(file.read(offset, _PROBE_BYTES)):
                yield from unpack_parts(file.read, offset, end - offset)
            offset = end
    except (StorageError, ValueError):  # as far as it goes: what is damaged is not there to clash with
        return
    finally:
        file.close()


def _files_below(storage: Storage, directory: str, without: str) -> Iterator[str]:
    for entry in entries_of(storage, directory):
        path = os.path.join(directory, entry.name)
        if path == without:
            continue
        if entry.is_directory:
            yield from _files_below(storage, path, without)
        else:
            yield path
