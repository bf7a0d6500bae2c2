"""Good copies of a file of checked lines that only grows: which of them are earlier or later states of the same file.

A line that verifies is no proof that it is the line which stood there: a MANIFEST that was compacted since a backup has
others, each as valid. But a copy that has the same bytes wherever a line of ours verifies is the same file, before or
after: a compaction makes the first line unlike any other.
"""

from __future__ import annotations

from collections.abc import Iterator

from memstore.ops.repair.good_copies import FileOfStore, GoodCopies, Taken
from memstore.ops.repair.mend_lines import mended_lines


class KindredFiles:
    """Reads the copies once a line is asked for. Used by one thread.

    Args:
        data: all of the damaged file.
        file: what it is.
        copies: where good copies may be had.
    """

    def __init__(self, data: bytes, file: FileOfStore, copies: GoodCopies) -> None:
        self._data = data
        self._file = file
        self._copies = copies
        self._found: list[Taken] | None = None

    def bytes_at(self, offset: int, length: int) -> Iterator[Taken]:
        """What each of the same file has there; fewer bytes where it ends before."""
        if self._found is None:
            self._found = list(self._find())
        for data, source in self._found:
            yield Taken(data[offset : offset + length], source)

    def _find(self) -> Iterator[Taken]:
        whole = [each for each in mended_lines(self._data) if each.line is not None and not each.mended]
        for copied in self._copies.of(self._file):
            data = copied.read_all()
            shared = [each for each in whole if each.offset + each.length <= len(data)]
            if shared and all(data[each.offset : each.offset + each.length - 1] == each.line for each in shared):
                yield Taken(data, copied.source)
