"""One process's append-only log: create it, append commits, give it up.

Write order (DESIGN 5.3): temporary name, lock, header, rename, sync of ``lanes/``; only then the first commit. From
then on a commit is one write and one sync, and no lock is on the way.

A lane that is mirrored writes each commit to two volumes at the same time and is done when both have it. When the
mirror fails, whoever attached it notes durably that the copy is behind before the commit counts; the lane goes on
alone.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from memstore.errors import StorageError
from memstore.format.lane import encode_header
from memstore.format.names import StorePaths, lane_name
from memstore.fs.storage import Storage, StorageFile
from memstore.wal.begin import begin_lane, lanes_are_gone
from memstore.wal.mirror import Mirror

MirrorLost = Callable[[StorageError], None]
"""Told why a mirror is given up; notes durably that the copy is behind, or raises `StorageError`."""


class LaneWriter:
    """An open lane. Used by one thread at a time; holds the lane's lock until closed.

    Attributes:
        path: where it lies.
        end: bytes that are committed; a crash or a failed write leaves at most garbage behind them.
        slices: how many slices its commits hold.
        created_s: monotonic time of its creation.
        broken: a sync failed, or a failed write could not be cut off: it must not be written again.
    """

    def __init__(self, file: StorageFile, path: str, *, end: int, durable: bool, created_s: float) -> None:
        self.file = file
        self.path = path
        self.end = end
        self.slices = 0
        self.created_s = created_s
        self.broken = False
        self._durable = durable
        self._mirror: Mirror | None = None
        self._on_lost: MirrorLost | None = None
        self._unnoted: StorageError | None = None

    @property
    def durable(self) -> bool:
        """Whether each commit is synced."""
        return self._durable

    def attach(self, mirror: Mirror, on_lost: MirrorLost) -> None:
        """Write every commit from the first one on to a second volume too."""
        assert self.slices == 0
        self._mirror, self._on_lost = mirror, on_lost

    def append(self, payload: bytes, slices: int) -> None:
        """Write one commit and, unless durability is ``os``, sync it.

        Raises:
            StorageFullError: nothing of it is in the lane.
            StorageError: not written (the lane was cut back), or, with ``broken`` set, unknown.
        """
        assert not self.broken
        if self._unnoted is not None:
            self._note_lost(self._unnoted)  # nothing may count here alone before that is noted
        if self._mirror is not None:
            self._mirror.begin(payload, self.end)
        try:
            self.file.write(payload, self.end)
        except StorageError:
            self._cut()
            raise
        if self._durable:
            try:
                self.file.sync_data()
            except StorageError:
                self.broken = True
                self._cut()
                raise
        if self._mirror is not None:
            self._settle(self._mirror)
        self.end += len(payload)
        self.slices += slices

    def _settle(self, mirror: Mirror) -> None:
        """Wait for the mirror; where it failed, the commit counts once that is noted."""
        error = mirror.finish()
        if error is None:
            return
        self._drop(mirror, error)
        try:
            self._note_lost(error)
        except StorageError:
            self._cut()
            raise

    def _drop(self, mirror: Mirror, error: StorageError) -> None:
        self._mirror, self._unnoted = None, error
        mirror.close()

    def _note_lost(self, error: StorageError) -> None:
        assert self._on_lost is not None
        self._on_lost(error)
        self._unnoted = None

    def _cut(self) -> None:
        mirror = self._mirror
        error = None if mirror is None else mirror.cut(self.end)
        if mirror is not None and error is not None:
            self._drop(mirror, error)
        try:
            self.file.truncate(self.end)
        except StorageError:
            self.broken = True

    def close(self) -> None:
        """Release the lock: whoever finds it free may seal the lane."""
        if self._mirror is not None:
            self._mirror.close()
            self._mirror = None
        self.file.close()


def create_lane(
    storage: Storage,
    paths: StorePaths,
    *,
    store_id: str,
    writer_number: int,
    token: str,
    at_us: int,
    durable: bool,
    created_s: float,
) -> LaneWriter:
    """A new lane, locked and durable by name.

    Raises:
        StorageFullError: no space; nothing was created.
        CorruptionError: the directory of the lanes is not there.
    """
    path = os.path.join(paths.lanes, lane_name(writer_number, token))
    header = encode_header(store=store_id, writer=writer_number, at=at_us, durability="fsync" if durable else "os")
    try:
        file = begin_lane(storage, path, header)
    except FileNotFoundError as error:
        raise lanes_are_gone(paths.lanes) from error
    return LaneWriter(file, path, end=len(header), durable=durable, created_s=created_s)
