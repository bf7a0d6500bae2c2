"""Who may do what: exclusive locks between processes and threads.

Locks are ``flock`` on files that nobody opens for anything else (``lockf`` is lost when any descriptor of the file
closes). Two descriptors of one process exclude each other too, so one lock serves processes and threads alike. The
kernel releases a dead holder's lock; nothing has to be cleaned up.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Self

from memstore.errors import LockedError
from memstore.fs.storage import Storage, StorageFile

_POLL_FIRST_S = 0.001
_POLL_MAX_S = 0.05


def try_lock_file(storage: Storage, path: str) -> StorageFile | None:
    """The lock's file, held until closed, or None where somebody else holds it."""
    file = storage.open_write(path)
    if file.try_lock():
        return file
    file.close()
    return None


def is_locked(storage: Storage, path: str) -> bool:
    """Whether somebody holds the lock of a file, which need not be there."""
    try:
        file = storage.open_read(path)
    except FileNotFoundError:
        return False
    try:
        return not file.try_lock()
    finally:
        file.close()


@contextmanager
def locked(storage: Storage, path: str, *, timeout_s: float = 60.0) -> Iterator[None]:
    """Hold a lock for the length of a ``with``.

    Args:
        storage: where the lock file lies.
        path: a file under ``locks/`` or a shard's ``.lock``; created if it is not there.
        timeout_s: how long to wait for another holder.

    Raises:
        LockedError: somebody else held it all that time.
    """
    with HeldLocks(storage) as locks:
        locks.take(path, timeout_s=timeout_s)
        yield


class HeldLocks:
    """Several locks, given back together; a context.

    No ``ExitStack``: one that Ctrl-C interrupts is part of a reference cycle, and keeps what it holds until that is
    collected.
    """

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._files: list[StorageFile] = []

    def take(self, path: str, *, timeout_s: float = 60.0) -> None:
        """One more. Arguments and errors as of `locked`."""
        file = self._storage.open_write(path)
        self._files.append(file)
        # Polling, because a blocking flock can neither time out nor be interrupted from another thread.
        deadline = time.monotonic() + timeout_s
        pause_s = _POLL_FIRST_S
        while not file.try_lock():
            if time.monotonic() >= deadline:
                raise LockedError(
                    f"{path}: held by another process for over {timeout_s:g} s; try again when it is done"
                )
            time.sleep(pause_s)
            pause_s = min(pause_s * 2, _POLL_MAX_S)

    def release(self) -> None:
        """Give them all back. Idempotent."""
        while self._files:
            self._files.pop().close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.release()
