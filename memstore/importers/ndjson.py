"""Import NDJSON: one record a line, leniently read.

A line with a ``memory_id`` that this very store has is present already; any other ``memory_id`` becomes the record's
``source_id``. A line with neither gets the hash of its text as source id, so that importing it again adds nothing.
Keys that no record has go to ``context``. Lines are streamed; one batch is in memory at a time.
"""

from __future__ import annotations

import datetime as dt
import os
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import BinaryIO

import xxhash

from memstore.errors import NotFoundError, UsageError
from memstore.ids import check_agent_id
from memstore.importers.loader import BatchLoader, Entry
from memstore.importers.parents import IdRow, ParentIndex
from memstore.importers.parsing import parse_source, verbatim_line
from memstore.importers.report import ImportReport, Progress
from memstore.layouts.mapping import map_sources, memory_id_of
from memstore.layouts.source import LINE_PREFIX, DamagedError, Hints
from memstore.store import MemStore

LINE_BYTES_PER_RECORD_BYTE = 8
"""A line may be that much longer than the longest record: escapes."""
_PROGRESS_LINES = 1000


def import_ndjson(
    store: MemStore,
    lines: BinaryIO | str | os.PathLike[str],
    *,
    tz: dt.tzinfo = dt.UTC,
    dry_run: bool = False,
    agent: str | None = None,
    progress: Progress | None = None,
) -> ImportReport:
    """Import a file or stream of NDJSON records.

    Args:
        store: where to.
        lines: a path, or an open binary stream (not closed). Parents are looked for within a path's lines; a
            stream cannot be read twice.
        tz: the zone of timestamps that have none; UTC.
        dry_run: read, parse and look up everything, write nothing.
        agent: whose a line is that has no ``agent_id``; without it such a line is damaged.
        progress: called with (bytes done, bytes in all; 0 of a stream) every thousand lines.

    Raises:
        NotFoundError: there is no such file.
        UsageError: it is a directory, or cannot be read.
        StorageError: the store could not take a batch; what went before stays, and importing again goes on from there.
    """
    started = time.monotonic()
    if agent is not None:
        check_agent_id(agent)
    report = ImportReport(files=1, dry_run=dry_run)
    plain_hints = Hints(tz=tz, agent=agent)
    line_bytes_max = store.settings.storage.record_bytes_max * LINE_BYTES_PER_RECORD_BYTE
    path = os.fspath(lines) if isinstance(lines, (str, os.PathLike)) else None

    def ids() -> Iterator[IdRow]:
        if path is not None:
            with open_lines(path) as again:
                for entry in read_line_entries(again, "", plain_hints, ImportReport(), line_bytes_max=line_bytes_max):
                    yield entry.fields["source_id"], entry.fields["agent_id"], memory_id_of(entry.fields)

    parents = ParentIndex(ids)
    hints = Hints(tz=tz, agent=agent, resolve=parents.resolve)
    loader = BatchLoader(store, report, hints, reread=verbatim_line, dry_run=dry_run, ahead=False)
    total = 0
    try:
        with _opened(lines) as stream:
            if path is not None:
                total = os.fstat(stream.fileno()).st_size
            name = path if path is not None else "line"
            entries = read_line_entries(stream, name, hints, report, line_bytes_max=line_bytes_max)
            for number, entry in enumerate(entries, start=1):
                loader.add(entry)
                if progress is not None and number % _PROGRESS_LINES == 0:
                    progress(report.bytes, total)
        loader.flush()
    finally:
        loader.close()
        parents.close()
    if progress is not None:
        progress(report.bytes, total)
    report.seconds = time.monotonic() - started
    return report


def read_line_entries(
    lines: BinaryIO, name: str, hints: Hints, report: ImportReport, *, line_bytes_max: int
) -> Iterator[Entry]:
    """The records of a stream's lines.

    Bad lines go to the report as ``name:number``, 1 the first; empty ones are passed over.
    """
    number = 0
    while line := lines.readline(line_bytes_max + 1):
        number += 1
        report.bytes += len(line)
        label = f"{name}:{number}"
        if len(line) > line_bytes_max:
            while line and not line.endswith(b"\n"):
                line = lines.readline(line_bytes_max)
                report.bytes += len(line)
            report.add_damaged(label, f"it is longer than {line_bytes_max} bytes, and so than any record may be")
            continue
        line = line.strip()
        if not line:
            continue
        try:
            source = parse_source("", line)
            source.path, source.line = f"{LINE_PREFIX}{xxhash.xxh3_128_hexdigest(line)}", line
            yield Entry(label, "line", (source,), map_sources("line", (source,), hints))
        except DamagedError as error:
            report.add_damaged(label, str(error))


def _opened(lines: BinaryIO | str | os.PathLike[str]) -> AbstractContextManager[BinaryIO]:
    if isinstance(lines, (str, os.PathLike)):
        return open_lines(os.fspath(lines))
    return nullcontext(lines)


def open_lines(path: str) -> BinaryIO:
    """A file of lines, opened.

    Raises:
        NotFoundError: there is no such file.
        UsageError: it is a directory, or cannot be read.
    """
    try:
        return open(path, "rb")
    except FileNotFoundError as error:
        raise NotFoundError(f"there is no file {path}") from error
    except IsADirectoryError as error:
        raise UsageError(f"{path} is a directory, not a file of lines; `import tree` reads a directory") from error
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from error
