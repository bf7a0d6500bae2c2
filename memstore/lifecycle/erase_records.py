"""Erase single records of an agent: every file that holds one is written anew without it, whatever its tier.

What is to go was listed before (`memstore.lifecycle.erase_picker`). The caller holds the merge lock and the lifecycle
lock all the while, so what was listed is what is there.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import msgspec

from memstore.engine.engine import Engine
from memstore.errors import CorruptionError
from memstore.format.manifest import Move
from memstore.format.names import Tier, tier_of
from memstore.fs.atomic import try_unlink
from memstore.ids import parse_id
from memstore.lifecycle.commit import Committer, LockedAgent
from memstore.lifecycle.digests_kept import as_digested
from memstore.lifecycle.erase_picker import Picked
from memstore.lifecycle.needles import LineHashes
from memstore.lifecycle.orphans import agent_directories, orphans_in
from memstore.lifecycle.pack import Packer
from memstore.lifecycle.receipt import Pending
from memstore.lifecycle.recipes import recipe_for, whole_split
from memstore.manifest.index import Hidden, Manifest


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
        self._committer.check_merged(held)
        # Orphans may hold what is erased, and their names may be wanted anew. What was dropped goes at the end: that
        # takes a MANIFEST written anew, which says of whole files when the youngest of their records came, and an
        # erasure that is interrupted again has to tell which records came behind it.
        self._remove_orphans(held, manifest)
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
        self._committer.remove_dropped(held, at_us=at_us)
        held = self._committer.refreshed(held)
        if left:
            self._committer.hide(held, picked.agent, sorted(left), at_us=at_us)
            held = self._committer.refreshed(held)
        forgotten = frozenset((picked.ids | picked.named | set(wanted)) - left)
        self._committer.compact(held, at_us=at_us, forget_ids=forgotten)
        self._sync(held.directory, picked.agent)

    def _remove_orphans(self, held: LockedAgent, manifest: Manifest) -> None:
        """Remove packed files that no line names, be it to drop them."""
        known = manifest.packed.keys() | manifest.trash.keys() | manifest.dropped.keys()
        archive = self._engine.catalog.state.archive_of(manifest.agent)
        directories = agent_directories(held.directory, archive)
        paths = [path for directory in directories for path in orphans_in(self._storage, directory, known)]
        if paths:
            self._committer.confirm(held, manifest.agent)
        for path in paths:
            try_unlink(self._storage, path)
            self._traces.removed.append(path)

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
            split=None if trashed is None else whole_split,
        )
        built = self._packer.build(manifest, [name], recipe)
        old = None if name in manifest.day_files else manifest.packed_file(name)
        if trashed is not None:
            assert built.trash is not None
            kept = msgspec.structs.replace(trashed, packed=as_digested(built.trash, old))
            return Move(at=at_us, reason="erase", sources=[name], trash=[kept])
        assert built.live is not None
        return Move(at=at_us, reason="erase", sources=[name], to=[as_digested(built.live, old)])

    def _sync(self, home: str, agent: str) -> None:
        """Make it durable that the old files are gone."""
        for directory in agent_directories(home, self._engine.catalog.state.archive_of(agent)):
            if self._storage.identify(directory) is not None:
                self._storage.sync_directory(directory)


def _within(manifest: Manifest, name: str, ids: Iterable[str]) -> set[str]:
    """Those of some ids whose times a file spans."""
    refs = manifest.file_refs(name)
    return {
        memory_id for memory_id in ids if any(ref.t_min <= parse_id(memory_id).time_us <= ref.t_max for ref in refs)
    }
