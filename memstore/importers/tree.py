"""Import a tree that keeps one file per memory.

The tree is walked in name order, which is (agent, time) order as far as names allow: so each batch touches few agents
and days. One directory's names are in memory at a time, and one batch of parsed files. The source is opened for
reading only; symbolic links are not followed. Every file is accounted for: imported, present already, damaged, or
skipped with the reason.
"""

from __future__ import annotations

import datetime as dt
import os
import stat
import time
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from memstore.errors import NotFoundError, UsageError
from memstore.ids import check_agent_id
from memstore.importers.loader import BatchLoader, Entry
from memstore.importers.ndjson import read_line_entries
from memstore.importers.parents import IdRow, ParentIndex
from memstore.importers.parsing import parse_source, verbatim_line, verbatim_source
from memstore.importers.report import ImportReport, Progress
from memstore.layouts.fields import TIERS
from memstore.layouts.mapping import map_sources, memory_id_of
from memstore.layouts.rebuild import response_path
from memstore.layouts.source import DamagedError, Hints, Source, layout_of
from memstore.store import MemStore

_READ_BYTES = 64 * 1024
_FILE_BYTES_PER_RECORD_BYTE = 8
"""A file may be that much longer than the longest record: indentation and escapes."""
_PROGRESS_FILES = 200


class TreeFile(NamedTuple):
    """A file of the tree.

    Attributes:
        path: to open it.
        relative: from the root, with ``/``, as text that JSON can hold.
        problem: why it is not looked into, or None.
        damaged: the problem is one of the disk, not of what the file is.
    """

    path: str
    relative: str
    problem: str | None = None
    damaged: bool = False


def import_tree(
    store: MemStore,
    path: str | os.PathLike[str],
    *,
    tz: dt.tzinfo = dt.UTC,
    dry_run: bool = False,
    agent: str | None = None,
    progress: Progress | None = None,
) -> ImportReport:
    """Import every memory under a directory.

    Args:
        store: where to.
        path: the tree's root, or one tier or agent of it.
        tz: the zone of timestamps that have none; UTC.
        dry_run: read, parse and look up everything, write nothing.
        agent: whose a memory is that names no agent and lies in no agent's directory; without it such a file is
        damaged.
        progress: called with (files done, files in all) every few hundred files; costs a walk of names beforehand.

    Raises:
        NotFoundError: there is no such directory.
        UsageError: it is a file.
        StorageError: the store could not take a batch; what went before stays, and importing again goes on from there.
    """
    started = time.monotonic()
    root = tree_root(path)
    if agent is not None:
        check_agent_id(agent)
    report = ImportReport(dry_run=dry_run)
    hints = Hints(tz=tz, agent=agent, root_is_tier=os.path.basename(root).lower() in TIERS)
    run = _TreeImport(store, root, report, hints, dry_run=dry_run)
    run.run(progress)
    report.seconds = time.monotonic() - started
    return report


def tree_root(path: str | os.PathLike[str]) -> str:
    """The absolute path of a directory to import.

    Raises:
        NotFoundError: there is no such directory.
        UsageError: it is a file.
    """
    root = os.path.abspath(os.fspath(path))
    if not os.path.isdir(root):
        if os.path.exists(root):
            raise UsageError(f"{root} is a file, not a tree; `import ndjson` reads a file of lines")
        raise NotFoundError(f"there is no directory {root}")
    return root


class _TreeImport:
    """One run over one tree."""

    def __init__(self, store: MemStore, root: str, report: ImportReport, hints: Hints, *, dry_run: bool) -> None:
        self._root = root
        self._report = report
        self._parents = ParentIndex(self._ids)
        self._plain_hints = hints
        self._hints = Hints(
            tz=hints.tz, agent=hints.agent, root_is_tier=hints.root_is_tier, resolve=self._parents.resolve
        )
        self._file_bytes_max = store.settings.storage.record_bytes_max * _FILE_BYTES_PER_RECORD_BYTE
        self._store_inode = _inode(store.root)
        self._loader = BatchLoader(store, report, self._hints, reread=self._reread, dry_run=dry_run, ahead=True)

    def run(self, progress: Progress | None) -> None:
        report, add = self._report, self._loader.add
        total = sum(1 for files in self._walk() for _ in files) if progress is not None else 0
        told = 0
        try:
            for directory in self._walk():
                for entry in self._entries(directory, self._hints, report):
                    add(entry)
                    if progress is not None and report.files - told >= _PROGRESS_FILES:
                        told = report.files
                        progress(told, max(told, total))
            self._loader.flush()
        finally:
            self._loader.close()
            self._parents.close()
        if progress is not None:
            progress(report.files, max(report.files, total))

    def _walk(self) -> Iterator[list[TreeFile]]:
        """Each directory's files in name order; directories depth first in name order."""
        waiting = [(self._root, "")]
        while waiting:
            path, relative = waiting.pop()
            try:
                with os.scandir(path) as found:
                    entries = sorted(found, key=_name)
            except OSError as error:
                yield [TreeFile(path, f"{relative}/" if relative else ".", _os_reason(error), damaged=True)]
                continue
            files, directories = [], []
            for entry in entries:
                name = _storable_name(entry.name)
                below = f"{relative}/{name}" if relative else name
                if entry.is_dir(follow_symlinks=False):
                    if entry.inode() == self._store_inode[1] and _inode(entry.path) == self._store_inode:
                        continue  # the store itself may lie in the tree
                    directories.append((entry.path, below))
                elif entry.is_file(follow_symlinks=False):
                    files.append(TreeFile(entry.path, below))
                else:
                    problem = (
                        "it is a symbolic link, which is not followed"
                        if entry.is_symlink()
                        else "it is no regular file"
                    )
                    files.append(TreeFile(entry.path, below, problem))
            if files:
                yield files
            waiting.extend(reversed(directories))

    def _entries(self, files: Sequence[TreeFile], hints: Hints, report: ImportReport) -> Iterator[Entry]:
        """The records of one directory."""
        responses = {file.relative: file for file in files if file.relative.endswith(".response.json")}
        joined = (
            {response_path(file.relative) for file in files if file.relative.endswith(".interaction.json")}
            if responses
            else ()
        )
        for file in files:
            relative = file.relative
            if relative in joined:
                continue  # goes with its interaction
            layout = layout_of(relative)
            if file.problem is not None or layout is None:
                self._leave_out(file, report)
            elif layout == "line":
                report.files += 1
                yield from self._line_entries(file, hints, report)
            elif layout == "pair":
                response = responses.get(response_path(relative)) if relative not in responses else None
                yield from self._entry(layout, [file] if response is None else [file, response], hints, report)
            else:
                report.files += 1
                try:
                    source = self._read(file.path, relative)
                    report.bytes += source.size_bytes
                    entry = Entry(relative, layout, (source,), map_sources(layout, (source,), hints))
                except DamagedError as error:
                    report.add_damaged(relative, str(error))
                    continue
                yield entry

    def _entry(self, layout: str, files: Sequence[TreeFile], hints: Hints, report: ImportReport) -> Iterator[Entry]:
        """The record of an interaction and its response; of one of them where the other is damaged."""
        sources: list[Source] = []
        for file in files:
            if file.problem is not None:
                self._leave_out(file, report)
                continue
            report.files += 1
            try:
                sources.append(self._read(file.path, file.relative))
                report.bytes += sources[-1].size_bytes
            except DamagedError as error:
                report.add_damaged(file.relative, str(error))
        if sources:
            try:
                yield Entry(sources[0].path, layout, tuple(sources), map_sources(layout, tuple(sources), hints))
            except DamagedError as error:
                for source in sources:
                    report.add_damaged(source.path, str(error))

    def _line_entries(self, file: TreeFile, hints: Hints, report: ImportReport) -> Iterator[Entry]:
        try:
            lines = open(file.path, "rb", opener=_open_no_follow)  # noqa: SIM115 - closed below
        except OSError as error:
            report.add_damaged(file.relative, _os_reason(error))
            return
        with lines:
            yield from read_line_entries(lines, file.relative, hints, report, line_bytes_max=self._file_bytes_max)

    @staticmethod
    def _leave_out(file: TreeFile, report: ImportReport) -> None:
        if file.damaged:
            report.add_damaged(file.relative, file.problem or "")
            return
        report.files += 1
        report.add_skipped(file.relative, file.problem or "its name is of no layout that is known")

    def _read(self, path: str, relative: str) -> Source:
        return parse_source(relative, read_file(path, bytes_max=self._file_bytes_max))

    def _reread(self, source: Source) -> Source:
        if source.line is not None:
            return verbatim_line(source)
        return verbatim_source(
            source.path, read_file(os.path.join(self._root, source.path), bytes_max=self._file_bytes_max)
        )

    def _ids(self) -> Iterator[IdRow]:
        self._loader.settle()  # what follows takes long, and other imports would wait
        unused = ImportReport()
        for directory in self._walk():
            for entry in self._entries(directory, self._plain_hints, unused):
                fields = entry.fields
                yield fields["source_id"], fields["agent_id"], memory_id_of(fields)


def read_file(path: str, *, bytes_max: int) -> bytes:
    """A regular file's bytes, read once.

    Raises:
        DamagedError: it cannot be read, or is longer than ``bytes_max``.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            data = os.read(descriptor, _READ_BYTES)
            if len(data) < _READ_BYTES:
                return data
            parts, size = [data], len(data)
            while data and size <= bytes_max:
                data = os.read(descriptor, 1 << 20)
                parts.append(data)
                size += len(data)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise DamagedError(_os_reason(error)) from error
    if size > bytes_max:
        raise DamagedError(f"it is longer than {bytes_max} bytes, and so than any record may be")
    return b"".join(parts)


def _open_no_follow(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW)


def _name(entry: os.DirEntry[str]) -> str:
    return entry.name


def _storable_name(name: str) -> str:
    return name if name.isascii() else name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _os_reason(error: OSError) -> str:
    return f"it cannot be read: {error.strerror or error}"


def _inode(path: str) -> tuple[int, int]:
    try:
        found = os.stat(path, follow_symlinks=False)
    except OSError:
        return (-1, -1)
    return (found.st_dev, found.st_ino) if stat.S_ISDIR(found.st_mode) else (-1, -1)
