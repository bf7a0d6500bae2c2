"""Agents to the copy, a batch at a time, without any lock: those met in the middle of something are left for later.

A MANIFEST is not believed while a lane that it cites still waits in the store: its merge may not be synced, and would
be done otherwise after a power cut.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable
from functools import partial

from memstore.engine.engine import Engine
from memstore.errors import CorruptionError
from memstore.format.names import MANIFEST
from memstore.manifest.cache import ManifestCache
from memstore.manifest.index import Manifest
from memstore.replica.copied_lanes import waiting_tokens
from memstore.replica.copy_agent import AgentCopier
from memstore.replica.pass_report import PassState

_log = logging.getLogger(__name__)
AGENTS_PER_BATCH = 128
"""So many agents' files are synced together."""
MANIFEST_MEMORY_BYTES = 16 * 1024 * 1024


class AgentSweep:
    """Used by one thread at a time. Keeps in memory what it has seen, so that the next pass copies what is new.

    Args:
        engine: the store.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._storage = engine.storage
        self._manifests = ManifestCache(self._storage, bytes_max=MANIFEST_MEMORY_BYTES)
        self._seen: dict[str, tuple[bytes, int]] = {}

    def copy(self, directories: Iterable[str], copier: AgentCopier, state: PassState) -> list[str]:
        """Copy these agents; directories of those that were in the middle of something.

        Raises:
            StorageError: a volume is not there or refused; what was copied stays.
        """
        doubtful: list[str] = []
        batch: list[tuple[str, Manifest]] = []
        for directory in directories:
            if state.stop():
                state.report.stopped = True
                return doubtful
            try:
                manifest = self._manifests.get(directory)
            except CorruptionError as error:
                state.report.failed.append((os.path.basename(directory), error))
                continue
            if manifest is not None:
                batch.append((directory, manifest))
                for token in state.cited.keys() & manifest.merged.keys():
                    state.cited[token].add(manifest.agent)
            if len(batch) >= AGENTS_PER_BATCH:
                doubtful += self._copy_batch(batch, copier, state)
                batch = []
        return doubtful + self._copy_batch(batch, copier, state)

    def _copy_batch(self, batch: list[tuple[str, Manifest]], copier: AgentCopier, state: PassState) -> list[str]:
        doubtful: list[str] = []
        fresh = [(d, m) for d, m in batch if self._seen.get(d) != (m.header, m.end) or m.end != m.identity.size_bytes]
        for directory, _ in fresh:
            self._sync_manifest(directory)
        # After the MANIFESTs were read: a lane that is not among these was synced into whatever cites it.
        waiting = waiting_tokens(self._engine, kept=False)
        staged: list[tuple[str, Manifest]] = []
        fresh_directories = {directory for directory, _ in fresh}
        for directory, manifest in batch:
            if directory not in fresh_directories:
                state.done.add(manifest.agent)
                continue
            if manifest.end != manifest.identity.size_bytes or waiting & manifest.merged.keys():
                doubtful.append(directory)
                continue
            try:
                error = manifest.damage()
                if error is not None:
                    raise error
                state.report.changed += copier.stage(manifest)
                staged.append((directory, manifest))
            except FileNotFoundError:
                doubtful.append(directory)
            except CorruptionError as damage:
                _log.error("agent %r is not copied to the second copy: %s", manifest.agent, damage)
                state.report.failed.append((manifest.agent, damage))
        directories = {manifest.agent: directory for directory, manifest in staged}
        late = copier.finish(partial(self._hides_the_same, directories)) if copier.staged else set()
        for directory, manifest in staged:
            if manifest.agent in late:
                doubtful.append(directory)
                continue
            state.done.add(manifest.agent)
            self._seen[directory] = (manifest.header, manifest.end)
        return doubtful

    def _hides_the_same(self, directories: dict[str, str], agent: str, hidden: frozenset[str]) -> bool:
        try:
            manifest = self._manifests.get(directories[agent])
        except CorruptionError:
            return False
        return manifest is not None and manifest.hidden.ids == hidden

    def _sync_manifest(self, directory: str) -> None:
        """What a killed process wrote last may not be on disk yet; the copy must not be ahead of the store."""
        try:
            file = self._storage.open_update(os.path.join(directory, MANIFEST))
        except FileNotFoundError:  # it moves; its files will not be found, and it is looked at again
            return
        try:
            file.sync_data()
        finally:
            file.close()
