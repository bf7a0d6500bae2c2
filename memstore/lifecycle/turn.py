"""Whose turn it is to change files: one run of maintenance, or one person who asked for something now.

A run of maintenance may take hours, and an erasure must not wait for it. So whoever waits for the lifecycle lock holds
a second lock meanwhile, and a run that finds that lock taken ends after the action in hand; its next run goes on.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from memstore.format.names import StorePaths
from memstore.fs.lock import locked, try_lock_file
from memstore.fs.storage import Storage, StorageFile

TURN_WAIT_S = 600.0
"""How long somebody waits for the action in hand: packing some hundred gigabytes of one month."""


@contextmanager
def own_turn(storage: Storage, paths: StorePaths) -> Iterator[None]:
    """Hold the lifecycle lock, asking a run of maintenance that has it to give way.

    Raises:
        LockedError: it did not, or another such call is at work.
    """
    with (
        locked(storage, paths.lock("lifecycle-wanted"), timeout_s=TURN_WAIT_S),
        locked(storage, paths.lock("lifecycle"), timeout_s=TURN_WAIT_S),
    ):
        yield


def try_turn(storage: Storage, paths: StorePaths) -> StorageFile | None:
    """The lifecycle lock, held until closed, or None where it is somebody else's turn."""
    return None if is_wanted(storage, paths) else try_lock_file(storage, paths.lock("lifecycle"))


def is_wanted(storage: Storage, paths: StorePaths) -> bool:
    """Whether somebody waits for the lifecycle lock, or holds it for something that was asked for."""
    wanted = try_lock_file(storage, paths.lock("lifecycle-wanted"))
    if wanted is None:
        return True
    wanted.close()
    return False
