"""Set damaged files aside, whole, with a note of why: a repair deletes nothing.

::

    <root>/quarantine/20250115T143000Z-1f2e3d4c/
        memory/shards/shard_000/bot/20250115.1.jsonl          the file as it was found
        memory/shards/shard_000/bot/20250115.1.jsonl.why.json  what was wrong with it, and what became of it

A file is copied, synced and named before anything is done to the original. So a repair that is stopped leaves a copy
too many, never one too few. What lies here counts for nothing, is searched by an erasure, and is a person's to remove.
"""

from __future__ import annotations

import datetime as dt
import os
import secrets
from collections.abc import Mapping
from typing import Any

import orjson

from memstore.errors import StorageError, StorageFullError
from memstore.format.names import StorePaths
from memstore.fs.atomic import make_durable_directories, replace_file, temporary_path, try_unlink
from memstore.fs.storage import Storage, StorageFile
from memstore.timestamps import iso_text

_COPY_BYTES = 4 * 1024 * 1024
_PAGE_BYTES = 4096
RESERVE_BYTES = 8 * 1024 * 1024
"""Free space that is left for the appenders."""
NOTE_SUFFIX = ".why.json"


class Quarantine:
    """One repair's directory in the quarantine, made with the first file. Used by one thread.

    Attributes:
        files: paths of what was set aside, relative to the root.

    Args:
        storage: where the store lies.
        paths: its root.
        now_us: when the repair began.
    """

    def __init__(self, storage: Storage, paths: StorePaths, *, now_us: int) -> None:
        self._storage = storage
        self._paths = paths
        self._now_us = now_us
        stamp = dt.datetime.fromtimestamp(now_us // 1_000_000, dt.UTC).strftime("%Y%m%dT%H%M%SZ")
        self.directory = os.path.join(paths.quarantine, f"{stamp}-{secrets.token_hex(4)}")
        self.files: list[str] = []

    def copy(self, path: str, *, why: str, found: Mapping[str, Any] | None = None) -> str | None:
        """Copy a file into the quarantine, durably, with its note.

        Args:
            path: absolute.
            why: one sentence, for people.
            found: what else is known, for machines.

        Returns:
            Where it lies now; None where the file is not there.

        Raises:
            StorageFullError: no space; nothing was done to the original.
        """
        identity = self._storage.identify(path)
        if identity is None:
            return None
        relative = self._relative(path)
        target = self._free_name(os.path.join(self.directory, relative))
        parent = os.path.dirname(target)
        make_durable_directories(self._storage, parent)
        free = self._storage.free_bytes(self._paths.root)
        if free < identity.size_bytes + RESERVE_BYTES:
            raise StorageFullError(
                f"{path}: setting it aside needs {identity.size_bytes} bytes, and {free} are free; free some space and "
                "repair again. Nothing was done to it"
            )
        note = {
            "path": path,
            "set_aside_at": iso_text(self._now_us),
            "why": why,
            "bytes": identity.size_bytes,
            **(found or {}),
        }
        data = orjson.dumps(note, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
        replace_file(self._storage, target + NOTE_SUFFIX, data)
        self._copy(path, target, identity.size_bytes)
        self._storage.sync_directory(parent)
        self.files.append(os.path.relpath(target, self._paths.root))
        return target

    def _free_name(self, target: str) -> str:
        """Where nothing lies yet: a file may be set aside twice, as it was found and as one step left it."""
        number = 1
        name = target
        while self._storage.identify(name) is not None:
            number += 1
            name = f"{target}.{number}"
        return name

    def _relative(self, path: str) -> str:
        root = self._paths.root + os.sep
        if path.startswith(root):
            return path[len(root) :]
        return os.path.join("elsewhere", path.lstrip(os.sep))

    def _copy(self, path: str, target: str, size: int) -> None:
        temporary = temporary_path(os.path.dirname(target))
        try:
            original = self._storage.open_read(path)
            try:
                copy = self._storage.create(temporary)
                try:
                    _copy_bytes(original, copy, size)
                    copy.sync_data()
                finally:
                    copy.close()
            finally:
                original.close()
            self._storage.rename(temporary, target)
        except BaseException:
            try_unlink(self._storage, temporary)
            raise


def _copy_bytes(source: StorageFile, target: StorageFile, size: int) -> None:
    """All bytes that can be read; what the disk refuses becomes zeros, a page at a time."""
    position = 0
    while position < size:
        length = min(_COPY_BYTES, size - position)
        try:
            data = source.read(position, length)
        except StorageError:
            places = range(position, position + length, _PAGE_BYTES)
            data = b"".join(_page(source, at, min(_PAGE_BYTES, position + length - at)) for at in places)
        if not data:
            break
        target.write(data, position)
        position += len(data)


def _page(source: StorageFile, offset: int, length: int) -> bytes:
    try:
        return source.read(offset, length)
    except StorageError:
        return bytes(length)
