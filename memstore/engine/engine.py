"""One process's engine of one store: everything below the face, put together.

Opening reads STORE.json and the names in ``lanes/``, whatever the size of the store. The committer and the
maintenance thread start with the first append; a process that only reads has neither.
"""

from __future__ import annotations

import logging
import os
import secrets
import threading
import weakref

from memstore.cache.sieve import SieveCache
from memstore.clock import Clock
from memstore.config import Settings
from memstore.engine.appender import Appender
from memstore.engine.batch import Batch
from memstore.engine.catalog import Catalog, create_store
from memstore.engine.committer import Committer
from memstore.engine.consumers import Consumers
from memstore.engine.feed import Feed
from memstore.engine.forgotten import Forgotten
from memstore.engine.inventory import Inventory
from memstore.engine.lane_set import LaneSet
from memstore.engine.maintenance import DrainReport, Maintenance
from memstore.engine.merge import Merger
from memstore.engine.mirroring import Mirroring
from memstore.engine.piece_reader import PieceReader
from memstore.engine.read_notes import ReadNotes
from memstore.engine.rebalance import Rebalancer
from memstore.engine.record_reader import RecordReader
from memstore.engine.second_copy import why_read_only
from memstore.engine.spare import Spare
from memstore.engine.stamper import Stamper
from memstore.engine.vacant_root import check_vacant
from memstore.engine.view import ViewBuilder
from memstore.errors import ReadOnlyError, StorageError, StoreClosedError, UnsupportedError, UsageError
from memstore.format.names import StorePaths
from memstore.fs.handles import ReadHandles
from memstore.fs.storage import Storage
from memstore.manifest.cache import ManifestCache
from memstore.metrics import Metrics
from memstore.wal.lane import LaneWriter, create_lane

_log = logging.getLogger(__name__)
NETWORK_FILE_SYSTEMS = frozenset(
    {
        "nfs",
        "nfs4",
        "cifs",
        "smb3",
        "smbfs",
        "smb2",
        "9p",
        "ceph",
        "glusterfs",
        "lustre",
        "afs",
        "ncpfs",
        "beegfs",
        "virtiofs",
    }
)
"""Where locks and syncs cannot be trusted. FUSE file systems are refused too, by their ``fuse`` prefix."""


class Engine:
    """Thread-safe; survives fork (the child opens its own lane).

    Attributes:
        created: the store was made here.
        alone: why it is read-only though it was not opened so: it is one of two copies, and the other may know more.
    """

    def __init__(
        self, storage: Storage, root: str, *, settings: Settings, clock: Clock, read_only: bool, create: bool
    ) -> None:
        self.storage = storage
        self.paths = StorePaths(root)
        self.settings = settings
        self.clock = clock
        self.read_only = read_only
        self.metrics = Metrics()
        self.created = False
        self._closed = False
        self._start_lock = threading.Lock()
        self._prepare(create=create and not read_only)
        self.catalog = Catalog(storage, self.paths)
        self.alone: str | None = None
        if not read_only:
            self.alone = why_read_only(storage, self.paths, self.catalog.state)
            if self.alone is not None:
                _log.warning("%s", self.alone)
                self.read_only = read_only = True
        reading = settings.reading
        self.handles = ReadHandles(storage, files_max=reading.open_files_max)
        self.manifests = ManifestCache(
            storage,
            bytes_max=reading.manifest_index_bytes_max,
            on_change=lambda before, now: self.pieces.follow(before, now),  # noqa: PLW0108 - made below
        )
        self.lanes = LaneSet(
            storage,
            self.paths,
            handles=self.handles,
            index_bytes_max=reading.lane_index_bytes_max,
            known_end=self._known_end,
        )
        caching = settings.storage.caching
        self.pieces = PieceReader(
            storage,
            catalog=self.catalog,
            handles=self.handles,
            frames=SieveCache(clock, bytes_max=reading.frame_cache_bytes_max, ttl_s=caching.cache_ttl_minutes * 60),
        )
        self.builder = ViewBuilder(
            storage, catalog=self.catalog, lanes=self.lanes, manifests=self.manifests, pieces=self.pieces
        )
        self.spare = Spare(storage, self.paths, catalog=self.catalog, clock=clock, metrics=self.metrics)
        self.pieces.spare, self.builder.spare = self.spare.data, self.spare.builder
        self.mirroring = Mirroring(storage, self.paths, catalog=self.catalog, clock=clock, metrics=self.metrics)
        self.forgotten = Forgotten(storage, self.paths)
        self.read_notes = ReadNotes(storage, self.paths, clock=clock)
        self.reader = RecordReader(
            builder=self.builder,
            clock=clock,
            caching=caching,
            metrics=self.metrics,
            forgotten=self.forgotten,
            on_read=None if read_only else self.read_notes.note,
        )
        self.inventory = Inventory(storage, self.paths, catalog=self.catalog, lanes=self.lanes, builder=self.builder)
        self.rebalancer = Rebalancer(
            storage, self.paths, catalog=self.catalog, manifests=self.manifests, handles=self.handles
        )
        self.stamper = Stamper(clock, self.catalog.take_writer_number)
        self.appender = Appender(
            stamper=self.stamper,
            existing=self.reader.existing,
            record_bytes_max=settings.storage.record_bytes_max,
            batch_bytes_max=settings.writing.batch_bytes_max,
        )
        self.consumers = Consumers(storage, self.paths, lag_bytes_max=settings.merging.consumer_lag_bytes)
        self.feed = Feed(storage, self.paths)
        merger = Merger(
            storage,
            self.paths,
            clock=clock,
            catalog=self.catalog,
            manifests=self.manifests,
            lanes=self.lanes,
            consumers=self.consumers,
            forgotten=self.forgotten,
            metrics=self.metrics,
            run_bytes_max=settings.merging.run_bytes_max,
            file_syncs_max=settings.merging.file_syncs_max,
        )
        self.maintenance = Maintenance(
            storage,
            self.paths,
            clock=clock,
            catalog=self.catalog,
            merger=merger,
            mirroring=self.mirroring,
            metrics=self.metrics,
            writing=settings.writing,
            merging=settings.merging,
            ballast_bytes=settings.storage.ballast_bytes,
        )
        self._committer: Committer | None = None
        _engines.add(self)

    def submit(self, batch: Batch, *, wait_for_room: bool) -> None:
        """Hand a batch to the committer, starting it at the first one."""
        committer = self._committer or self._start()
        committer.submit(batch, wait_for_room=wait_for_room)

    @property
    def congested(self) -> bool:
        """Whether appenders should wait before they submit more."""
        return self._committer is not None and self._committer.full

    def wait_for_room(self) -> None:
        """Hold the calling thread until so little is pending that another batch may be submitted."""
        if self._committer is not None:
            self._committer.wait_for_room()

    def check_open(self) -> None:
        """Raises: StoreClosedError: it was closed."""
        if self._closed:
            raise StoreClosedError(f"{self.paths.root}: the store is closed; open it again")

    def check_writable(self) -> None:
        """Raises: StoreClosedError, ReadOnlyError."""
        self.check_open()
        if self.alone is not None:
            self.alone = why_read_only(self.storage, self.paths, self.catalog.reload())
            if self.alone is not None:
                raise ReadOnlyError(self.alone)
            self.read_only = False  # the other copy is back
        if self.read_only:
            raise ReadOnlyError(f"{self.paths.root}: the store was opened read-only")

    def drain(self, *, timeout_s: float) -> DrainReport:
        """Seal and merge every lane there is."""
        self.check_writable()
        return self.maintenance.drain(self._committer, timeout_s=timeout_s)

    def drain_locked(self, *, timeout_s: float) -> DrainReport:
        """`drain` for a caller that holds the merge lock."""
        self.check_writable()
        return self.maintenance.drain_locked(self._committer, timeout_s=timeout_s)

    def close(self) -> None:
        """Write what is pending, seal, merge if nobody else is at it, let go of everything. Idempotent."""
        with self._start_lock:
            if self._closed:
                return
            self._closed = True
            committer = self._committer
        if committer is not None:
            committer.close()
            self.maintenance.close(committer)
        if not self.read_only:
            self.read_notes.flush()
        self.reader.clear_caches()
        self.pieces.clear()
        self.handles.clear()
        self.spare.forget()
        self.forgotten.close()
        self.catalog.close()
        self.lanes.forget()
        self.manifests.clear()

    def _start(self) -> Committer:
        with self._start_lock:
            self.check_open()
            if self._committer is None:
                committer = Committer(
                    clock=self.clock,
                    settings=self.settings.writing,
                    new_lane=self._new_lane,
                    retire_lane=self.maintenance.retire,
                    metrics=self.metrics,
                )
                self.maintenance.start(committer)
                self._committer = committer
            return self._committer

    def _new_lane(self) -> LaneWriter:
        self.maintenance.make_room()
        lane = create_lane(
            self.storage,
            self.paths,
            store_id=self.catalog.state.store.id,
            writer_number=self.stamper.writer_number,
            token=secrets.token_hex(16),
            at_us=self.clock.now_us(),
            durable=self.settings.storage.durability == "fsync",
            created_s=self.clock.monotonic_s(),
        )
        try:
            return self.mirroring.attach(lane)
        except BaseException:
            lane.close()
            raise

    def _known_end(self, path: str) -> int | None:
        committer = self._committer
        return None if committer is None else committer.known_end(path)

    def _prepare(self, *, create: bool) -> None:
        """See that the root can be a store's, and lay one out where it may."""
        root, storage = self.paths.root, self.storage
        self.check_file_system(root)
        if not self.read_only and storage.exists(self.paths.backup_list):
            raise UsageError(
                f"{root} is a backup, which shares its files with others; open it read-only, or restore it "
                "(`memstore restore`)"
            )
        if storage.identify(self.paths.store_file) is None:
            check_vacant(storage, self.paths, create=create)
            sharding = self.settings.storage
            for volume in sharding.volumes:
                self.check_file_system(volume)
            create_store(
                storage,
                self.paths,
                clock=self.clock,
                shards=sharding.shards,
                volumes=[os.path.abspath(v) for v in sharding.volumes],
                ballast_bytes=sharding.ballast_bytes,
            )
            self.created = True
        if not self.read_only and not storage.is_writable(root):
            raise StorageError(f"{root} is not writable for this user; fix its permissions or open it read-only")

    def check_file_system(self, root: str) -> None:
        """Raises: UnsupportedError: a network file system, unless the settings force it."""
        if not self.settings.storage.allow_network_file_system:
            kind = self.storage.file_system_type(root)
            if kind in NETWORK_FILE_SYSTEMS or kind.startswith("fuse"):
                raise UnsupportedError(
                    f"{root} lies on {kind}: locks and syncs cannot be trusted there. Put it on a local disk, or "
                    "set storage.allow_network_file_system = true and accept that records may be lost"
                )

    def _after_fork_in_child(self) -> None:
        """The parent's lane, threads, pending batches and writer number stay the parent's; locks may have been held."""
        self._start_lock = threading.Lock()
        self._committer = None
        self.metrics.reset_lock()
        self.catalog.reset_lock()
        self.stamper.forget()
        self.maintenance.forget()
        self.lanes.reset_lock()
        self.forgotten.reset_lock()
        self.manifests.clear()
        self.handles.clear()
        self.pieces.clear()
        self.spare.forget()
        self.read_notes.reset()
        self.reader.clear_caches()


_engines: weakref.WeakSet[Engine] = weakref.WeakSet()


def _reset_engines_in_child() -> None:
    for engine in list(_engines):
        engine._after_fork_in_child()  # noqa: SLF001 - its own module


os.register_at_fork(after_in_child=_reset_engines_in_child)
