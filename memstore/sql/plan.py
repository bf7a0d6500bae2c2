"""What one query reads: every piece of every agent that is asked for, each record once, and how long its lines are.

A plan is made from one snapshot of each agent, and its files are held open: a merge, a move or a retention that goes by
while DuckDB reads changes nothing that the plan reads. Files are only pruned by agent and time here; all else is for
DuckDB.

DuckDB must be told beforehand how long the file is that it reads. Blocks, frames and slices state it, and are not
touched before they are read. Only where lines are left out (tombstones) or made (repeats) a piece is read once to see.
"""

from __future__ import annotations

import contextlib
import fnmatch
import logging
import os
import resource
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from memstore.cache.sieve import SieveCache
from memstore.engine.engine import Engine
from memstore.engine.piece import Piece, SlicePiece
from memstore.engine.piece_reader import PieceReader
from memstore.engine.reading import MOVES_FOLLOWED_MAX
from memstore.engine.view import Snapshot
from memstore.errors import CorruptionError, StorageError, UsageError
from memstore.fs.handles import ReadHandles
from memstore.manifest.index import SETTLED, BlockRef, FrameRef, Manifest
from memstore.timestamps import YEAR_10000_US

_log = logging.getLogger(__name__)
_FRAME_CACHE_BYTES = 8 << 20
"""DuckDB reads 16 MiB at a time: the frame at a cut is wanted twice, and so are those that repeats refer to."""
_FRAMES_TTL_S = 3600.0
_FILES_HELD_MIN = 64
_FILES_HELD_MAX = 1 << 20


@dataclass(frozen=True, slots=True)
class Scope:
    """Which records there are to ask about.

    Attributes:
        agents: patterns of agent ids, as of a shell; None: all agents.
        since_us: from this time on.
        until_us: before this time.
        skip_damage: read around what is damaged, and log it, instead of raising.
    """

    agents: tuple[str, ...] | None = None
    since_us: int = 0
    until_us: int = YEAR_10000_US
    skip_damage: bool = False

    def wants(self, agent: str) -> bool:
        """Whether one of the patterns is the agent's."""
        return self.agents is None or any(_is_meant(agent, pattern) for pattern in self.agents)


class Part(NamedTuple):
    """A piece, and what is to be handed out of it.

    Attributes:
        manifest: the one it comes from; None for a slice of an agent that has none yet.
        piece: which.
        size_bytes: of its lines as they are handed out, line breaks included.
        made: whether they differ from what is stored: lines are hidden, or stand for repeats.
    """

    manifest: Manifest | None
    piece: Piece
    size_bytes: int
    made: bool


@dataclass(frozen=True, slots=True)
class Plan:
    """What a query reads. Its files stay open until it is closed or forgotten.

    Attributes:
        parts: in the order in which they are handed out: by agent and time, what is not merged last.
        reader: reads them.
        handles: the open files.
    """

    parts: list[Part]
    reader: PieceReader
    handles: ReadHandles

    def close(self) -> None:
        """Let go of the files."""
        self.handles.clear()
        self.reader.clear()


def make_plan(engine: Engine, scope: Scope) -> Plan:
    """Look at the store now.

    Raises:
        CorruptionError: damage was met, unless it is to be skipped.
        UsageError: no agent has such an id.
    """
    return _Planner(engine, scope).plan()


class _Distrusted(Exception):  # noqa: N818 - not an error: the snapshot has to be taken again without this merge
    def __init__(self, merge_id: str) -> None:
        super().__init__(merge_id)
        self.merge_id = merge_id


class _Planner:
    def __init__(self, engine: Engine, scope: Scope) -> None:
        self._engine = engine
        self._scope = scope
        self._builder = engine.builder
        self._handles = ReadHandles(engine.storage, files_max=_files_held_max())
        self._pieces = PieceReader(
            engine.storage,
            catalog=engine.catalog,
            handles=self._handles,
            frames=SieveCache(engine.clock, bytes_max=_FRAME_CACHE_BYTES, ttl_s=_FRAMES_TTL_S),
        )
        self._reported: set[tuple[str, int]] = set()
        # Before the first snapshot: what is merged from these may not be synced yet (DESIGN 5.6).
        self._standing = self._builder.lane_tokens()

    def plan(self) -> Plan:
        parts: list[Part] = []
        slices: list[Part] = []
        for agent in self._agents():
            for part in self._agent_parts(agent):
                (slices if isinstance(part.piece, SlicePiece) else parts).append(part)
        slices.sort(key=_slice_place)  # a lane is then read from its start to its end
        return Plan([*parts, *slices], self._pieces, self._handles)

    def _agents(self) -> list[str]:
        inventory = self._engine.inventory
        try:
            found = inventory.agents()
        except CorruptionError as error:
            self._report(error)
            found = inventory.agents(skip_damaged=True)
        for pattern in self._scope.agents or ():
            if not any(_is_meant(agent, pattern) for agent in found):
                raise UsageError(f"no agent of the store is {pattern!r}; `memstore agents` lists those it has")
        return [agent for agent in found if self._scope.wants(agent)]

    def _agent_parts(self, agent: str) -> list[Part]:
        distrusted: frozenset[str] = frozenset()
        moves = 0
        while True:
            snapshot = self._builder.snapshot(agent, distrusted=distrusted)
            for error in snapshot.damage:
                self._report(error)
            try:
                return list(self._parts(snapshot, follow=moves < MOVES_FOLLOWED_MAX))
            except _Distrusted as found:
                distrusted |= {found.merge_id}
            except FileNotFoundError as error:
                moves += 1  # a move went by between the snapshot and the opening of its files
                if moves > MOVES_FOLLOWED_MAX + 1:
                    raise StorageError(
                        f"{error.filename or error}: files of {agent} move all the time; try again later"
                    ) from error

    def _parts(self, snapshot: Snapshot, *, follow: bool) -> Iterator[Part]:
        """Every piece with something to hand out.

        Raises:
            FileNotFoundError: a file has vanished, and ``follow`` says that it may have been moved.
        """
        missing: set[str] = set()
        held: set[str] = set()
        for piece in self._sorted_pieces(snapshot):
            if not isinstance(piece, SlicePiece) and piece.file not in held:
                assert snapshot.manifest is not None
                try:
                    self._pieces.open(snapshot.manifest, piece.file)
                except FileNotFoundError:
                    if follow:
                        raise
                    missing.add(piece.file)
                held.add(piece.file)
            if not isinstance(piece, SlicePiece) and piece.file in missing:
                self._report_missing(snapshot.manifest, piece)
                continue
            part = self._part(snapshot.manifest, piece)
            if part is not None:
                yield part

    def _sorted_pieces(self, snapshot: Snapshot) -> list[Piece]:
        """The pieces of the wanted time, each once, in the order of their files."""
        found: dict[tuple[str, int], Piece] = {}
        since_us, until_us = self._scope.since_us, self._scope.until_us
        for day in self._builder.days(snapshot, since_us, until_us):
            for piece in self._builder.pieces(snapshot, day, since_us, until_us):
                path = piece.file.path if isinstance(piece, SlicePiece) else piece.file
                found.setdefault((path, piece.offset), piece)
        return [found[place] for place in sorted(found)]

    def _part(self, manifest: Manifest | None, piece: Piece) -> Part | None:
        made = manifest is not None and _is_made(manifest, piece)
        merge_id = self._merge_in_doubt(manifest, piece)
        size_bytes = piece.frame.raw_length if isinstance(piece, FrameRef) else piece.length
        if made or merge_id is not None or self._scope.skip_damage:
            try:
                if made:
                    size_bytes = sum(len(line) + 1 for line in self._pieces.lines(manifest, piece))
                else:
                    self._pieces.data(manifest, piece)
            except CorruptionError as error:
                if merge_id is not None:
                    raise _Distrusted(merge_id) from error
                self._report(error)
                return None
        return Part(manifest, piece, size_bytes, made) if size_bytes else None

    def _merge_in_doubt(self, manifest: Manifest | None, piece: Piece) -> str | None:
        """The merge that wrote a block, if all of its lanes still stand: the power may have gone before its sync."""
        if manifest is None or not isinstance(piece, BlockRef) or piece.merge == SETTLED:
            return None
        merge = manifest.merges[piece.merge]
        return merge.id if self._standing.issuperset(merge.lanes) else None

    def _report_missing(self, manifest: Manifest | None, piece: BlockRef | FrameRef) -> None:
        assert manifest is not None
        self._report(
            CorruptionError(
                self._pieces.path_of(manifest, piece.file),
                offset_bytes=piece.offset,
                length_bytes=piece.length,
                reason="the file is missing",
                records=piece.records,
            )
        )

    def _report(self, error: CorruptionError) -> None:
        """Raises: CorruptionError: this one, unless damage is to be skipped."""
        if not self._scope.skip_damage:
            raise error
        place = (error.path, error.offset_bytes)
        if place not in self._reported:
            self._reported.add(place)
            self._engine.metrics.add("damage_skipped")
            _log.warning("reading around damage: %s", error)


def _is_meant(agent: str, pattern: str) -> bool:
    """Whether a pattern is an agent's; an id that looks like a pattern is its own."""
    return agent == pattern or fnmatch.fnmatchcase(agent, pattern)


def _is_made(manifest: Manifest, piece: Piece) -> bool:
    """Whether what is handed out of a piece is not what is stored."""
    if manifest.hidden.touches(piece.t_min, piece.t_max):
        return True
    return isinstance(piece, FrameRef) and manifest.repeats_in(piece.file)


def _slice_place(part: Part) -> tuple[str, int]:
    assert isinstance(part.piece, SlicePiece)
    return part.piece.file.path, part.piece.offset


def _files_held_max() -> int:
    """How many files may be held open; more are opened again for each read, and may be gone by then.

    Half of the descriptors that the process has left, so that a second query has some too.
    """
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit == resource.RLIM_INFINITY:
        return _FILES_HELD_MAX
    with contextlib.suppress(OSError):  # where the system does not list them
        limit -= len(os.listdir("/dev/fd"))
    return min(max(limit // 2, _FILES_HELD_MIN), _FILES_HELD_MAX)


def agent_patterns(agents: str | Iterable[str] | None) -> tuple[str, ...] | None:
    """One pattern or several; None for all agents."""
    if agents is None:
        return None
    return (agents,) if isinstance(agents, str) else tuple(agents)
