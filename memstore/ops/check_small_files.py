"""The small files of a root: what does not verify, and what that means for the store."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from memstore.errors import CorruptionError, VersionError
from memstore.format.checked import decode_checked
from memstore.format.consumer_file import decode_consumer_file
from memstore.format.forgotten import decode_forgotten
from memstore.format.holds_file import decode_holds_file
from memstore.format.lifecycle_file import decode_lifecycle_file
from memstore.format.names import StorePaths
from memstore.fs.storage import Storage
from memstore.ops.finding import Finding, Kind
from memstore.ops.layout import Layout, entries_of
from memstore.ops.reading_files import OnBytes

START_ANEW = "set it aside; it is written anew, and nothing is lost by that"
ASK_ABOUT_HOLDS = "set it aside; until a person decides which holds there are, nothing is removed by retention"
CATCH_UP = "set it aside; its consumer (an index, a backup) catches up from the files"
KEEP_LINES = "set it aside, and keep its whole lines"
REBUILD_STORE = "write it anew from the directories, as far as they tell"


def check_small_files(storage: Storage, paths: StorePaths, layout: Layout, *, on_bytes: OnBytes) -> Iterator[Finding]:
    """What is wrong with them.

    Raises:
        StorageError: one cannot be read.
    """
    if layout.error is not None:
        yield _damage("store_file", layout.error, repair=REBUILD_STORE)
    yield from _holds(storage, paths, on_bytes)
    yield from _forgotten(storage, paths, on_bytes)
    yield from _clock_note(storage, paths, on_bytes)
    yield from _notes("schedule", storage, paths.schedule, on_bytes)
    yield from _notes("schedule", storage, paths.scrub, on_bytes)
    for entry in entries_of(storage, paths.consumers):
        if not entry.name.startswith("."):
            yield from _consumer(storage, f"{paths.consumers}/{entry.name}", on_bytes)
    for entry in entries_of(storage, paths.reads):
        if not entry.name.startswith("."):
            yield from _notes("reads", storage, f"{paths.reads}/{entry.name}", on_bytes)


def _holds(storage: Storage, paths: StorePaths, on_bytes: OnBytes) -> Iterator[Finding]:
    data = _content(storage, paths.holds, on_bytes)
    if data is not None:
        try:
            decode_holds_file(data, paths.holds)
        except VersionError as error:
            yield Finding("holds", "unread", paths.holds, str(error))
        except CorruptionError as error:
            yield _damage("holds", error, repair=ASK_ABOUT_HOLDS)


def _consumer(storage: Storage, path: str, on_bytes: OnBytes) -> Iterator[Finding]:
    data = _content(storage, path, on_bytes)
    if data is not None:
        try:
            decode_consumer_file(data, path)
        except CorruptionError as error:
            yield _damage("consumer", error, repair=CATCH_UP)


def _clock_note(storage: Storage, paths: StorePaths, on_bytes: OnBytes) -> Iterator[Finding]:
    data = _content(storage, paths.lifecycle_state, on_bytes)
    if data is not None:
        try:
            decode_lifecycle_file(data, paths.lifecycle_state)
        except CorruptionError as error:
            yield _damage("lifecycle_file", error, repair=START_ANEW)


def _notes(kind: Kind, storage: Storage, path: str, on_bytes: OnBytes) -> Iterator[Finding]:
    """A file that is lost without harm, and of which a power cut may leave any part, for nobody syncs it."""
    data = _content(storage, path, on_bytes)
    if data is None or decode_checked(data.rstrip(b"\n")) is not None:
        return
    if b"\0" in data or not data.endswith(b"}\n"):
        reason = "a part of it is missing, as a power cut leaves it"
        yield Finding(kind, "note", path, reason, length_bytes=len(data), repair=START_ANEW)
        return
    yield Finding(kind, "damage", path, "its checksum does not agree", length_bytes=len(data), repair=START_ANEW)


def _forgotten(storage: Storage, paths: StorePaths, on_bytes: OnBytes) -> Iterator[Finding]:
    """A line that a crash cut off has no end; one that has its end and does not verify is damaged."""
    data = _content(storage, paths.forgotten, on_bytes)
    if data is None:
        return
    offset = 0
    for line in data.split(b"\n"):
        if line and _entry_is_damaged(line):
            # A power cut may keep its end and not its middle, which is zeros then: no line has any.
            is_torn = b"\0" in line or not line.endswith(b'"}')
            reason = (
                "a line has no end: its writer died in the middle of it, and nobody was told that it is there"
                if is_torn
                else "a line does not verify: if it noted an erasure, a repair cannot apply that again"
            )
            yield Finding(
                "forgotten",
                "note" if is_torn else "damage",
                paths.forgotten,
                reason,
                offset,
                len(line),
                repair="" if is_torn else KEEP_LINES,
            )
        offset += len(line) + 1


def _entry_is_damaged(line: bytes) -> bool:
    try:
        return decode_forgotten(line) is None
    except msgspec.DecodeError:  # whole, and of a form that a newer memstore may know
        return False


def _content(storage: Storage, path: str, on_bytes: OnBytes) -> bytes | None:
    """All of a small file; None where there is none."""
    try:
        file = storage.open_read(path)
    except FileNotFoundError:
        return None
    try:
        size = file.identity().size_bytes
        on_bytes(size)
        return file.read(0, size)
    finally:
        file.close()


def _damage(kind: Kind, error: CorruptionError, *, repair: str) -> Finding:
    return Finding(
        kind, "damage", error.path, error.reason, error.offset_bytes, error.length_bytes, records=0, repair=repair
    )
