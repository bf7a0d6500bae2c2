"""Removals in which no record is looked at: the trash whose grace is over, files that no line names, spent lines."""

from __future__ import annotations

import os

from memstore.engine.engine import Engine
from memstore.format.manifest import Move
from memstore.fs.atomic import try_unlink
from memstore.lifecycle.action import CleanUp, Compact, Purge
from memstore.lifecycle.commit import Committer, LockedAgent, SourcesChangedError
from memstore.lifecycle.holds import HoldsFile
from memstore.lifecycle.orphans import agent_directories, orphans_in
from memstore.lifecycle.replacing import Done
from memstore.manifest.index import Manifest


class Clearing:
    """Removes, one agent after the other; the caller holds the lifecycle lock.

    Args:
        engine: the store.
        committer: lets changes count.
        holds: what may not be removed.
    """

    def __init__(self, engine: Engine, *, committer: Committer, holds: HoldsFile) -> None:
        self._engine = engine
        self._committer = committer
        self._holds = holds

    def purge(self, action: Purge, *, now_us: int) -> Done:
        """Remove files of the trash for good.

        Raises:
            SourcesChangedError: what was to go has been brought back, or is held.
            StorageError: it could not be done.
        """
        with self._committer.locked_agent(action.agent) as held:
            manifest = whole_manifest(held)
            files = [manifest.trash[name] for name in action.files if name in manifest.trash]
            holds = self._holds.load()
            due = [
                each
                for each in files
                if each.purge_at <= now_us and not holds.may_cover(action.agent, each.packed.t_min, each.packed.t_max)
            ]
            if not due:
                raise SourcesChangedError("what was to be purged has been brought back, or is held")
            move = Move(at=now_us, reason="purge", sources=[each.packed.file for each in due])
            self._committer.move_locked(held, manifest, move)
        return sum(e.packed.size for e in due), 0, sum(e.packed.records for e in due)

    def clean_up(self, action: CleanUp, *, now_us: int) -> Done:
        """Remove files that were dropped, and orphans; the lifecycle lock says that nobody is building them.

        Raises:
            SourcesChangedError: the agent is gone.
            StorageError: it could not be done.
        """
        storage, freed = self._engine.storage, 0
        with self._committer.locked_agent(action.agent) as held:
            manifest = whole_manifest(held)
            self._committer.remove_dropped(held, at_us=now_us)
            known = manifest.packed.keys() | manifest.trash.keys()
            archive = self._engine.catalog.state.archive_of(action.agent)
            for directory in agent_directories(held.directory, archive):
                for path in orphans_in(storage, directory, known):
                    if os.path.basename(path) in action.names:
                        identity = storage.identify(path)
                        freed += 0 if identity is None else identity.size_bytes
                        try_unlink(storage, path)
        return freed, 0, 0

    def compact(self, action: Compact, *, now_us: int) -> Done:
        """Write a MANIFEST anew without what it says of files that are gone. Raises: as `clean_up`."""
        with self._committer.locked_agent(action.agent) as held:
            before = whole_manifest(held).identity.size_bytes
            self._committer.compact(held, at_us=now_us)
        manifest = self._engine.builder.manifest(action.agent)
        return before, 0 if manifest is None else manifest.identity.size_bytes, 0


def whole_manifest(held: LockedAgent) -> Manifest:
    """Raises: SourcesChangedError, CorruptionError: there is no MANIFEST, or it is damaged."""
    if held.manifest is None:
        raise SourcesChangedError(f"{held.directory} is gone")
    error = held.manifest.damage()
    if error is not None:
        raise error
    return held.manifest
