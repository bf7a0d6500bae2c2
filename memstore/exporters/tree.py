"""Export as a tree of one file per memory.

A record that came from such a tree goes back to its own path in its own layout, equal as parsed JSON; any other is
written as
``AGENT/YYYYMMDD/ID.memory.json``, the stored record. A path that leads out of the directory, that is taken already or
that the file system refuses gives way to that form too: nothing is written outside, nothing over another file.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable
from typing import Any

import orjson

from memstore.errors import StorageError, StorageFullError, UsageError
from memstore.exporters.selection import Progress, selected_lines
from memstore.ids import ID_TAIL_CHARS, agent_directory
from memstore.layouts.rebuild import SourceFile, source_files
from memstore.store import MemStore

_NAME_BYTES_MAX = 255
_DIRECTORIES_REMEMBERED_MAX = 10_000
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


def export_tree(
    store: MemStore,
    directory: str | os.PathLike[str],
    *,
    agents: str | Iterable[str] | None = None,
    progress: Progress | None = None,
    **filters: Any,
) -> int:
    """Write records into a new or empty directory, one file each (an interaction with its response: two).

    The files are not synced to disk one by one: an export is a copy, and can be made again.

    Args:
        store: where from.
        directory: where to; made if it is not there.
        agents: whose records; None for everyone's.
        progress: called with (agents done, agents in all).
        **filters: as for ``AgentMemory.range``.

    Returns:
        How many records were written.

    Raises:
        UsageError: the directory is a file or holds something; an unknown filter or value of one.
        NotFoundError: the store has no such agent.
        CorruptionError: damage was met, unless ``on_damage="skip"``.
        StorageFullError: no space.
        StorageError: the directory cannot be written.
    """
    root = os.path.abspath(os.fspath(directory))
    lines = selected_lines(store, agents, filters, progress)
    first = next(lines, None)  # an unknown agent is refused before anything is made
    _make_empty(root)
    writer = _TreeWriter(root)
    if first is None:
        return 0
    writer.write(first)
    records = 1
    for line in lines:
        writer.write(line)
        records += 1
    return records


def _make_empty(root: str) -> None:
    try:
        os.makedirs(root, exist_ok=True)
        with os.scandir(root) as found:
            taken = next(found, None)
    except (FileExistsError, NotADirectoryError) as error:
        raise UsageError(f"{root} is no directory") from error
    except OSError as error:
        raise _storage_error(root, error) from error
    if taken is not None:
        raise UsageError(f"{root} is not empty (it holds {taken.name!r}): an export goes into a new or empty directory")


class _TreeWriter:
    """Writes files below one directory. Not thread-safe."""

    def __init__(self, root: str) -> None:
        self._root = root
        self._made: set[str] = set()

    def write(self, line: bytes) -> None:
        try:
            record = orjson.loads(line)
        except orjson.JSONDecodeError as error:
            raise StorageError(f"a stored line is no JSON ({error}): {line[:120]!r}") from error
        files = source_files(record)
        if not files:
            self._write_native(record)
            return
        for file in files:
            data = _encode(file)
            if not (is_inside(file.path) and self._try_write(file.path, data)):
                name, dot, ending = native_path(record).partition(".")
                if len(files) > 1:  # both files of a pair need a name
                    ending = file.path.rpartition("/")[2].rpartition(".json")[0].rpartition(".")[2] + ".json"
                self._must_write(f"{name}{dot}{ending}", data)

    def _write_native(self, record: dict[str, Any]) -> None:
        self._must_write(native_path(record), orjson.dumps(record, option=orjson.OPT_INDENT_2))

    def _must_write(self, relative: str, data: bytes) -> None:
        if not self._try_write(relative, data):
            raise StorageError(
                f"{os.path.join(self._root, relative)} is there already, though the export began in an empty directory"
            )

    def _try_write(self, relative: str, data: bytes) -> bool:
        """Write a new file; False where its name is taken or refused."""
        path = os.path.join(self._root, relative)
        try:
            self._make_parent(path)
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
            try:
                view = memoryview(data)
                while view:
                    view = view[os.write(descriptor, view) :]
            finally:
                os.close(descriptor)
        except OSError as error:
            if error.errno in {
                errno.EEXIST,
                errno.ENOTDIR,
                errno.EISDIR,
                errno.ENAMETOOLONG,
                errno.EILSEQ,
                errno.EINVAL,
            }:
                return False
            raise _storage_error(path, error) from error
        return True

    def _make_parent(self, path: str) -> None:
        parent = os.path.dirname(path)
        if parent not in self._made:
            os.makedirs(parent, exist_ok=True)
            if len(self._made) >= _DIRECTORIES_REMEMBERED_MAX:
                self._made.clear()
            self._made.add(parent)


def native_path(record: dict[str, Any]) -> str:
    """Where a record lies that did not come from a tree: ``AGENT/YYYYMMDD/ID.memory.json``, the agent as in a store."""
    agent = agent_directory(record["agent_id"])
    tail = record["memory_id"][-ID_TAIL_CHARS:]
    return f"{agent}/{tail[1:9]}/{agent}{tail}.memory.json"


def is_inside(path: str) -> bool:
    """Whether a relative path stays where it is put: no ``..``, no root, no empty or over-long name."""
    return "\0" not in path and all(
        part not in {"", ".", ".."} and len(os.fsencode(part)) <= _NAME_BYTES_MAX for part in path.split("/")
    )


def _encode(file: SourceFile) -> bytes:
    if file.text is not None:
        return file.text.encode("utf-8", "surrogatepass")
    return orjson.dumps(file.value, option=orjson.OPT_INDENT_2)


def _storage_error(path: str, error: OSError) -> StorageError:
    if error.errno in _FULL:
        return StorageFullError(f"no space to export to: {path}")
    return StorageError(f"{path} cannot be written: {error.strerror or error}")
