"""The last steps of an erasure: remove torn tails, scan every file, say what is left, and write the receipt.

What counts is what was there when the erasure began. Lanes that were made after the drain, and the agent's directory
that was empty when the merge lock was let go, hold only what was written since, and are left out.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from dataclasses import dataclass, field

from memstore.engine.engine import Engine
from memstore.format.forgotten import Erased
from memstore.format.names import KEPT_SUFFIX, StorePaths, is_lane_name, lane_token
from memstore.fs.atomic import try_unlink
from memstore.fs.trees import files_below
from memstore.lifecycle.erase_agent import AgentPlaces
from memstore.lifecycle.erase_backups import backups_before
from memstore.lifecycle.erase_records import Traces
from memstore.lifecycle.needles import Needles
from memstore.lifecycle.proof_scan import Progress, ScanResult, holds_erased, scan_places
from memstore.lifecycle.receipt import Pending, Receipt, Scanned


@dataclass(slots=True)
class EraseJob:
    """One erasure on its way through the steps.

    Attributes:
        needles: by which its lines are searched for.
        lanes: tokens of the lanes there were before the drain.
        late: whether some of those could not be merged.
        emptied: the agent's places, where they hold only what was written since; None where single records go.
        at: when it began; 0 until its intent is noted.
        intent: id of its entries in FORGOTTEN.
        traces: what was done.
    """

    needles: Needles
    lanes: frozenset[str] = frozenset()
    late: bool = False
    emptied: AgentPlaces | None = None
    at: int = 0
    intent: str = ""
    traces: Traces = field(default_factory=Traces)


class EraseProof:
    """Ends erasures. The caller holds the lifecycle lock and the rebalance lock, so that no file moves meanwhile."""

    def __init__(self, engine: Engine, *, settle_copy: Callable[[], str | None]) -> None:
        self._engine = engine
        self._storage = engine.storage
        self._settle_copy = settle_copy

    def finish(
        self,
        job: EraseJob,
        *,
        agent: str | None = None,
        ids: int = 0,
        not_found: tuple[str, ...] = (),
        progress: Progress | None,
    ) -> Receipt:
        """Prove it, and note that the erasure was carried out.

        Args:
            job: what was done.
            agent: whose records were erased; None where they were given by id.
            ids: how many ids were given.
            not_found: ids that no record had.
            progress: told how many of all files have been looked at.
        """
        self._remove_what_was_put_aside(job)
        state = self._engine.catalog.reload()
        places = [self._engine.paths.root, *state.shard_paths.values()]
        copy = state.store.replica
        if copy is not None:
            why = self._settle_copy()
            if why is not None:
                job.traces.pending.append(
                    Pending(copy.path, f"{why}; erased records go from the second copy when it is brought up to date")
                )
            if self._storage.identify(copy.path) is not None:
                places.append(copy.path)
        if self._storage.identify(state.archive) is not None or state.store.archive is not None:
            places.append(state.archive)
        result = scan_places(
            self._storage,
            places,
            needles=job.needles,
            hashes=job.traces.hashes,
            is_newer=self._newer_files(job),
            progress=progress,
        )
        pending = self._pending(job, result)
        finished = self._engine.clock.now_us()
        self._engine.forgotten.note(
            Erased(id=job.intent, at=finished, records=job.traces.records, pending=len(pending))
        )
        return Receipt(
            agent=agent,
            ids=ids,
            at=job.at,
            finished=finished,
            records=job.traces.records,
            files_removed=tuple(map(self._shown, job.traces.removed)),
            files_rewritten=tuple(map(self._shown, job.traces.rewritten)),
            scan=Scanned(
                files=result.files,
                bytes=result.bytes,
                unpacked_bytes=result.unpacked_bytes,
                lines=result.lines,
                newer_files=result.newer_files,
                how=f"every file was searched for {job.needles.how}{job.traces.hashes.how}",
            ),
            found=tuple(dataclasses.replace(each, where=self._shown(each.where)) for each in result.found),
            pending=pending,
            not_found=not_found,
            backups=backups_before(self._engine, job.at),
        )

    def _remove_what_was_put_aside(self, job: EraseJob) -> None:
        """Remove torn tails and what repairs have set aside, where they hold an erased line: nobody reads them."""
        paths = self._engine.paths
        for directory in (paths.recovery_log, paths.quarantine):
            gone = [path for path in files_below(self._storage, directory) if self._is_to_go(job, path)]
            for path in gone:
                try_unlink(self._storage, path)
            for parent in sorted({os.path.dirname(path) for path in gone}):
                self._storage.sync_directory(parent)
            job.traces.removed += gone

    def _is_to_go(self, job: EraseJob, path: str) -> bool:
        """Whether a file holds an erased line, or is all of an agent that is erased, damaged as it may be."""
        name = None if job.emptied is None else job.emptied.name
        if name is not None and name in path.split(os.sep):
            return True
        return holds_erased(self._storage, path, needles=job.needles, hashes=job.traces.hashes)

    def _newer_files(self, job: EraseJob) -> Callable[[str], bool]:
        """What tells files that hold only what was written since the erasure began."""
        emptied, copy = job.emptied, self._engine.catalog.state.store.replica
        directories = {self._engine.paths.lanes}
        if copy is not None:
            directories.add(StorePaths(copy.path).lanes)

        def is_newer(path: str) -> bool:
            parent, name = os.path.split(path)
            if parent in directories:
                return is_lane_name(name) and lane_token(name) not in job.lanes
            if emptied is None:
                return False
            in_copy = copy is not None and path.startswith(copy.path + os.sep) and emptied.name in path.split(os.sep)
            return in_copy or emptied.are_within(path)

        return is_newer

    def _pending(self, job: EraseJob, result: ScanResult) -> tuple[Pending, ...]:
        """Each place once, with the first reason that was found."""
        found = [Pending(each.where, self._why_left(each.where)) for each in result.found]
        by_place: dict[str, Pending] = {}
        for each in (*job.traces.pending, *found, *result.unread):
            by_place.setdefault(each.where, each)
        return tuple(dataclasses.replace(each, where=self._shown(each.where)) for each in by_place.values())

    def _why_left(self, path: str) -> str:
        parent, name = os.path.split(path)
        if parent == self._engine.paths.lanes and name.endswith(KEPT_SUFFIX):
            return "lines of erased records are in a lane that is kept for repair, for a part of it is damaged"
        if parent == self._engine.paths.lanes:
            return "lines of erased records are in a lane not sealed in time; erase again when its process has ended"
        return "lines of erased records are in it, and no MANIFEST lists it; look at it and remove it"

    def _shown(self, path: str) -> str:
        """Relative to the root where it lies below it."""
        root = self._engine.paths.root
        return os.path.relpath(path, root) if path.startswith(root + os.sep) else path
