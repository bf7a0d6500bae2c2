"""The second file of a lane, on another volume: the same bytes at the same offsets, synced at the same time.

It is written by a thread of its own, so that a commit costs the slower of two syncs and not their sum. It holds a lock
on its file as long as it is written to: whoever makes the copy the store has to find that nobody does.
"""

from __future__ import annotations

import os
from concurrent.futures import Executor, Future, ThreadPoolExecutor

from memstore.errors import StorageError
from memstore.format.names import StorePaths
from memstore.fs.storage import Storage, StorageFile
from memstore.wal.begin import begin_lane


class Mirror:
    """Used by the thread that owns the lane; the lane's ``end`` is the mirror's too.

    Args:
        file: open for writing and locked.
        durable: whether a commit is synced.
        executor: runs the writes; closed with the mirror.
    """

    def __init__(self, file: StorageFile, *, durable: bool, executor: Executor) -> None:
        self._file = file
        self._durable = durable
        self._executor = executor
        self._running: Future[None] | None = None

    @property
    def path(self) -> str:
        """Under which it was made."""
        return self._file.path

    def begin(self, payload: bytes, end: int) -> None:
        """Start to write a commit; `finish` says how it went."""
        self._running = self._executor.submit(self._write, payload, end)

    def finish(self) -> StorageError | None:
        """Wait for what `begin` started; what befell it, or None where it is as durable as was asked for."""
        running, self._running = self._running, None
        try:
            if running is not None:
                running.result()
        except StorageError as error:
            return error
        return None

    def cut(self, end: int) -> StorageError | None:
        """Take back a commit that the lane itself refused; what befell it."""
        error = self.finish()
        if error is not None:
            return error
        try:
            self._file.truncate(end)
        except StorageError as failure:
            return failure
        return None

    def close(self) -> None:
        """Wait for a write that nobody waits for any more, and release the lock."""
        self._running = None
        self._executor.shutdown(wait=True)
        self._file.close()

    def _write(self, payload: bytes, end: int) -> None:
        self._file.write(payload, end)
        if self._durable:
            self._file.sync_data()


def one_thread() -> Executor:
    """What writes a mirror, unless a test wants its calls in a fixed order."""
    return ThreadPoolExecutor(max_workers=1, thread_name_prefix="memstore-mirror")


def create_mirror(storage: Storage, paths: StorePaths, name: str, *, header: bytes, durable: bool) -> Mirror:
    """The mirror of a lane that has only its header yet, durable by name.

    Args:
        storage: where it lies.
        paths: the copy's.
        name: the lane's.
        header: the lane's first line.
        durable: whether commits are synced.

    Raises:
        StorageError: the copy's volume refused; nothing was created.
    """
    try:
        file = begin_lane(storage, os.path.join(paths.lanes, name), header)
    except FileNotFoundError as error:
        raise StorageError(f"{paths.lanes}: the second copy is not there") from error
    return Mirror(file, durable=durable, executor=one_thread())
