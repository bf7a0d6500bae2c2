"""Reading: as fast as memory can be copied out of the page cache, and nothing is understood of it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from types import TracebackType
from typing import Self

Stretch = tuple[int, int, int]
"""Number of a file, offset and length in bytes."""


class OpenFiles:
    """Files that are open already, and one buffer into which stretches of them are read.

    Args:
        paths: of the files; a stretch names one by its place here.
    """

    def __init__(self, paths: Sequence[str]) -> None:
        self._descriptors = [os.open(path, os.O_RDONLY | os.O_CLOEXEC) for path in paths]
        sizes = [os.fstat(descriptor).st_size for descriptor in self._descriptors]
        self._whole: list[Stretch] = [(number, 0, size) for number, size in enumerate(sizes)]
        self._buffer = memoryview(bytearray(max(sizes, default=1)))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for descriptor in self._descriptors:
            os.close(descriptor)

    def read(self, stretch: Stretch) -> memoryview:
        """One system call; the bytes are there until the next."""
        number, offset, length = stretch
        target = self._buffer[:length]
        got = os.preadv(self._descriptors[number], [target], offset)
        if got != length:
            raise OSError(f"{got} of {length} bytes could be read")
        return target

    def read_whole(self, number: int) -> memoryview:
        """One whole file."""
        return self.read(self._whole[number])
