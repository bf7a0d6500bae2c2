"""What can be saved of one file: whole pieces, pieces that were mended, and ranges that are lost."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from memstore.format.manifest import Block, PackedFile, TrashedFile
from memstore.manifest.index import BlockRef, FrameRef

Refuse = Callable[[bytes], str | None]
"""Why a line that no index lists may not be taken for a record; None where it may."""


@dataclass(frozen=True, slots=True)
class LostRange:
    """Bytes of which no record can be made; ``records`` is None where nobody can tell how many they held."""

    offset: int
    length: int
    records: int | None
    reason: str


@dataclass(slots=True)
class FileSalvage:
    """What is left of a file of an agent.

    Attributes:
        name: its name.
        path: where it lies, or lay.
        listed: whether the MANIFEST names it.
        trashed: what the trash says of it; None where its records count.
        pieces: blocks or frames that are good, in the order of the file.
        flipped: by offset, the bytes of pieces in which one bit had turned.
        copied: by offset, which source has a piece that this file has not.
        lost: ranges that are not.
        blocks: the index of a day file that can stay as it is; None where it cannot.
        packed: the index of a packed file that can stay as it is; None where it cannot.
        changed: whether the MANIFEST has to say something else of it than it did.
        lost_repeats: what lines begin with that stand for a record whose original is lost.
        not_taken: lines that no index lists and that were left out, by reason.
        ingested: when its youngest lines came.
        is_missing: whether it is not there.
        behind: how many bytes stand behind its end that are no records and that no lane explains.
    """

    name: str
    path: str
    listed: bool
    trashed: TrashedFile | None = None
    pieces: list[BlockRef | FrameRef] = field(default_factory=list)
    flipped: dict[int, bytes] = field(default_factory=dict)
    copied: dict[int, str] = field(default_factory=dict)
    lost: list[LostRange] = field(default_factory=list)
    blocks: list[Block] | None = None
    packed: PackedFile | None = None
    changed: bool = False
    lost_repeats: set[bytes] = field(default_factory=set)
    not_taken: dict[str, int] = field(default_factory=dict)
    ingested: int = 0
    is_missing: bool = False
    behind: int = 0

    @property
    def records(self) -> int:
        """How many can be saved."""
        return sum(piece.records for piece in self.pieces) - len(self.lost_repeats)

    @property
    def records_lost(self) -> int:
        """How many cannot, as far as that is known."""
        return sum(each.records or 0 for each in self.lost) + len(self.lost_repeats)

    @property
    def is_whole(self) -> bool:
        """Whether every piece is in the file as it should be."""
        return not (self.lost or self.flipped or self.copied or self.is_missing or self.lost_repeats or self.behind)

    @property
    def can_stay(self) -> bool:
        """Whether the file can stay as it is."""
        return self.blocks is not None or self.packed is not None
