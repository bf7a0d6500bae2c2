"""The daemon's sign of life: one small JSON file, replaced whole, there while the daemon runs.

Not synced: it tells about a process, and after a power cut there is none. A file whose ``time`` is older than a few
times ``every_s`` was left by a daemon that was killed.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import orjson

from memstore.format.names import StorePaths
from memstore.fs.atomic import TEMPORARY_PREFIX, make_directories, temporary_path, try_unlink
from memstore.fs.storage import Storage

_BYTES_MAX = 1 << 20


class Heartbeat:
    """Writes and removes the file of one store. Not thread-safe: one job beats."""

    def __init__(self, storage: Storage, paths: StorePaths) -> None:
        self._storage = storage
        self._paths = paths

    def clean(self) -> None:
        """Remove what a daemon that was killed between two steps of `beat` left; the daemon's lock is held."""
        try:
            entries = self._storage.list_directory(self._paths.runtime)
        except FileNotFoundError:
            return
        for entry in entries:
            if entry.name.startswith(TEMPORARY_PREFIX):
                try_unlink(self._storage, os.path.join(self._paths.runtime, entry.name))

    def beat(self, state: Mapping[str, Any]) -> None:
        """Replace the file; readers see the old one or the new.

        Raises:
            StorageError: the disk refuses; the old one stands.
        """
        make_directories(self._storage, self._paths.runtime)
        temporary = temporary_path(self._paths.runtime)
        file = self._storage.create(temporary)
        try:
            try:
                file.write(orjson.dumps(state, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE), 0)
            finally:
                file.close()
            self._storage.rename(temporary, self._paths.heartbeat)
        except BaseException:
            try_unlink(self._storage, temporary)
            raise

    def remove(self) -> None:
        """The daemon has ended as it should."""
        try_unlink(self._storage, self._paths.heartbeat)


def read_heartbeat(storage: Storage, paths: StorePaths) -> dict[str, Any] | None:
    """What a daemon last said about itself, or None where none has or the file cannot be read."""
    try:
        file = storage.open_read(paths.heartbeat)
    except FileNotFoundError:
        return None
    try:
        state = orjson.loads(file.read(0, _BYTES_MAX))
    except orjson.JSONDecodeError:  # after a power cut the name may be there without its content
        return None
    finally:
        file.close()
    return state if isinstance(state, dict) else None
