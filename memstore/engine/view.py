"""One agent's records: one order over lanes and the files of all tiers.

An agent's records are the blocks and frames its MANIFEST lists and the slices of lanes that it does not yet list as
merged, less those that a tombstone hides. The lanes are looked at first, then the MANIFEST: in that order a merge
running meanwhile can neither hide nor double a record.

`ViewBuilder` takes snapshots and says which pieces hold what; `memstore.engine.reading` reads them, through
`memstore.engine.piece_reader`.
"""

from __future__ import annotations

import bisect
import logging
import os
from collections.abc import Callable
from dataclasses import dataclass

from memstore.engine.catalog import Catalog, check_shard_is_there
from memstore.engine.lane_set import LaneSet
from memstore.engine.piece import Piece, SlicePiece
from memstore.engine.piece_reader import PieceReader
from memstore.errors import CorruptionError
from memstore.fs.storage import Storage
from memstore.manifest.cache import ManifestCache
from memstore.manifest.index import SETTLED, FrameRef, Manifest
from memstore.timestamps import day_text
from memstore.wal.reader import LaneReader, LaneSlices

_log = logging.getLogger(__name__)
_Held = tuple[LaneReader, LaneSlices]
"""A lane, and what it holds of an agent."""
_TORN_LOOKS_MAX = 3
"""How often a MANIFEST whose end does not verify is looked at: a merge may have gone by between the lanes and it."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What there is of one agent at one moment.

    Attributes:
        agent: whose.
        manifest: its index, or None where it has none yet.
        slices: pieces of lanes that are not merged, by UTC day.
        distrusted: ids of merges whose blocks did not verify and whose lanes stand in for them.
        version: equal versions mean equal records; for caches.
        damage: ranges whose records are unknown.
    """

    agent: str
    manifest: Manifest | None
    slices: dict[str, tuple[SlicePiece, ...]]
    distrusted: frozenset[str]
    version: tuple[object, ...]
    damage: tuple[CorruptionError, ...]


class ViewBuilder:
    """Takes snapshots of agents. Thread-safe.

    Attributes:
        spare: gives what reads agents from elsewhere, told why they cannot be read here; None: nothing does.
    """

    def __init__(
        self, storage: Storage, *, catalog: Catalog, lanes: LaneSet, manifests: ManifestCache, pieces: PieceReader
    ) -> None:
        self._storage = storage
        self._catalog = catalog
        self._lanes = lanes
        self._manifests = manifests
        self._pieces = pieces
        self.spare: Callable[[Exception], ViewBuilder | None] | None = None

    @property
    def reader(self) -> PieceReader:
        """Reads the pieces of its snapshots."""
        return self._pieces

    def manifest(self, agent: str) -> Manifest | None:
        """The agent's MANIFEST as it stands now, or None where it has none yet."""
        for directory in self._catalog.state.homes(agent):
            manifest = self._manifests.get(directory)
            if manifest is not None:
                return manifest
        homes = self._catalog.reload().homes(agent)
        for directory in (*homes, homes[0]):  # it may move between the first look and the second
            manifest = self._manifests.get(directory)
            if manifest is not None:
                return manifest
        for directory in homes:
            check_shard_is_there(self._storage, os.path.dirname(directory))
        return None

    def snapshot(self, agent: str, *, distrusted: frozenset[str] = frozenset()) -> Snapshot:
        """What there is of the agent now: lanes first, then the MANIFEST.

        Args:
            agent: whose.
            distrusted: ids of merges whose blocks did not verify; those whose lanes all stand are left out, and their
                lanes' slices stand in.
        """
        found, manifest, lost = self._look(agent)
        if manifest is not None and distrusted:
            # Only while all of its lanes stand: where they have gone since, the merge was repeated and synced.
            standing = {lane.token for lane, _ in found}
            distrusted = frozenset(
                merge.id for merge in manifest.merges if merge.id in distrusted and standing.issuperset(merge.lanes)
            )
        slices: dict[str, list[SlicePiece]] = {}
        damage: list[CorruptionError] = list(self._lanes.unreadable)
        version: list[object] = [None if manifest is None else (manifest.header, manifest.identity, manifest.end)]
        for lane, held in found:
            if not held.slices and not held.damaged:
                continue
            file = lane.file
            # Before what is merged is passed over: the records of a commit line that is gone were never merged.
            damage.extend(
                CorruptionError(
                    file.path, offset_bytes=offset, length_bytes=length, reason="a commit line does not verify"
                )
                for offset, length in held.damaged
            )
            if not held.slices or _is_merged(manifest, lane.token, distrusted):
                continue
            for s in held.slices:
                piece = SlicePiece(s.t_min, s.t_max, s.offset, s.length, s.records, file, s.xxh3)
                slices.setdefault(s.day, []).append(piece)
            version.append((lane.token, len(held.slices), held.slices[-1].xxh3))
        error = None if manifest is None else manifest.damage()
        if error is not None:
            damage.append(error)
        if lost is not None:
            damage.append(lost)
        by_day = {day: tuple(pieces) for day, pieces in slices.items()}
        return Snapshot(agent, manifest, by_day, distrusted, tuple(version), tuple(damage))

    def _look(self, agent: str) -> tuple[list[_Held], Manifest | None, CorruptionError | None]:
        """Lanes with what they hold of an agent, then its MANIFEST, and what is lost at the end of that."""
        looks = 0
        while True:
            found = [(lane, lane.agent_slices(agent)) for lane in self._lanes.refresh()]
            manifest = self.manifest(agent)
            if self._may_double(manifest, found):
                continue
            lost = self._lost_tail(agent, manifest, found)
            looks += 1
            if lost is None or looks == _TORN_LOOKS_MAX:
                return found, manifest, lost
            _log.debug("%s: look %d", lost, looks)

    def _may_double(self, manifest: Manifest | None, found: list[_Held]) -> bool:
        """Whether lanes have gone since they were listed, and no merge line says that they are in the files.

        A compaction keeps what was merged lately, by the clock; clocks are set, and a process may stand still for an
        hour between the lanes and the MANIFEST.
        """
        return manifest is not None and any(
            held.slices and lane.token not in manifest.merged and not self._lanes.stands(lane.token)
            for lane, held in found
        )

    def _lost_tail(self, agent: str, manifest: Manifest | None, found: list[_Held]) -> CorruptionError | None:
        """Damage at the end of the agent's MANIFEST; None where it is whole or a merge that was cut off explains it."""
        directories = self._catalog.state.homes(agent) if manifest is None else [manifest.directory]
        for directory in directories:
            torn = self._manifests.torn_tail(directory, manifest)
            if torn is None and manifest is not None:
                torn = self._manifests.lost_lines(directory, manifest)
            if torn is None:
                continue
            waiting: dict[str, int] = {}
            for lane, held in found:
                if manifest is None or lane.token not in manifest.merged:
                    for item in held.slices:
                        waiting[item.day] = waiting.get(item.day, 0) + item.length
            error = torn.damage(lanes={lane.token for lane, _ in found}, waiting_bytes=waiting)
            if error is not None:
                return error
        return None

    def days(self, snapshot: Snapshot, since_us: int, until_us: int) -> list[str]:
        """UTC days that may hold records of ``[since_us, until_us)``, in order."""
        if until_us <= since_us:
            return []
        low, high = day_text(since_us), day_text(until_us - 1)
        merged = () if snapshot.manifest is None else snapshot.manifest.sorted_days
        days = merged[bisect.bisect_left(merged, low) : bisect.bisect_right(merged, high)]
        added = {day for day in snapshot.slices if low <= day <= high}.difference(days)
        return sorted([*days, *added]) if added else list(days)

    def pieces(self, snapshot: Snapshot, day: str, since_us: int, until_us: int) -> list[Piece]:
        """Every piece of a day that may hold a line of ``[since_us, until_us)``, in no order.

        A frame may hold lines of other days too; it is a piece of each of them.
        """
        pieces: list[Piece] = [p for p in snapshot.slices.get(day, ()) if p.t_min < until_us and p.t_max >= since_us]
        manifest = snapshot.manifest
        if manifest is None:
            return pieces
        left_out: frozenset[int] = frozenset()
        if snapshot.distrusted:
            left_out = frozenset(i for i, merge in enumerate(manifest.merges) if merge.id in snapshot.distrusted)
        refs = manifest.refs_within(day, since_us, until_us - 1)
        pieces += (ref for ref in refs if not left_out or isinstance(ref, FrameRef) or ref.merge not in left_out)
        return pieces

    def forget_lanes(self) -> None:
        """Read all lanes from their start at the next look."""
        self._lanes.forget()

    def lane_tokens(self) -> set[str]:
        """Tokens of all lanes there are now."""
        return {lane.token for lane in self._lanes.refresh()}


def _is_merged(manifest: Manifest | None, token: str, distrusted: frozenset[str]) -> bool:
    """Whether the agent's MANIFEST cites a lane, in a merge that is trusted."""
    if manifest is None:
        return False
    index = manifest.merged.get(token)
    return index is not None and (index == SETTLED or manifest.merges[index].id not in distrusted)
