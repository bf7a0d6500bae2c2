"""What a file holds that may lose its power: bytes that are on disk for sure, and changes that may still be lost.

As in the page cache of Linux: programs see all changes at once; the disk gets whole pages of 4 KiB, each as it was at
some moment, in any order; a page that is being written when the power goes may be torn between its sectors of 512
bytes, and a sector at any byte. The length is changed apart from the pages: where it is there first, zeros follow; a
cut may be undone. So of two changes that were not synced, the later may survive the earlier, but not within a sector.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

SECTOR_BYTES = 512
PAGE_BYTES = 4096


@dataclass(frozen=True, slots=True)
class _Write:
    offset: int
    data: bytes

    def apply(self, content: bytearray) -> None:
        self.apply_length(content)
        content[self.offset : self.offset + len(self.data)] = self.data

    def apply_length(self, content: bytearray) -> None:
        content.extend(bytes(max(self.offset + len(self.data) - len(content), 0)))

    def dirties(self) -> range:
        return range(self.offset // PAGE_BYTES, -(-(self.offset + len(self.data)) // PAGE_BYTES))

    def frees(self, page: int) -> bool:  # noqa: ARG002 - none
        return False


@dataclass(frozen=True, slots=True)
class _Length:
    length: int

    def apply(self, content: bytearray) -> None:
        self.apply_length(content)

    def apply_length(self, content: bytearray) -> None:
        del content[self.length :]
        content.extend(bytes(self.length - len(content)))

    def dirties(self) -> range:
        """The page in which the cut lies: what is behind it there becomes zeros."""
        return range(self.length // PAGE_BYTES, -(-self.length // PAGE_BYTES))

    def frees(self, page: int) -> bool:
        """Whether a page has no place on disk any more: what is written to it later gets another one."""
        return self.length <= page * PAGE_BYTES


class UnsyncedContent:
    """A file's bytes. Not thread-safe: its storage's lock guards it.

    Attributes:
        data: what programs see, as long as the power is on.
    """

    __slots__ = ("_before", "_changes", "_on_disk", "data")

    def __init__(self, on_disk: bytes = b"") -> None:
        self.data = bytearray(on_disk)
        self._on_disk = bytearray(on_disk)
        self._before = b""
        """What programs saw before the first of the changes."""
        self._changes: list[_Write | _Length] = []

    def write(self, data: bytes, offset_bytes: int) -> None:
        """Write at an offset; not durable."""
        self._change(_Write(offset_bytes, bytes(data)))

    def set_length(self, length_bytes: int) -> None:
        """Cut, or extend with zeros; not durable."""
        self._change(_Length(length_bytes))

    def sync(self) -> None:
        """Everything is on disk from now on."""
        for change in self._changes:
            change.apply_length(self._on_disk)
        for page in {page for change in self._changes for page in change.dirties()}:
            place = slice(page * PAGE_BYTES, (page + 1) * PAGE_BYTES)
            self._on_disk[place] = self.data[place]
        self._changes.clear()

    def fail_sync(self) -> None:
        """The disk refused: programs still see the changes, and no later sync carries their pages.

        So does Linux: it tells of the error once, and the pages count as clean until they are written again.
        """
        self._changes.clear()

    def flip(self, offset_bytes: int, bit: int) -> None:
        """Turn one bit, on disk and for programs."""
        for content in (self.data, self._on_disk):
            if offset_bytes < len(content):
                content[offset_bytes] ^= 1 << bit

    def after_power_cut(self, chance: Random) -> bytes:
        """What the machine finds when it is on again."""
        content = bytearray(self._on_disk)
        count = len(self._changes)
        if count == 0:
            return bytes(content)
        # How many of the changes each part of the file has seen: all of it the same, each page its own, or each sector.
        unit = chance.choice((0, 0, PAGE_BYTES, SECTOR_BYTES, SECTOR_BYTES))
        seen_by_all = chance.choice((0, count, chance.randint(0, count)))
        seen_by_length = seen_by_all if unit == 0 else chance.choice((count, count, chance.randint(0, count)))
        for change in self._changes[:seen_by_length]:
            change.apply_length(content)
        snapshots = self._snapshots()
        pages = sorted({page for change in self._changes for page in change.dirties()})
        for page in pages:
            seen = seen_by_all
            for start in range(page * PAGE_BYTES, (page + 1) * PAGE_BYTES, SECTOR_BYTES):
                if unit == SECTOR_BYTES or (unit == PAGE_BYTES and start % PAGE_BYTES == 0):
                    seen = chance.choice((0, count, chance.randint(0, count)))
                if self._may_hold(page, seen, seen_by_length):
                    _copy(content, snapshots[seen], start, SECTOR_BYTES)
        if pages and chance.random() < 0.5:
            page, seen = chance.choice(pages), chance.randint(0, count)
            inside = min(PAGE_BYTES, len(snapshots[seen]) - page * PAGE_BYTES)
            if inside > 0 and self._may_hold(page, seen, seen_by_length):
                torn_at = page * PAGE_BYTES + chance.randrange(inside)
                start = torn_at // SECTOR_BYTES * SECTOR_BYTES
                _copy(content, snapshots[seen], start, torn_at - start)
        return bytes(content)

    def _may_hold(self, page: int, seen: int, seen_by_length: int) -> bool:
        """Whether a page's place on disk may hold what programs saw in it after so many changes."""
        changes = self._changes[:seen]
        frees = [number for number, change in enumerate(self._changes) if change.frees(page)]
        before = [number for number in frees if number < seen]
        if len(before) != sum(number < seen_by_length for number in frees):
            return False  # what was written there lies in another place than the length leads to
        since = before[-1] if before else 0
        return any(page in change.dirties() for change in changes[since:])

    def _snapshots(self) -> list[bytes]:
        """What programs saw before the changes, and after each."""
        content = bytearray(self._before)
        snapshots = [bytes(content)]
        for change in self._changes:
            change.apply(content)
            snapshots.append(bytes(content))
        return snapshots

    def _change(self, change: _Write | _Length) -> None:
        if not self._changes:
            self._before = bytes(self.data)
        change.apply(self.data)
        self._changes.append(change)


def _copy(content: bytearray, source: bytes, start: int, length: int) -> None:
    """Take over a part of another version, as far as the length reaches; zeros where that version was shorter."""
    end = min(start + length, len(content))
    if start < end:
        content[start:end] = source[start:end].ljust(end - start, b"\0")
