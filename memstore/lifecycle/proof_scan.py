"""Look for lines of erased records in every file of a store: the proof that an erasure ends with.

Nothing is left out by its name: lanes, day files, packed files, MANIFESTs, logs, locks, the ballast, whatever other
programs put below the root. Packed files are unpacked frame by frame. What cannot be looked into is named. Files are
read in bounded windows while the store is in use; one that vanishes meanwhile holds nothing any more.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from memstore.codec.zstd import FRAME_MAGIC, any_frame_end, is_skippable, unpack_parts
from memstore.errors import StorageError
from memstore.format.lines import split_lines
from memstore.fs.parts import parts_of
from memstore.fs.storage import DirectoryEntry, Storage, StorageFile
from memstore.lifecycle.needles import NEEDLE_BYTES_MAX, LineHashes, Needles
from memstore.lifecycle.receipt import Found, Pending

WINDOW_BYTES = 4 * 1024 * 1024
"""How much of a file is in memory at a time, beside the beginning of a line that has not ended yet."""
LINE_BYTES_MAX = 64 * 1024 * 1024
"""Of a longer line only the ids are searched for: it is no record's, and may be a file of one line."""
_PROBE_BYTES = 16
_OTHER_PACKERS = {
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"\xfd7zXZ\x00": "xz",
    b"PK\x03\x04": "zip",
    b"\x04\x22\x4d\x18": "lz4",
}
Progress = Callable[[int, int], None]


@dataclass(slots=True)
class ScanResult:
    """What a scan looked at and found; see `memstore.lifecycle.receipt.Scanned`."""

    files: int = 0
    bytes: int = 0
    unpacked_bytes: int = 0
    lines: int = 0
    newer_files: int = 0
    found: list[Found] = field(default_factory=list)
    unread: list[Pending] = field(default_factory=list)


def scan_places(
    storage: Storage,
    places: Iterable[str],
    *,
    needles: Needles,
    hashes: LineHashes,
    is_newer: Callable[[str], bool] = lambda _: False,
    progress: Progress | None = None,
) -> ScanResult:
    """Look for erased lines in every file below some directories; each is looked at once, wherever they overlap.

    Args:
        storage: where they lie.
        places: directories; one that is not there is reported as unread.
        needles: the ids.
        hashes: the lines.
        is_newer: whether a file holds only what was written after the erasure; it is counted and left out.
        progress: told how many of all files have been looked at.
    """
    places = list(places)
    result = ScanResult()
    total = 0
    if progress is not None:
        total = sum(1 for _ in _walk(storage, places, []))
    for path in _walk(storage, places, result.unread):
        if is_newer(path):
            result.newer_files += 1
        else:
            _scan_file(storage, path, needles, hashes, result)
        if progress is not None:
            done = result.files + result.newer_files
            progress(done, max(done, total))
    return result


def holds_erased(storage: Storage, path: str, *, needles: Needles, hashes: LineHashes) -> bool:
    """Whether a file holds a line of an erased record."""
    result = ScanResult()
    _scan_file(storage, path, needles, hashes, result)
    return bool(result.found)


def _walk(storage: Storage, places: Iterable[str], unread: list[Pending]) -> Iterator[str]:
    """Every file, depth first. Links are followed, and no directory is entered twice."""
    seen: set[tuple[int, int]] = set()
    for place in places:
        if storage.identify(place) is None:
            unread.append(Pending(place, "the directory is missing; mount its volume and erase again"))
        waiting = [place]
        while waiting:
            directory = waiting.pop()
            identity = storage.identify(directory)
            if identity is None or (identity.device, identity.inode) in seen:
                continue
            seen.add((identity.device, identity.inode))
            try:
                entries = storage.list_directory(directory)
            except FileNotFoundError:
                continue
            except StorageError as error:
                unread.append(Pending(directory, f"cannot be listed: {error}"))
                continue
            for entry in sorted(entries, key=_name):
                path = os.path.join(directory, entry.name)
                if entry.is_directory or _is_link_to_directory(storage, path):
                    waiting.append(path)
                else:
                    yield path


def _name(entry: DirectoryEntry) -> str:
    return entry.name


def _is_link_to_directory(storage: Storage, path: str) -> bool:
    """Whether a name that is no directory leads to one."""
    try:
        storage.open_directory(path).close()
    except (StorageError, FileNotFoundError):
        return False
    return True


def _scan_file(storage: Storage, path: str, needles: Needles, hashes: LineHashes, result: ScanResult) -> None:
    try:
        file = storage.open_read(path)
    except FileNotFoundError:
        return
    except StorageError as error:
        result.files += 1
        result.unread.append(Pending(path, f"cannot be read: {error}"))
        return
    search = _Search(needles, hashes)
    try:
        size = file.identity().size_bytes
        result.files += 1
        result.bytes += size
        start = file.read(0, _PROBE_BYTES)
        why = next((f"it is packed by {name}" for magic, name in _OTHER_PACKERS.items() if start.startswith(magic)), "")
        if start.startswith(FRAME_MAGIC) or is_skippable(start) or (path.endswith(".zst") and size):
            why, unpacked = _search_packed(file, size, search)
            result.unpacked_bytes += unpacked
        else:
            _search_plain(file, search)
    except StorageError as error:
        why = str(error)
    finally:
        file.close()
    search.finish()
    result.lines += search.lines
    if search.by_id or search.by_hash:
        result.found.append(Found(path, search.by_id, search.by_hash))
    if why:
        result.unread.append(Pending(path, f"cannot be read: {why}"))


def _search_plain(file: StorageFile, search: _Search) -> None:
    for data in parts_of(file, part_bytes=WINDOW_BYTES):
        search.feed(data)


def _search_packed(file: StorageFile, size: int, search: _Search) -> tuple[str, int]:
    """Search every frame as far as it can be unpacked; why some of it could not be (or empty), and bytes unpacked."""
    offset, why = 0, ""
    while offset < size:
        try:
            end = any_frame_end(file.read, offset, size=size)
        except ValueError as error:
            end, why = size, why or str(error)
        if not is_skippable(file.read(offset, _PROBE_BYTES)):
            try:
                for part in unpack_parts(file.read, offset, end - offset):
                    search.feed(part)
            except ValueError as error:
                why = why or f"{error}, in the frame at offset {offset}"
        offset = end
    unpacked = search.bytes
    if why:  # what is stored in it unpacked can still be seen
        search.break_line()
        _search_plain(file, search)
    return why, unpacked


class _Search:
    """Searches bytes that come in pieces.

    Attributes:
        lines: how many were compared.
        bytes: how many came.
        by_id: lines of erased records by their ids.
        by_hash: lines of erased records by their hashes.
    """

    def __init__(self, needles: Needles, hashes: LineHashes) -> None:
        self._needles = needles
        self._hashes = hashes
        self._rest = b""
        self._looked_at = 0
        self.lines = 0
        self.bytes = 0
        self.by_id = 0
        self.by_hash = 0

    def feed(self, data: bytes) -> None:
        """The next piece."""
        self.bytes += len(data)
        data = self._rest + data if self._rest else data
        end = data.rfind(b"\n") + 1
        if end:
            self._look(data[:end])
        self._rest = data[end:]
        if len(self._rest) > LINE_BYTES_MAX:
            # Bytes without line breaks: an id that the window cuts has to be in the next one, and is counted once.
            self._find_ids(self._rest)
            self._rest = self._rest[-NEEDLE_BYTES_MAX:]
            self._looked_at = len(self._rest)

    def break_line(self) -> None:
        """What comes next does not continue the line."""
        if self._rest:
            self._look(self._rest)
            self._rest = b""

    def finish(self) -> None:
        """Nothing more comes."""
        self.break_line()

    def _look(self, data: bytes) -> None:
        self._find_ids(data)
        lines = split_lines(data)
        self.lines += len(lines)
        if len(self._hashes):
            self.by_hash += self._hashes.count(line.removesuffix(b"\n") for line in lines)

    def _find_ids(self, data: bytes) -> None:
        looked_at, self._looked_at = self._looked_at, 0
        for position in self._needles.find(data):
            # The longest id fits into what was looked at before: whatever was whole in it has been counted.
            if position >= looked_at or not any(True for _ in self._needles.find(data[position:looked_at])):
                self.by_id += 1
