"""What one answer is made from: indexes to search, spans to scan, and what has to be said of both."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import tantivy

from memstore.engine.feed import FedLane
from memstore.search.doubts import Doubts
from memstore.search.foreign import IndexFailedError, QueryRefusedError, translated
from memstore.search.omissions import Omissions
from memstore.search.partition import Partition


class SourceFailedError(Exception):
    """A partition refused to be searched: it is left out, its month scanned, and the question asked again."""

    def __init__(self, partition: Partition, error: IndexFailedError) -> None:
        super().__init__(str(error))
        self.partition = partition
        self.error = error


class searching(translated):  # noqa: N801 - it reads as a verb where it is used
    """Turn what tantivy refuses into a `SourceFailedError`, unless the question is at fault; a context."""

    __slots__ = ("_partition",)

    def __init__(self, partition: Partition) -> None:
        super().__init__("the search index")
        self._partition = partition

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        try:
            super().__exit__(kind, error, trace)
        except QueryRefusedError:
            raise
        except IndexFailedError as failed:
            raise SourceFailedError(self._partition, failed) from failed
        if isinstance(error, IndexFailedError) and not isinstance(error, QueryRefusedError):
            raise SourceFailedError(self._partition, error) from error


@dataclass(frozen=True, slots=True)
class Source:
    """One index to search.

    Attributes:
        partition: the index.
        must: what of it counts; empty: all.
        must_not: what of it does not.
        kind: ``indexed``, ``tail`` or ``scanned``.
    """

    partition: Partition
    must: tuple[tantivy.Query, ...] = ()
    must_not: tuple[tantivy.Query, ...] = ()
    kind: str = "indexed"


@dataclass(slots=True)
class Plan:
    """What one answer is made from.

    Attributes:
        lasting: partitions and the tail.
        scans: what has to be scanned, one after the other: agents, since, until.
        lanes: what waits in lanes and is too much for the tail, to be scanned too: lanes, and the watermark.
        doubts: what is in doubt of it.
        stale: months that are scanned.
        notes: what was found wrong with the index.
        left_out: what was damaged where it was scanned; complete once everything was.
    """

    lasting: list[Source] = field(default_factory=list)
    scans: list[tuple[list[str], int, int]] = field(default_factory=list)
    lanes: tuple[list[FedLane], Mapping[str, int]] | None = None
    doubts: Doubts = field(default_factory=Doubts)
    stale: tuple[str, ...] = ()
    notes: list[str] = field(default_factory=list)
    left_out: Omissions = field(default_factory=Omissions)

    def told(self) -> list[str]:
        """All there is to be said of the answer."""
        return [*self.notes, *self.left_out.notes()]
