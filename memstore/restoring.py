"""Bring a whole store back from a backup: a function and no method, for the store may be gone."""

from __future__ import annotations

import os

from memstore.backup.report import RestoreReport
from memstore.backup.restore import Progress, restore_store
from memstore.clock import Clock, WallClock
from memstore.filters import TimeArgument
from memstore.fs.local import LocalStorage
from memstore.timestamps import parse_time


def restore(
    destination: str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    at: TimeArgument | None = None,
    point: str | None = None,
    replace: bool = False,
    discard_old: bool = False,
    beside: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
    clock: Clock | None = None,
) -> RestoreReport:
    """Restore a store from a directory of backups.

    It is built beside its place and swapped in at the end; whatever fails leaves what stands there untouched.

    Args:
        destination: where the backups are.
        target: the root of the restored store: a new or empty directory, or, with ``replace``, the store itself.
        at: the moment, be it between two backups; that of the newest backup unless given.
        point: the name of a backup to begin from; the newest that is not behind the moment unless given.
        replace: swap the store at the target for the restored one; the old one is kept beside it.
        discard_old: remove the old one.
        beside: root of the store that was backed up, where it is still there and not the target: what was erased from
            it since does not come back.
        progress: told how many bytes are done, and how many there are.
        clock: for tests.

    Returns:
        What was done, and whether something is known to be missing (``is_complete``).

    Raises:
        NotFoundError: there is no such backup, or none as old as that.
        UsageError: something else is at the target, or the moment is still to come.
        CorruptionError: a file of the backup is not what was backed up.
        LockedError: a process still writes to the store at the target.
        StorageFullError: there is no room.
    """
    used = clock or WallClock()
    return restore_store(
        LocalStorage(),
        os.fspath(destination),
        os.fspath(target),
        clock=used,
        at_us=None if at is None else parse_time(at, now_us=used.now_us()),
        point=point,
        replace=replace,
        discard_old=discard_old,
        beside=None if beside is None else os.fspath(beside),
        progress=progress,
    )
