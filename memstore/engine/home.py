"""The one place where an agent is written to: its directory, found or made under its shard's lock."""

from __future__ import annotations

import logging
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager

from memstore.engine.catalog import Catalog, check_shard_is_there
from memstore.format.names import MANIFEST, SHARD_LOCK, TRASH_DIRECTORY
from memstore.fs.atomic import make_directories
from memstore.fs.lock import HeldLocks
from memstore.fs.storage import Storage

_log = logging.getLogger(__name__)


@contextmanager
def home_for_writing(storage: Storage, catalog: Catalog, agent: str) -> Iterator[str]:
    """The agent's directory, with the lock of its shard (and, while agents are being moved, of its old one) held.

    The caller holds the merge lock, so no mover is at work. An agent that has not been moved yet is written where it
    is; one that is new is created where it belongs now. Where a move between volumes was killed after its copy was
    complete, the copy counts and the original goes to the trash.
    """
    homes = catalog.reload().homes(agent)
    with HeldLocks(storage) as locks:
        for shard in sorted({os.path.dirname(home) for home in homes}):
            check_shard_is_there(storage, shard)
            locks.take(os.path.join(shard, SHARD_LOCK))
        there = [home for home in homes if storage.identify(os.path.join(home, MANIFEST)) is not None]
        for left_over in there[1:]:
            move_to_trash(storage, left_over)
        home = there[0] if there else homes[0]
        if not there and storage.identify(home) is None:
            storage.make_directory(home)
        yield home


def move_to_trash(storage: Storage, directory: str) -> None:
    """Put an agent's directory out of the way, durably; nothing is deleted here. The caller holds the shard's lock."""
    trash = os.path.join(os.path.dirname(directory), TRASH_DIRECTORY)
    make_directories(storage, trash)
    target = os.path.join(trash, f"{os.path.basename(directory)}.{secrets.token_hex(8)}")
    _log.info("%s: moved to %s", directory, target)
    storage.rename(directory, target)
    storage.sync_directory(trash)
    storage.sync_directory(os.path.dirname(directory))
