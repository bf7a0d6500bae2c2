"""Read from the second copy what the store itself cannot give.

Two ways. A block, frame or slice that does not verify or cannot be read is read from the copy and held against the same
checksum: so it does not matter how far behind the copy is. Where a whole agent cannot be read (its volume is gone, its
MANIFEST damaged), all of it is read from the copy as a store of its own, lanes first: only from one that holds every
acknowledged record. Each is counted and logged; nothing is repaired here.
"""

from __future__ import annotations

import logging
import os
import threading

from memstore.clock import Clock
from memstore.engine.catalog import Catalog
from memstore.engine.piece import Piece, SlicePiece
from memstore.engine.root_view import RootView, view_of_root
from memstore.engine.second_copy import standing_of
from memstore.engine.view import ViewBuilder
from memstore.errors import MemstoreError
from memstore.format.names import LANE_SUFFIX, StorePaths
from memstore.fs.storage import Storage
from memstore.fs.verified import read_listed
from memstore.manifest.index import Manifest
from memstore.metrics import Metrics

_log = logging.getLogger(__name__)
_TOLD_MAX = 1000


class Spare:
    """Thread-safe. Opens nothing before it is needed.

    Args:
        storage: where both copies lie.
        paths: the store's.
        catalog: the store's; it says where the copy is.
        clock: for caches.
        metrics: counts what was read from the copy (``reads_from_replica``).
    """

    def __init__(
        self, storage: Storage, paths: StorePaths, *, catalog: Catalog, clock: Clock, metrics: Metrics
    ) -> None:
        self._storage = storage
        self._paths = paths
        self._catalog = catalog
        self._clock = clock
        self._metrics = metrics
        self._lock = threading.Lock()
        self._copy: RootView | None = None
        self._told: set[tuple[str, int]] = set()

    def data(self, manifest: Manifest | None, piece: Piece, why: Exception) -> bytes | None:
        """The verified bytes of a piece that the store cannot give; None where the copy cannot either.

        Args:
            manifest: the store's.
            piece: which.
            why: what befell the store's.
        """
        try:
            copy = self._opened()
            if copy is None:
                return None
            data = self._slice(copy, piece) if isinstance(piece, SlicePiece) else self._stored(copy, manifest, piece)
        except (MemstoreError, FileNotFoundError):
            return None
        if data is not None:
            self._tell(str(why), (str(why)[:200], piece.offset))
        return data

    def builder(self, why: Exception) -> ViewBuilder | None:
        """What reads agents from the copy, if it holds every acknowledged record.

        Args:
            why: what befell the store.
        """
        entry = self._catalog.state.store.replica
        try:
            copy = self._opened() if entry is not None and entry.state == "ok" else None
            if copy is None or not self._knows_what_was_forgotten(copy):
                return None
        except (MemstoreError, FileNotFoundError):
            return None
        self._tell(str(why), (str(why)[:200], -1))
        return copy.builder

    def _knows_what_was_forgotten(self, copy: RootView) -> bool:
        """Whether the copy hides all that the store hides, as far as the store can still be asked."""
        ours = self._storage.identify(self._paths.forgotten)
        theirs = self._storage.identify(StorePaths(copy.root).forgotten)
        return ours is None or (theirs is not None and theirs.size_bytes == ours.size_bytes)

    def forget(self) -> None:
        """Close what is open; a new lock too, for a forked child may have inherited a held one."""
        self._lock = threading.Lock()
        self._copy = None

    def _slice(self, copy: RootView, piece: SlicePiece) -> bytes:
        # Of a lane that waits for repair in the store, the copy has what was mirrored.
        name = os.path.splitext(os.path.basename(piece.file.path))[0] + LANE_SUFFIX
        file = self._storage.open_read(os.path.join(StorePaths(copy.root).lanes, name))
        try:
            return read_listed(file, piece)
        finally:
            file.close()

    def _stored(self, copy: RootView, manifest: Manifest | None, piece: Piece) -> bytes | None:
        assert manifest is not None
        theirs = copy.builder.manifest(manifest.agent)
        return None if theirs is None else copy.builder.reader.data(theirs, piece)

    def _opened(self) -> RootView | None:
        """The copy; None where there is none, or something else stands there."""
        store = self._catalog.state.store
        entry = store.replica
        if entry is None:
            return None
        with self._lock:
            if self._copy is None or self._copy.root != entry.path:
                if standing_of(self._storage, entry, store.id, root=self._paths.root) != "copy":
                    return None
                self._copy = view_of_root(self._storage, entry.path, clock=self._clock)
            return self._copy

    def _tell(self, why: str, place: tuple[str, int]) -> None:
        self._metrics.add("reads_from_replica")
        if place not in self._told:
            if len(self._told) >= _TOLD_MAX:
                self._told.clear()
            self._told.add(place)
            _log.warning("read from the second copy, for the store cannot give it: %s", why)
