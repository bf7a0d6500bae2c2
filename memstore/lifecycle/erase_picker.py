"""List what a selection picks from an agent's files and lanes, so that a legal hold can refuse before anything goes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import msgspec

from memstore.engine.engine import Engine
from memstore.engine.piece import SlicePiece
from memstore.errors import CorruptionError, HeldError
from memstore.ids import parse_id
from memstore.lifecycle.erase_selection import Selection
from memstore.lifecycle.holds import Holds
from memstore.lifecycle.needles import LineHashes, line_id
from memstore.manifest.index import SETTLED, BlockRef, FrameRef, Manifest


class _Kind(msgspec.Struct, gc=False):
    memory_type: str = "INTERACTION"


_decode_kind = msgspec.json.Decoder(_Kind).decode


@dataclass(slots=True)
class Picked:
    """What a selection picks from one agent.

    Attributes:
        agent: whose.
        files: by name of the file, the picked ids in it. An id may stand in the trash of retention, too.
        lanes: picked ids in lanes that cannot be merged now.
        damaged: by name of the file, why not all of it could be read; some of what is picked may be there.
        named: ids that tombstones name, picked too.
        hidden_stay: ids that tombstones name, of records that were found in files and not picked.
        count: records picked from files.
    """

    agent: str
    files: dict[str, set[str]] = field(default_factory=dict)
    lanes: set[str] = field(default_factory=set)
    damaged: dict[str, str] = field(default_factory=dict)
    named: set[str] = field(default_factory=set)
    hidden_stay: set[str] = field(default_factory=set)
    count: int = 0

    @property
    def ids(self) -> set[str]:
        """Every id that was found."""
        return self.lanes.union(*self.files.values())


class Picker:
    """Lists what a selection picks, and refuses where a legal hold covers it.

    Args:
        engine: the store.
        holds: what may not be removed.
        hashes: told of every line that is picked.
        keep_ids: whether picked ids are wanted; of a whole agent nobody wants them.
    """

    def __init__(self, engine: Engine, holds: Holds, hashes: LineHashes, *, keep_ids: bool = True) -> None:
        self._engine = engine
        self._holds = holds
        self._hashes = hashes
        self._keep_ids = keep_ids

    def pick(self, manifest: Manifest | None, agent: str, selection: Selection) -> Picked:
        """Read all that may hold something.

        Raises:
            HeldError: a hold covers one of the records, or what is damaged may hold one that it covers.
        """
        picked = Picked(agent)
        if manifest is not None:
            for name in (*manifest.day_files, *manifest.packed, *manifest.trash):
                self._pick_file(manifest, name, selection, picked)
            # Of what a tombstone hides in a file it is known whether it goes; of the rest by when the MANIFEST began.
            named = (manifest.hidden.ids | manifest.purged) - picked.hidden_stay
            picked.named.update(each for each in named if self._keep_ids and selection.picks(each, manifest.begun))
        self._pick_lanes(manifest, agent, selection, picked)
        return picked

    def _pick_file(self, manifest: Manifest, name: str, selection: Selection, picked: Picked) -> None:
        for ref in manifest.file_refs(name):
            if not selection.may_pick(ref.t_min, ref.t_max):
                continue
            try:
                lines = self._engine.pieces.all_lines(manifest, ref)
            except FileNotFoundError:
                lines, reason = None, "the file is missing"
            except CorruptionError as error:
                lines, reason = None, error.reason
            if lines is None:
                self._refuse_in_doubt(manifest.agent, ref, name)
                picked.damaged[name] = reason
                continue
            ingested_us = _ingested_of(manifest, ref)
            if manifest.hidden.touches(ref.t_min, ref.t_max):
                ids = manifest.hidden.ids.intersection(map(line_id, lines))
                picked.hidden_stay.update(each for each in ids if not selection.picks(each, ingested_us))
            for memory_id in self._picked(manifest.agent, lines, selection, ingested_us, ref):
                picked.count += 1
                if self._keep_ids:
                    picked.files.setdefault(name, set()).add(memory_id)

    def _pick_lanes(self, manifest: Manifest | None, agent: str, selection: Selection, picked: Picked) -> None:
        """What waits in lanes that could not be merged; what an agent's MANIFEST cites was found in its files."""
        for lane in self._engine.lanes.refresh():
            if manifest is not None and lane.token in manifest.merged:
                continue
            for item in lane.agent_slices(agent).slices:
                if not selection.may_pick(item.t_min, item.t_max):
                    continue
                piece = SlicePiece(item.t_min, item.t_max, item.offset, item.length, item.records, lane.file, item.xxh3)
                try:
                    lines = self._engine.pieces.all_lines(None, piece)
                except CorruptionError:
                    continue  # the scan looks into the bytes of the lane and says what is left there
                picked.lanes.update(self._picked(agent, lines, selection, 0, piece))

    def _picked(
        self,
        agent: str,
        lines: list[bytes],
        selection: Selection,
        ingested_us: int,
        piece: BlockRef | FrameRef | SlicePiece,
    ) -> Iterator[str]:
        may_be_held = self._holds.may_cover(agent, piece.t_min, piece.t_max)
        for line in lines:
            memory_id = line_id(line)
            if not selection.picks(memory_id, ingested_us):
                continue
            if may_be_held:
                kind, time_us = _decode_kind(line).memory_type, parse_id(memory_id).time_us
                names = self._holds.covering(agent, memory_id, kind, time_us)
                if names:
                    raise HeldError(
                        f"{memory_id} may not be erased: hold {', '.join(names)} covers it. Nothing was erased"
                    )
            self._hashes.add(line)
            yield memory_id

    def _refuse_in_doubt(self, agent: str, piece: BlockRef | FrameRef, name: str) -> None:
        names = self._holds.names_over(agent, piece.t_min, piece.t_max)
        if names:
            raise HeldError(
                f"{name} of {agent} is damaged, and hold {', '.join(names)} may cover a record in it. Nothing was "
                "erased; repair the file or remove the hold first"
            )


def _ingested_of(manifest: Manifest, ref: BlockRef | FrameRef) -> int:
    """When the youngest line of a block or frame reached a day file, at the latest."""
    if isinstance(ref, FrameRef):
        return ref.frame.ingested
    if ref.merge == SETTLED:  # by when it was settled; more may have come into the same file since
        return min(manifest.ingested[ref.file], manifest.begun)
    return manifest.merges[ref.merge].at
