"""The file of a lane, begun: a name that stands has its first line behind it, and its lock is held from before that on.

Nobody takes a lane for one that was given up before its owner could lock it, and a power cut between here and the
first commit must not leave a lane without its first line: nobody could tell whose records it held.
"""

from __future__ import annotations

import os

from memstore.errors import CorruptionError, StorageError
from memstore.fs.atomic import temporary_path, try_unlink
from memstore.fs.storage import Storage, StorageFile

LANES_ARE_GONE = (
    "the directory is missing, and what had not been merged with it; some tools that copy trees leave out what is empty"
)


def lanes_are_gone(directory: str) -> CorruptionError:
    """What to tell where the directory of the lanes is not there: nobody knows what was in it."""
    return CorruptionError(directory, offset_bytes=0, length_bytes=0, reason=LANES_ARE_GONE)


def begin_lane(storage: Storage, path: str, header: bytes) -> StorageFile:
    """A new lane that has only its first line, open and locked, durable by name.

    Raises:
        FileNotFoundError: its directory is not there.
        StorageFullError: no space; nothing was created.
        StorageError: refused; nothing was created.
    """
    directory = os.path.dirname(path)
    temporary = temporary_path(directory)
    file = storage.create(temporary)
    try:
        if not file.try_lock():
            raise StorageError(f"{temporary}: a new file is locked by somebody else")
        file.write(header, 0)
        file.sync_data()
        storage.rename(temporary, path)
        file.path = path
        storage.sync_directory(directory)
    except BaseException:
        try_unlink(storage, temporary)
        file.close()
        raise
    return file
