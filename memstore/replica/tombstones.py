"""What is forgotten is hidden in the second copy before anybody is told that it is forgotten.

The copy's MANIFESTs are written by passes; a tombstone cannot wait for the next one, for the copy may be all that is
left by then. So its line is appended to the copy's MANIFEST too, once it is durable in the store's, under the lock
under which a pass renames MANIFESTs into place. A copy that cannot take it is noted as behind first, as for an append.

::

    the store                                   the copy
    `changing` in FORGOTTEN
    `hide` in the agent's MANIFEST, synced
                                                `hide` in the agent's MANIFEST, synced; or `behind`, durably
    `forgotten` in FORGOTTEN, synced
                                                both lines in FORGOTTEN, if all before them are there
    acknowledged
"""

from __future__ import annotations

import contextlib
import logging
import os

from memstore.engine.catalog import Catalog
from memstore.engine.engine import Engine
from memstore.errors import StorageError
from memstore.format.forgotten import decode_forgotten
from memstore.format.names import MANIFEST, StorePaths
from memstore.format.store_file import ReplicaEntry
from memstore.fs.atomic import make_one_directory, try_unlink
from memstore.fs.storage import Storage, StorageFile
from memstore.manifest.reader import load_manifest
from memstore.manifest.writer import open_manifest

_log = logging.getLogger(__name__)
_SAME_BYTES = 4096
"""So much of the two FORGOTTEN files before the end of the copy's is compared: lines have checksums and times."""
FOLLOWED_BYTES_MAX = 4 * 1024 * 1024
"""A copy that lacks more than this of FORGOTTEN gets it with the next pass."""


class CopyTombstones:
    """Thread-safe: locks exclude threads too.

    Args:
        engine: the store.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._storage = engine.storage

    def append(self, agent: str, line: bytes, *, begun_us: int) -> None:
        """Append a line that is durable in the store's MANIFEST of an agent to the copy's. The merge lock is held.

        Args:
            agent: whose.
            line: a `hide` or `show` line.
            begun_us: when the agent's MANIFEST was begun, should the copy have none yet.

        Raises:
            StorageError: the copy does not have it, and that could not be noted; nobody may be told that it is done.
        """
        entry = self._entry()
        if entry is None:
            return
        try:
            with self._engine.mirroring.locked_copy(entry) as paths:
                home = Catalog(self._storage, paths).state.homes(agent)[0]
                make_one_directory(self._storage, home)
                _append_line(self._storage, home, agent, line, begun_us=begun_us)
        except (StorageError, FileNotFoundError) as error:
            self._engine.mirroring.note_behind(str(error))

    def follow_notes(self) -> None:
        """Append to the copy's FORGOTTEN what it lacks, if that tells of nothing but forgetting.

        What tells of anything else comes with the pass that copies what it tells of. Raises as `append`.
        """
        entry = self._entry()
        if entry is None:
            return
        try:
            with self._engine.mirroring.locked_copy(entry) as paths:
                self._follow(paths)
        except (StorageError, FileNotFoundError) as error:
            self._engine.mirroring.note_behind(str(error))

    def _entry(self) -> ReplicaEntry | None:
        """Where the copy is, if it is written to.

        Asked behind the store's own line: a copy that joins from now on is given that by the pass of its joining.
        """
        entry = self._engine.catalog.reload().store.replica
        return None if entry is None or entry.state == "behind" else entry

    def _follow(self, paths: StorePaths) -> None:
        ours = self._storage.open_read(self._engine.paths.forgotten)
        theirs = self._storage.open_write(paths.forgotten)
        try:
            end, size = theirs.identity().size_bytes, ours.identity().size_bytes
            start = max(end - _SAME_BYTES, 0)
            if not end < size <= end + FOLLOWED_BYTES_MAX or ours.read(start, end - start) != theirs.read(
                start, end - start
            ):
                return
            data = ours.read(end, size - end)
            if all(_tells_of_forgetting(line) for line in data.split(b"\n") if line):
                _write_at(theirs, data, end)
        finally:
            ours.close()
            theirs.close()
        self._storage.sync_directory(paths.root)


def _tells_of_forgetting(line: bytes) -> bool:
    entry = decode_forgotten(line)
    if entry is None:
        return False
    changing, act = entry.changing, entry.forgotten
    return (changing is not None and bool(changing.ids)) or (act is not None and act.act == "forget")


def _append_line(storage: Storage, home: str, agent: str, line: bytes, *, begun_us: int) -> None:
    known = load_manifest(storage, home)
    writer = open_manifest(storage, home, agent, known=known, at_us=begun_us, on_torn=_note_torn)
    try:
        end = writer.file.identity().size_bytes
        try:
            writer.append(line)
            writer.file.sync_data()
        except StorageError:
            # What a sync that failed has left is not to be believed: without the line, the next pass writes all anew.
            with contextlib.suppress(StorageError):
                writer.file.truncate(end)
            if known is None:
                try_unlink(storage, os.path.join(home, MANIFEST))
            raise
    finally:
        writer.file.close()
    if known is None:
        storage.sync_directory(home)


def _write_at(file: StorageFile, data: bytes, offset: int) -> None:
    try:
        file.write(data, offset)
        file.sync_data()
    except StorageError:
        with contextlib.suppress(StorageError):
            file.truncate(offset)
        raise


def _note_torn(path: str, length: int) -> None:
    _log.warning("%s: cutting a torn tail of %d bytes", path, length)
