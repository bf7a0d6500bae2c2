"""One pass over the store: every agent's files to the copy, then away with the copy's lanes that they hold.

The copy has its own lanes, written by the appenders before they acknowledge, so no lane of the store waits for it. A
lane of the copy goes when the store has merged it and every agent in it was seen, by this pass, with a MANIFEST that is
durable: at any moment the copy's files and its lanes together hold everything.

A MANIFEST is not believed while a lane that it cites still waits in the store: its merge may not be synced, and would
be done otherwise after a power cut. Most agents are copied without any lock; those met in the middle of a merge are
looked at again under the merge lock.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from memstore.engine.catalog import Catalog, check_shard_is_there
from memstore.engine.engine import Engine
from memstore.errors import LockedError, StorageError
from memstore.format.names import StorePaths
from memstore.fs.lock import try_lock_file
from memstore.replica.copied_lanes import CopiedLanes, waiting_tokens
from memstore.replica.copy_agent import AgentCopier, Anew
from memstore.replica.copy_small_files import copy_small_files, follow_forgotten
from memstore.replica.erased_agents import erased_agents, remove_erased
from memstore.replica.pass_report import PassReport, PassState
from memstore.replica.sweep_agents import AgentSweep

MERGE_WAIT_S = 60.0
_LOCK_POLL_S = 0.05


class StoreCopier:
    """Used by one thread at a time, which holds the store's ``locks/replica``.

    Args:
        engine: the store.
        root: of the copy.
    """

    def __init__(self, engine: Engine, root: str) -> None:
        self._engine = engine
        self._storage = engine.storage
        self._paths = StorePaths(root)
        self._sweep = AgentSweep(engine)
        self._lanes = CopiedLanes(engine, self._paths)

    @property
    def root(self) -> str:
        """Of the copy."""
        return self._paths.root

    def run(self, stop: Callable[[], bool], *, anew: Anew | None = None, joins: bool = False) -> PassReport:
        """Copy what is new.

        Args:
            stop: asked between two agents.
            anew: see `AgentCopier`; agents whose directories are named are looked at even if nothing of them is new.
            joins: the copy was away: its lanes may be so old that what was in them has gone from the store since.

        Raises:
            StorageError: a volume is not there or refused; what was copied stays, and the next pass goes on.
        """
        catalog = Catalog(self._storage, self._paths)
        # The copy's lanes first: each was made in the store before it was made here, so what the store does not have
        # any more has been merged there, and the MANIFESTs that are read from now on say so.
        lanes = self._lanes.by_token()
        merged = lanes.keys() - waiting_tokens(self._engine, kept=True)
        state = PassState(stop, {token: set() for token in merged}, erased_agents(self._engine))
        report = state.report
        copier = AgentCopier(
            self._storage,
            source=self._engine.pieces,
            root=self._paths.root,
            catalog=catalog,
            tokens=frozenset(lanes),
            anew=anew or {},
            erased=state.erased,
        )
        try:
            self._copy(copier, state)
        finally:
            copier.close()
        report.bytes = copier.copied_bytes
        report.agents = len(state.done)
        if not report.stopped:
            with self._merge_lock(stop):
                state.erased = erased_agents(self._engine)
                remove_erased(self._engine, catalog, state)
                spent = self._lanes.spent(lanes, state, joins=joins)
            report.lanes = self._lanes.remove(catalog, spent)
            self._lanes.remove_leftovers()
        return report

    def _copy(self, copier: AgentCopier, state: PassState) -> None:
        """Everything but lanes: holds first, for they forbid what the MANIFESTs would allow."""
        ours, copy, report = self._engine.paths, self._paths, state.report
        copy_small_files(self._storage, ours, copy)
        forgotten = self._engine.forgotten.epoch()
        doubtful = self._sweep.copy(self._homes(), copier, state)
        if doubtful and not report.stopped:
            with self._merge_lock(state.stop):
                for directory in self._sweep.copy(doubtful, copier, state):
                    why = f"{directory}: a merge that was stopped is still to be repeated"
                    report.failed.append((os.path.basename(directory), StorageError(why)))
        # Behind the MANIFESTs, and not beyond what they reflect: it tells the copy's readers that their caches are
        # stale.
        follow_forgotten(self._storage, ours, copy, end=forgotten)

    @contextmanager
    def _merge_lock(self, stop: Callable[[], bool]) -> Iterator[None]:
        """Hold the merge lock; a process that is to end does not wait for it.

        Raises:
            LockedError: somebody else held it all the time, or it is time to stop.
        """
        path = self._engine.paths.lock("merge")
        deadline_s = self._engine.clock.monotonic_s() + MERGE_WAIT_S
        while (lock := try_lock_file(self._storage, path)) is None:
            if stop() or self._engine.clock.monotonic_s() >= deadline_s:
                raise LockedError(f"{path}: held by another process; the next pass goes on")
            time.sleep(_LOCK_POLL_S)
        try:
            yield
        finally:
            lock.close()

    def _homes(self) -> Iterator[str]:
        """Directories of all agents of the store."""
        for shard in self._engine.catalog.reload().shard_paths.values():
            check_shard_is_there(self._storage, shard)
            for entry in self._storage.list_directory(shard):
                if entry.is_directory and not entry.name.startswith("."):
                    yield os.path.join(shard, entry.name)
