"""What the second copy's MANIFEST of an agent says of the store's own: everything, up to some byte of it.

The copy has no line of the store's MANIFEST, only what they say together, and which first line that MANIFEST had and
how long it was (``of`` in its state line). A first line is unlike any other. So where lines of the store's own are
lost, and they stood before that byte, the copy's state takes the place of all up to there, and nothing is guessed.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass

from memstore.errors import MemstoreError
from memstore.format.checked import may_be_the_same
from memstore.format.manifest import ManifestLine, decode_manifest_line
from memstore.ops.repair.good_copies import FileOfStore, GoodCopies


@dataclass(frozen=True, slots=True)
class CopiedIndex:
    """A MANIFEST of a second copy.

    Attributes:
        source: what people call the copy.
        state: its second line.
        since: the lines behind that: tombstones that came, or were taken back, since.
        first: the first line of the store's MANIFEST, without its line break.
        end: how long that was.
        is_current: whether the copy has everything that the store has.
    """

    source: str
    state: ManifestLine
    since: tuple[ManifestLine, ...]
    first: bytes
    end: int
    is_current: bool

    def is_of(self, data: bytes) -> bool:
        """Whether it is of this MANIFEST, in whose first line something may be damaged."""
        ours = data[: len(self.first)]
        return ours == self.first or may_be_the_same(ours, self.first)


def copied_indexes(copies: GoodCopies, file: FileOfStore, *, current: str | None) -> Iterator[CopiedIndex]:
    """What second copies say of an agent.

    Args:
        copies: where good copies may be had.
        file: the MANIFEST.
        current: root of a second copy that has everything that the store has.
    """
    for copied in copies.of(file):
        try:
            lines = [decode_manifest_line(line, copied.path) for line in copied.read_all().split(b"\n")[:-1]]
        except MemstoreError:
            continue
        whole = [line for line in lines if line is not None]
        if len(whole) < len(lines) or len(whole) < 2:
            continue
        state = whole[1].state
        if state is not None and state.of is not None:
            first, end = state.of
            is_current = current is not None and copied.path.startswith(current + os.sep)
            yield CopiedIndex(copied.source, whole[1], tuple(whole[2:]), first.encode(), end, is_current)
