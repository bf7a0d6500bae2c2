"""One process's append-only log: create it, append commits, give it up.

Write order (DESIGN 5.3): temporary name, lock, header, rename, sync of ``lanes/``; only then the first commit. From
then on a commit is one write and one sync, and no lock is on the way.
"""

from __future__ import annotations

import os

from memstore.errors import StorageError
from memstore.format.lane import encode_header
from memstore.format.names import StorePaths, lane_name
from memstore.fs.atomic import temporary_path, try_unlink
from memstore.fs.storage import Storage, StorageFile


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

    def append(self, payload: bytes, slices: int) -> None:
        """Write one commit and, unless durability is ``os``, sync it.

        Raises:
            StorageFullError: nothing of it is in the lane.
            StorageError: not written (the lane was cut back), or, with ``broken`` set, unknown.
        """
        assert not self.broken
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
        self.end += len(payload)
        self.slices += slices

    def _cut(self) -> None:
        try:
            self.file.truncate(self.end)
        except StorageError:
            self.broken = True

    def close(self) -> None:
        """Release the lock: whoever finds it free may seal the lane."""
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
    """
    temporary = temporary_path(paths.lanes)
    path = os.path.join(paths.lanes, lane_name(writer_number, token))
    file = storage.create(temporary)
    try:
        if not file.try_lock():
            raise StorageError(f"{temporary}: a new file is locked by somebody else")
        header = encode_header(store=store_id, writer=writer_number, at=at_us, durability="fsync" if durable else "os")
        file.write(header, 0)
        # A power cut between here and the first commit must not leave a lane without its first line: nobody could tell
        # whose records it held.
        file.sync_data()
        storage.rename(temporary, path)
        storage.sync_directory(paths.lanes)
    except BaseException:
        try_unlink(storage, temporary)
        file.close()
        raise
    return LaneWriter(file, path, end=len(header), durable=durable, created_s=created_s)
