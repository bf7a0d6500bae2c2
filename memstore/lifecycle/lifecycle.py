"""The lifecycle of one open store, put together: what the face calls."""

from __future__ import annotations

from collections.abc import Callable

from memstore.cache.sieve import SieveCache
from memstore.engine.engine import Engine
from memstore.engine.piece_reader import PieceReader
from memstore.fs.handles import ReadHandles
from memstore.lifecycle.commit import Committer
from memstore.lifecycle.erase import Eraser
from memstore.lifecycle.forget import Forgetter
from memstore.lifecycle.holds import HoldsFile
from memstore.lifecycle.manager import Manager
from memstore.lifecycle.pack import store_packer
from memstore.lifecycle.survey import Survey
from memstore.lifecycle.worker import Worker

_OPEN_FILES_MAX = 64
_FRAME_CACHE_BYTES = 8 * 1024 * 1024
"""What a move keeps unpacked: enough to find the originals of repeats; it reads everything else once."""


class Lifecycle:
    """Thread-safe; one per open store.

    Args:
        engine: the store.
        drop_derived: takes what was derived from an agent's records (None: anybody's) out of the store before they are
            erased, and says which files went.
        settle_copy: brings the second copy to what the store is now, for an erasure; says why it could not, or None.

    Attributes:
        manager: plans and maintains.
        forgetter: forgets and brings back.
        eraser: erases.
        holds: legal holds.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        drop_derived: Callable[[str | None], list[str]] | None = None,
        settle_copy: Callable[[], str | None] | None = None,
    ) -> None:
        # A cache and handles of its own: a move goes through gigabytes once, and must not push out what agents read.
        self._reader = reader = PieceReader(
            engine.storage,
            catalog=engine.catalog,
            handles=ReadHandles(engine.storage, files_max=_OPEN_FILES_MAX),
            frames=SieveCache(engine.clock, bytes_max=_FRAME_CACHE_BYTES, ttl_s=3600),
        )
        self.holds = HoldsFile(engine.storage, engine.paths)
        committer = Committer(engine)
        packer = store_packer(engine, reader)
        self.forgetter = Forgetter(engine, committer=committer, packer=packer, holds=self.holds)
        self.eraser = Eraser(
            engine,
            committer=committer,
            packer=packer,
            holds=self.holds,
            drop_derived=drop_derived or _nothing_derived,
            settle_copy=settle_copy or _no_copy,
        )
        self.manager = Manager(
            engine,
            worker=Worker(engine, committer=committer, packer=packer, holds=self.holds),
            survey=Survey(engine),
            holds=self.holds,
            resume_erasures=self.eraser.resume,
            let_go=self.let_go,
        )

    def let_go(self) -> None:
        """Close what was read: while a file that was removed is open, its space is not free."""
        self._reader.drop_under("")


def _no_copy() -> None:
    return None


def _nothing_derived(_agent: str | None) -> list[str]:
    return []
