"""Every new lane gets its mirror on the second volume, and the store notes when it cannot.

The order makes the state in STORE.json true. A lane is visible in the store before the state is read for it: so whoever
turns the state from ``behind`` to ``joining`` and then lists the lanes sees every lane that was made without a mirror.
And a commit that only one volume has counts only after ``behind`` is durable there.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import msgspec

from memstore.clock import Clock
from memstore.engine.catalog import Catalog
from memstore.engine.second_copy import is_copy_of, read_store_file
from memstore.errors import StorageError
from memstore.format.names import StorePaths
from memstore.format.store_file import ReplicaEntry, StoreFile
from memstore.fs.lock import locked
from memstore.fs.storage import Storage, StorageFile
from memstore.metrics import Metrics
from memstore.wal.complete_mirror import complete_mirror
from memstore.wal.lane import LaneWriter
from memstore.wal.mirror import Mirror, create_mirror

_log = logging.getLogger(__name__)


class Mirroring:
    """Thread-safe: its state is in STORE.json.

    Args:
        storage: where both copies lie.
        paths: the store's.
        catalog: the store's.
        clock: stamps the state.
        metrics: counters.
    """

    def __init__(
        self, storage: Storage, paths: StorePaths, *, catalog: Catalog, clock: Clock, metrics: Metrics
    ) -> None:
        self._storage = storage
        self._paths = paths
        self._catalog = catalog
        self._clock = clock
        self._metrics = metrics

    def attach(self, lane: LaneWriter) -> LaneWriter:
        """Mirror a lane that is new, where the store has a copy that is written to.

        Raises:
            StorageError: there is one, it failed, and that could not be noted; the lane must not be written.
        """
        entry = self._catalog.reload().store.replica
        if entry is None or entry.state == "behind":
            return lane
        try:
            mirror = self._mirror_of(lane, entry)
        except (StorageError, FileNotFoundError) as error:
            self.note_behind(str(error))
            return lane
        lane.attach(mirror, self._lost)
        return lane

    def complete(self, lane: StorageFile, end: int) -> None:
        """Let the mirror of a dead writer's lane have all of it; see `complete_mirror`.

        Args:
            lane: locked.
            end: of its commits.

        Raises:
            StorageError: the copy failed, and that could not be noted.
        """
        entry = self._catalog.reload().store.replica
        if entry is None or entry.state == "behind":
            return
        try:
            with self.locked_copy(entry) as paths:
                complete_mirror(self._storage, lane, os.path.join(paths.lanes, os.path.basename(lane.path)), end=end)
        except (StorageError, FileNotFoundError) as error:
            self.note_behind(str(error))

    def note_behind(self, why: str) -> None:
        """Note durably that the copy may lack records from now on.

        Raises:
            StorageError: it could not be noted; nothing may be acknowledged that the copy does not have.
        """
        self._catalog.update(partial(_behind, at_us=self._clock.now_us(), why=why))
        self._metrics.add("replica_lost")
        _log.error("the second copy is behind from now on: %s", why)

    def _lost(self, error: StorageError) -> None:
        self.note_behind(str(error))

    @contextmanager
    def locked_copy(self, entry: ReplicaEntry) -> Iterator[StorePaths]:
        """Hold the lock under which a copy is made the store, having seen that it is still a copy of this one.

        Raises:
            StorageError: it is not there, or no copy of this store any more.
        """
        paths = StorePaths(entry.path)
        if read_store_file(self._storage, paths) is None:
            raise StorageError(f"{entry.path}: the second copy is not there; mount its volume")
        with locked(self._storage, paths.lock("store")):
            there = read_store_file(self._storage, paths)
            same = there is not None and there.id == self._catalog.state.store.id
            if there is None or not same or not is_copy_of(there, self._paths.root):
                raise StorageError(f"{entry.path} is no copy of this store any more; see `memstore replica status`")
            yield paths

    def _mirror_of(self, lane: LaneWriter, entry: ReplicaEntry) -> Mirror:
        # It is not made the store as long as it has a lane that is written.
        with self.locked_copy(entry) as paths:
            header = lane.file.read(0, lane.end)
            name = os.path.basename(lane.path)
            return create_mirror(self._storage, paths, name, header=header, durable=lane.durable)


def _behind(store: StoreFile, *, at_us: int, why: str) -> StoreFile:
    entry = store.replica
    if entry is None or entry.state == "behind":
        return store
    changed = ReplicaEntry(path=entry.path, state="behind", since=at_us, turn=entry.turn + 1, why=why)
    return msgspec.structs.replace(store, replica=changed)
