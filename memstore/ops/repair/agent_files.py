"""Every file of an agent held against what is left of its index: those that it names, and those that it does not."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet

from memstore.engine.engine import Engine
from memstore.format.manifest import PackedFile, TrashedFile
from memstore.format.names import file_version, parse_day_file_name
from memstore.fs.atomic import TEMPORARY_PREFIX
from memstore.lifecycle.trash import trashed_file
from memstore.manifest.index import BlockRef
from memstore.ops.agent_place import AgentPlace, is_in_trash
from memstore.ops.lanes_explain import is_explained, is_in_lanes
from memstore.ops.record_lines import RecordLines
from memstore.ops.repair.good_copies import GoodCopies, NoCopies
from memstore.ops.repair.salvage import FileSalvage, Refuse
from memstore.ops.repair.salvage_day_file import DayFilePlace, salvage_day_file
from memstore.ops.repair.salvage_packed_file import PackedFilePlace, salvage_packed_file
from memstore.ops.repair.salvaged_index import SalvagedIndex
from memstore.ops.repair.waiting_lanes import WaitingLanes


class AgentFiles:
    """Looks at the files of one agent. Changes nothing. Used by one thread.

    Args:
        engine: the store.
        place: the agent's directories.
        index: what is left of its index.
        lanes: what waits to be merged.
        copies: where good copies may be had.
        refuse: where the index has lost something, whether a line that it does not list may not be taken; else None,
            and no such line is looked at.
        now_us: the time.
    """

    def __init__(
        self,
        engine: Engine,
        place: AgentPlace,
        index: SalvagedIndex,
        lanes: WaitingLanes,
        *,
        copies: GoodCopies,
        refuse: Refuse | None,
        now_us: int,
    ) -> None:
        self._engine = engine
        self._storage = engine.storage
        self._place = place
        self._index = index
        self._manifest = index.manifest
        self._lanes = lanes
        self._lines = RecordLines(self._manifest.agent)
        self._copies = copies
        self._refuse = refuse
        self._now_us = now_us

    def listed(self) -> list[FileSalvage]:
        """What is left of each file that the index names; merges of which blocks are lost are taken back.

        Raises:
            StorageError: one cannot be opened.
        """
        manifest = self._manifest
        taken_back: set[int] = set()
        found = [self._day_file(name, taken_back) for name in manifest.day_files]
        if taken_back:  # a merge is taken back as a whole, in all of its days
            self._lanes.take_back(taken_back)
            found = [self._day_file(name, taken_back) for name in manifest.day_files]
        found += [self._packed_file(name, manifest.trash.get(name)) for name in (*manifest.packed, *manifest.trash)]
        return found

    def unlisted(self, known: AbstractSet[str]) -> Iterator[tuple[str, FileSalvage]]:
        """Files that no line names, and where they lie: newest versions first, for they took the place of older ones.

        Args:
            known: names of files that are not looked at.

        Raises:
            StorageError: one cannot be opened.
        """
        manifest = self._manifest
        known = {*known, *manifest.day_files, *manifest.packed, *manifest.trash, *manifest.dropped}
        found: list[tuple[int, str, str]] = []
        for directory, name in self._place.files():
            version = file_version(name)
            if version is not None and name not in known and not name.startswith(TEMPORARY_PREFIX):
                found.append((-version, directory, name))
        for _, directory, name in sorted(found):
            path = os.path.join(directory, name)
            if parse_day_file_name(name) is not None:
                yield path, self._salvaged_day_file(name, [], ingested_us=self._now_us)
            else:
                yield path, self._unlisted_packed_file(path)

    def strange_day_files(self) -> list[str]:
        """Day files that no line names, that no merge has begun, and in which no record is."""
        listed = {*self._manifest.day_files, *self._manifest.dropped}
        names = [name for name in sorted(self._place.names[self._place.directory]) if name not in listed]
        return [
            os.path.join(self._place.directory, name)
            for name in names
            if parse_day_file_name(name) is not None and self._unexplained_behind(name)
        ]

    # -- day files

    def _day_file(self, name: str, taken_back: set[int]) -> FileSalvage:
        """One that the index names; merges of which a block is lost and stands in lanes are added to ``taken_back``."""
        refs = [ref for ref in self._manifest.file_refs(name) if isinstance(ref, BlockRef)]
        found = self._salvaged_day_file(
            name, [ref for ref in refs if ref.merge not in taken_back], ingested_us=self._manifest.ingested[name]
        )
        lost = {each.offset for each in found.lost}
        taken_back.update(
            ref.merge for ref in refs if ref.offset in lost and is_in_lanes(self._lanes.all, self._manifest, ref)
        )
        found.changed |= any(ref.merge in taken_back for ref in refs)
        if self._refuse is None:
            found.behind = self._unexplained_behind(name)
            found.blocks = None if found.behind else found.blocks
        return found

    def _salvaged_day_file(self, name: str, blocks: Sequence[BlockRef], *, ingested_us: int) -> FileSalvage:
        path = os.path.join(self._place.directory, name)
        return salvage_day_file(
            self._storage,
            DayFilePlace(path, listed=name in self._manifest.day_files),
            blocks,
            lines=self._lines,
            copies=self._copies_of(path),
            refuse=self._refuse,
            ingested_us=ingested_us,
        )

    def _unexplained_behind(self, name: str) -> int:
        """How many bytes behind the end of a day file keep its agent from being read: more than lanes explain."""
        committed = self._manifest.day_files.get(name, 0)
        identity = self._storage.identify(os.path.join(self._place.directory, name))
        behind = 0 if identity is None else identity.size_bytes - committed
        if behind <= 0 or is_explained(self._lanes.all, self._manifest, name, committed=committed, behind=behind):
            return 0
        return behind

    # -- packed files

    def _packed_file(self, name: str, trashed: TrashedFile | None) -> FileSalvage:
        places = self._place.places_of(name, in_trash=trashed is not None)
        path = next((each for each in places if self._storage.identify(each) is not None), places[0])
        return salvage_packed_file(
            self._storage,
            PackedFilePlace(path, trashed),
            self._manifest.packed_file(name),
            lines=self._lines,
            copies=self._copies_of(path),
            ingested_us=self._now_us,
        )

    def _unlisted_packed_file(self, path: str) -> FileSalvage:
        found = salvage_packed_file(
            self._storage,
            PackedFilePlace(path),
            None,
            lines=self._lines,
            copies=self._copies,
            ingested_us=self._now_us,
        )
        if is_in_trash(path):
            found.trashed = self._trashed(found)
        return found

    def _trashed(self, found: FileSalvage) -> TrashedFile:
        """What lies in the trash stays there, for as long as if it had been put there now."""
        packed = found.packed or PackedFile(file=found.name, size=0, xxh3="", frames=[], kinds=[])
        reason = "it lay in the trash when the MANIFEST was written anew"
        grace_hours = self._engine.settings.storage.retention.grace_hours
        return trashed_file(packed, reason=reason, now_us=self._now_us, grace_hours=grace_hours)

    def _copies_of(self, path: str) -> GoodCopies:
        """Where good copies of a file may be had.

        Not of one that is missing while lines of the index are lost: they may have said that something took its place,
        and what was erased with it would come back. Unless a second copy that has all that the store has says that it
        counts: what was erased is not in it.
        """
        is_missing = self._storage.identify(path) is None
        is_in_doubt = self._refuse is not None and not self._index.is_current
        return NoCopies() if is_missing and is_in_doubt else self._copies
