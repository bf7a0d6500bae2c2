"""Erase single records of an agent: every file that holds one is written anew without it, whatever its tier.

What is to go is known by a `Selection`. First all files are read and what is selected in them is listed, so that a
legal hold can refuse everything before anything is changed; then file by file is replaced. The caller holds the merge
lock and the lifecycle lock all the while, so what was listed is what is there.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Protocol

import msgspec

from memstore.engine.engine import Engine
from memstore.engine.piece import SlicePiece
from memstore.errors import CorruptionError, HeldError
from memstore.format.forgotten import text_hash
from memstore.format.manifest import Move, PackedFile
from memstore.format.names import TRASH_DIRECTORY, Tier, tier_of
from memstore.fs.atomic import TEMPORARY_PREFIX, try_unlink
from memstore.fs.storage import Storage
from memstore.ids import is_derived_id, parse_id
from memstore.lifecycle.collapse import OwnRepeatFieldError
from memstore.lifecycle.commit import Committer, LockedAgent
from memstore.lifecycle.holds import Holds
from memstore.lifecycle.needles import LineHashes, line_id
from memstore.lifecycle.pack import Built, Packer, Recipe
from memstore.lifecycle.receipt import Pending
from memstore.lifecycle.recipes import recipe_for
from memstore.manifest.index import SETTLED, BlockRef, FrameRef, Hidden, Manifest


class Selection(Protocol):
    """Which of an agent's records are erased."""

    def may_pick(self, t_min: int, t_max: int) -> bool:
        """Whether it may pick a record of these times, both inclusive; no is certain."""
        ...

    def picks(self, memory_id: str, ingested_us: int) -> bool:
        """Whether it picks a record that reached a day file at a time, at the latest."""
        ...


class Chosen:
    """These ids of one agent."""

    def __init__(self, ids: Iterable[str]) -> None:
        self.hidden = Hidden.of(ids)

    def may_pick(self, t_min: int, t_max: int) -> bool:
        """See `Selection`."""
        return self.hidden.touches(t_min, t_max)

    def picks(self, memory_id: str, ingested_us: int) -> bool:  # noqa: ARG002 - as the protocol has it
        """See `Selection`."""
        return memory_id in self.hidden.ids


class ChosenByHash:
    """Ids of which only the hashes are known: of an erasure that was interrupted."""

    def __init__(self, hashes: Iterable[str]) -> None:
        self._hashes = frozenset(hashes)

    def may_pick(self, t_min: int, t_max: int) -> bool:  # noqa: ARG002
        """See `Selection`."""
        return True

    def picks(self, memory_id: str, ingested_us: int) -> bool:  # noqa: ARG002
        """See `Selection`."""
        return text_hash(memory_id) in self._hashes


class UpTo:
    """All that there was at a time: of an erasure of a whole agent that was interrupted, and the agent wrote on.

    What had reached a day file by then was there, for the erasure began with a drain. Where that left lanes behind, of
    a process that stood still, what was stamped by then and reached a day file later counts too; but the stamp of a
    record that came from elsewhere says nothing of when it came. Where it left none, a stamp of then is one that was
    given to a record which was appended since, and which stays.
    """

    def __init__(self, at_us: int, *, late: bool) -> None:
        self._at_us = at_us
        self._late = late

    def may_pick(self, t_min: int, t_max: int) -> bool:  # noqa: ARG002
        """See `Selection`."""
        return True

    def picks(self, memory_id: str, ingested_us: int) -> bool:
        """See `Selection`."""
        if ingested_us <= self._at_us:
            return True
        return self._late and not is_derived_id(memory_id) and parse_id(memory_id).time_us <= self._at_us


class Everything(UpTo):
    """All of an agent."""

    def __init__(self) -> None:
        super().__init__(0, late=False)

    def picks(self, memory_id: str, ingested_us: int) -> bool:  # noqa: ARG002
        """See `Selection`."""
        return True


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
        count: records picked from files.
    """

    agent: str
    files: dict[str, set[str]] = field(default_factory=dict)
    lanes: set[str] = field(default_factory=set)
    damaged: dict[str, str] = field(default_factory=dict)
    named: set[str] = field(default_factory=set)
    count: int = 0

    @property
    def ids(self) -> set[str]:
        """Every id that was found."""
        return self.lanes.union(*self.files.values())


@dataclass(slots=True)
class Traces:
    """What an erasure has done so far. Paths are absolute.

    Attributes:
        records: how many were removed.
        removed: files that are gone.
        rewritten: files that others took the place of.
        pending: what could not be done.
        hashes: of the lines.
    """

    records: int = 0
    removed: list[str] = field(default_factory=list)
    rewritten: list[str] = field(default_factory=list)
    pending: list[Pending] = field(default_factory=list)
    hashes: LineHashes = field(default_factory=LineHashes)


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
            named = manifest.hidden.ids | manifest.purged
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
            for memory_id in self._picked(manifest.agent, lines, selection, ingested_of(manifest, ref), ref):
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


def ingested_of(manifest: Manifest, ref: BlockRef | FrameRef) -> int:
    """When the youngest line of a block or frame reached a day file, at the latest."""
    if isinstance(ref, FrameRef):
        return ref.frame.ingested
    if ref.merge == SETTLED:  # by when it was settled; more may have come into the same file since
        return min(manifest.ingested[ref.file], manifest.begun)
    return manifest.merges[ref.merge].at


class RecordRemoval:
    """Writes an agent's files anew without what was picked.

    Args:
        engine: the store.
        committer: lets files count.
        packer: writes them.
        traces: told what was done.
    """

    def __init__(self, engine: Engine, committer: Committer, packer: Packer, traces: Traces) -> None:
        self._engine = engine
        self._storage = engine.storage
        self._committer = committer
        self._packer = packer
        self._traces = traces

    def remove(self, held: LockedAgent, picked: Picked, *, at_us: int, wanted: Iterable[str] = ()) -> None:
        """Replace every file that holds what was picked, and write the MANIFEST anew so that it names none of it.

        What lies in a damaged file or in a lane that cannot be merged is hidden by a tombstone and stays pending.

        Args:
            held: the agent.
            picked: what goes.
            at_us: now.
            wanted: ids that were asked for, those that were not found too: a damaged file may hold them.

        Raises:
            StorageFullError: no space for a result; what was done so far counts.
            MergeUnfinishedError: a merge of the agent has to be repeated first; nothing was changed.
        """
        manifest = held.manifest
        if manifest is None:  # all there is of the agent lies in lanes
            if picked.lanes:
                self._committer.hide(held, picked.agent, sorted(picked.lanes), at_us=at_us)
            return
        held = self._cleared_up(held, at_us)
        left = set(picked.lanes)
        for name in sorted(picked.files.keys() | picked.damaged.keys()):
            ids = picked.files.get(name, set())
            reason = picked.damaged.get(name)
            if reason is None:
                try:
                    held = self._replace(held, name, Hidden.of(ids), at_us)
                    continue
                except CorruptionError as error:
                    reason = error.reason
            assert held.manifest is not None
            where = self._engine.pieces.path_of(held.manifest, name)
            left |= ids | _within(held.manifest, name, wanted)
            self._traces.pending.append(
                Pending(
                    where, f"it is damaged ({reason}) and may hold erased records; they are hidden until it is repaired"
                )
            )
        if left:
            self._committer.hide(held, picked.agent, sorted(left), at_us=at_us)
            held = self._committer.refreshed(held)
        forgotten = frozenset((picked.ids | picked.named | set(wanted)) - left)
        self._committer.compact(held, at_us=at_us, forget_ids=forgotten)
        self._sync(held.directory, picked.agent)

    def _cleared_up(self, held: LockedAgent, at_us: int) -> LockedAgent:
        """Remove what counts no longer and what never did: it may hold what is erased."""
        manifest = held.manifest
        assert manifest is not None
        self._committer.remove_dropped(held, at_us=at_us)
        known = manifest.packed.keys() | manifest.trash.keys()
        for directory in self._directories(held.directory, manifest.agent):
            for path in _orphans(self._storage, directory, known):
                try_unlink(self._storage, path)
                self._traces.removed.append(path)
        return self._committer.refreshed(held)

    def _replace(self, held: LockedAgent, name: str, ids: Hidden, at_us: int) -> LockedAgent:
        manifest = held.manifest
        assert manifest is not None
        path = self._engine.pieces.path_of(manifest, name)
        records = sum(ref.records for ref in manifest.file_refs(name))
        if len(ids.ids) == records:
            move = Move(at=at_us, reason="erase", sources=[name])
            self._traces.removed.append(path)
        else:
            move = self._rewritten(manifest, name, ids, at_us)
            self._traces.rewritten.append(path)
        self._committer.move_locked(held, manifest, move)
        self._traces.records += len(ids.ids)
        return self._committer.refreshed(held)

    def _rewritten(self, manifest: Manifest, name: str, ids: Hidden, at_us: int) -> Move:
        trashed = manifest.trash.get(name)
        tier: Tier = "cold" if tier_of(name) == "cold" else "warm"
        recipe = recipe_for(
            tier,
            manifest.agent,
            self._engine.settings.storage.lifecycle,
            drop=ids,
            split=None if trashed is None else _all_to_trash,
        )
        built = self._build(manifest, name, recipe)
        old = None if name in manifest.day_files else manifest.packed_file(name)
        if trashed is not None:
            assert built.trash is not None
            kept = msgspec.structs.replace(trashed, packed=_as_digested(built.trash, old))
            return Move(at=at_us, reason="erase", sources=[name], trash=[kept])
        assert built.live is not None
        return Move(at=at_us, reason="erase", sources=[name], to=[_as_digested(built.live, old)])

    def _build(self, manifest: Manifest, name: str, recipe: Recipe) -> Built:
        try:
            return self._packer.build(manifest, [name], recipe)
        except OwnRepeatFieldError:
            return self._packer.build(manifest, [name], recipe.whole())

    def _directories(self, home: str, agent: str) -> list[str]:
        archive = self._engine.catalog.state.archive_of(agent)
        return [home, os.path.join(home, TRASH_DIRECTORY), archive, os.path.join(archive, TRASH_DIRECTORY)]

    def _sync(self, home: str, agent: str) -> None:
        """Make it durable that the old files are gone."""
        for directory in self._directories(home, agent):
            if self._storage.identify(directory) is not None:
                self._storage.sync_directory(directory)


def _all_to_trash(lines: list[bytes], _: int) -> list[bool]:
    return [True] * len(lines)


def _as_digested(packed: PackedFile, old: PackedFile | None) -> PackedFile:
    """A packed file that goes on to say what its source said of digests; how many of them went, nobody counted."""
    if old is None:
        return packed
    return msgspec.structs.replace(packed, digests=min(old.digests, packed.records), digested_until=old.digested_until)


def _within(manifest: Manifest, name: str, ids: Iterable[str]) -> set[str]:
    """Those of some ids whose times a file spans."""
    refs = manifest.file_refs(name)
    return {
        memory_id for memory_id in ids if any(ref.t_min <= parse_id(memory_id).time_us <= ref.t_max for ref in refs)
    }


def _orphans(storage: Storage, directory: str, known: Iterable[str]) -> list[str]:
    """Temporary files, and packed files that the MANIFEST does not list; the caller keeps everybody from making one."""
    try:
        names = [entry.name for entry in storage.list_directory(directory) if not entry.is_directory]
    except FileNotFoundError:
        return []
    listed = frozenset(known)
    return [
        os.path.join(directory, name)
        for name in sorted(names)
        if name.startswith(TEMPORARY_PREFIX) or (tier_of(name) in ("warm", "cold") and name not in listed)
    ]
