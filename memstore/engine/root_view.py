"""Reads the agents of a tree that is not opened as a store: the second copy, beside the store that it belongs to."""

from __future__ import annotations

from dataclasses import dataclass

from memstore.cache.sieve import SieveCache
from memstore.clock import Clock
from memstore.engine.catalog import Catalog
from memstore.engine.inventory import Inventory
from memstore.engine.lane_set import LaneSet
from memstore.engine.piece_reader import PieceReader
from memstore.engine.view import ViewBuilder
from memstore.format.names import StorePaths
from memstore.fs.handles import ReadHandles
from memstore.fs.storage import Storage
from memstore.manifest.cache import ManifestCache

OPEN_FILES_MAX = 32
FRAME_CACHE_BYTES = 4 * 1024 * 1024
INDEX_BYTES = 16 * 1024 * 1024
"""What a tree that is read so may take, for lanes and for MANIFESTs each: such reads are the exception."""


@dataclass(frozen=True, slots=True)
class RootView:
    """What reads a tree.

    Attributes:
        root: the tree's.
        builder: takes snapshots of its agents.
        inventory: lists them.
    """

    root: str
    builder: ViewBuilder
    inventory: Inventory


def view_of_root(storage: Storage, root: str, *, clock: Clock) -> RootView:
    """What reads the agents below a root, from what is durable there; nothing stands in for what is damaged.

    Raises:
        StorageError: its STORE.json cannot be read.
    """
    paths = StorePaths(root)
    catalog = Catalog(storage, paths)
    handles = ReadHandles(storage, files_max=OPEN_FILES_MAX)
    frames: SieveCache[bytes] = SieveCache(clock, bytes_max=FRAME_CACHE_BYTES, ttl_s=60)
    pieces = PieceReader(storage, catalog=catalog, handles=handles, frames=frames)
    lanes = LaneSet(storage, paths, handles=handles, index_bytes_max=INDEX_BYTES, known_end=_unknown)
    manifests = ManifestCache(storage, bytes_max=INDEX_BYTES, on_change=pieces.follow)
    builder = ViewBuilder(storage, catalog=catalog, lanes=lanes, manifests=manifests, pieces=pieces)
    return RootView(root, builder, Inventory(storage, paths, catalog=catalog, lanes=lanes, builder=builder))


def _unknown(_path: str) -> int | None:
    """How far a lane is committed, only its bytes say."""
    return None
