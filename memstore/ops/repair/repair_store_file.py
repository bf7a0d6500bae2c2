"""STORE.json anew, as far as the directories, the lanes and the records tell; refused where they cannot.

What has to be right: where each agent lies, and that no writer number is given out twice. Agents are left where they
are found: the ring of all shards says where they belong, and those that lie elsewhere are pinned. The next writer
number is above every one that a lane's name or a record's id shows. A shard on another volume leaves no trace below
the root but a gap in the numbers: then the volume has to be named.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import msgspec

from memstore.clock import Clock
from memstore.errors import CorruptionError
from memstore.format.checked import states_the_same
from memstore.format.names import StorePaths, shard_name
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
from memstore.fs.storage import Storage
from memstore.ids import directory_agent
from memstore.ops.layout import Layout, entries_of
from memstore.ops.repair.bit_search import find_flip_in_line
from memstore.ops.repair.found_places import FoundPlaces
from memstore.ops.repair.good_copies import OrderedCopies, file_of_root
from memstore.ops.repair.quarantine import Quarantine
from memstore.ops.repair.repair_step import CopiedRange, RepairStep
from memstore.ops.repair.used_writers import next_writer
from memstore.ops.repair.whose_directory import agent_by_files, agent_by_manifest
from memstore.ring import build_ring


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
        self._places = FoundPlaces(storage, paths, volumes)

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
        shards = self._places.shards(layout)
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
        ids = {each for each in self._places.store_ids() if each}
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
        shards = self._places.shards(layout)
        if shards.keys() != {shard.index for shard in known.shards}:
            return None
        return msgspec.structs.replace(
            known,
            next_writer=max(known.next_writer, self._next_writer()),
            epoch=known.epoch + 1,
            shards=self._entries(shards),
            archive=known.archive or self._places.archive(),
            replica=known.replica or self._replica,
        )

    # -- from what there is

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
            id=next(iter(self._places.store_ids()), None) or secrets.token_hex(16),
            created=now_us,
            epoch=now_us // 1_000_000,  # above every epoch that was counted up to
            next_writer=self._next_writer(),
            shards=self._entries(shards),
            placement=Placement(shards=indexes, pins=pins),
            archive=self._places.archive(),
            replica=self._replica,
        )

    def _entries(self, shards: dict[int, str]) -> list[ShardEntry]:
        default = {index: os.path.join(self._paths.shards, shard_name(index)) for index in shards}
        return [
            ShardEntry(index=index, path=None if path == default[index] else path)
            for index, path in sorted(shards.items())
        ]

    def _agents(self, shard: str) -> Iterator[str]:
        for entry in entries_of(self._storage, shard):
            if not entry.is_directory or entry.name.startswith("."):
                continue
            home = os.path.join(shard, entry.name)
            agent = (
                directory_agent(entry.name)
                or agent_by_manifest(self._storage, home)
                or agent_by_files(self._storage, home)
            )
            if agent is not None:
                yield agent

    def _next_writer(self) -> int:
        return next_writer(self._storage, self._paths, [volume for _, volume in self._places.on_volumes()])
