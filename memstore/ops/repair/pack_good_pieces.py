"""What is good of a file that has lost something, in a new packed file that takes its place."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Sequence

import orjson

from memstore.cache.sieve import SieveCache
from memstore.engine.engine import Engine
from memstore.engine.piece import Piece
from memstore.engine.piece_reader import PieceReader
from memstore.errors import StorageError
from memstore.format.lines import ID_STAMP_CHARS, agent_prefix, split_lines
from memstore.format.names import Tier, parse_day_file_name, tier_of
from memstore.fs.handles import ReadHandles
from memstore.fs.storage import StorageFile
from memstore.ids import SUFFIX_CHARS
from memstore.lifecycle.collapse import Expander, OwnRepeatFieldError
from memstore.lifecycle.pack import Built, Recipe, store_packer
from memstore.lifecycle.recipes import recipe_for, whole_split
from memstore.lifecycle.sources import SortedLines, sorted_lines
from memstore.manifest.index import BlockRef, Hidden, Manifest
from memstore.ops.agent_place import is_in_trash
from memstore.ops.repair.agent_plan import AgentPlan
from memstore.ops.repair.good_copies import GoodCopies
from memstore.ops.repair.good_pieces import mended_bytes, stored_frames
from memstore.ops.repair.salvage import FileSalvage

_OPEN_FILES_MAX = 16
_FRAME_CACHE_BYTES = 8 * 1024 * 1024
_ID_AT = len(b'{"memory_id":"')


class GoodPiecesPacker:
    """Packs what is good of files of agents. Used by one thread.

    Args:
        engine: the store.
        copies: where good copies may be had.
    """

    def __init__(self, engine: Engine, copies: GoodCopies) -> None:
        self._engine = engine
        self._storage = engine.storage
        self._copies = copies

    def build(self, plan: AgentPlan, each: FileSalvage, version: int) -> Built:
        """What is good of a file in a new one, whole and durable, which counts for nothing yet.

        Args:
            plan: of the agent; what stands elsewhere by it is left out.
            each: the file.
            version: of the new one's name; the next one, too, is taken.

        Raises:
            CorruptionError: the file is no longer what it was when it was looked at.
            StorageError: the disk refuses.
        """
        tier: Tier = "cold" if tier_of(each.name) == "cold" else "warm"
        drop = Hidden.of(_id_of(needle) for needle in plan.doubled.get(each.path, ()))
        settings = self._engine.settings.storage.lifecycle
        split = None if each.trashed is None and not is_in_trash(each.path) else whole_split
        recipe = recipe_for(tier, plan.agent, settings, drop=drop, split=split)
        try:
            return self._packed(plan, each, recipe, version)
        except OwnRepeatFieldError:
            return self._packed(plan, each, recipe.whole(), version)

    def _packed(self, plan: AgentPlan, each: FileSalvage, recipe: Recipe, version: int) -> Built:
        numbered = dataclasses.replace(plan.index.manifest, next_version=version)
        reader = _MendingReader(self._engine, each, self._copies)
        if parse_day_file_name(each.name) is not None:
            records = each.records - plan.repeated.get(each.path, 0)
            parts = _each_once(sorted_lines(reader, _index_of(numbered, each), [each.name]), plan.agent)
            return store_packer(self._engine, reader).build_from(numbered, parts, recipe, records=records)
        source = None if each.is_missing else self._storage.open_read(each.path)
        try:
            parts = self._whole_lines(each, source, len(agent_prefix(plan.agent)))
            return store_packer(self._engine, reader).build_from(numbered, parts, recipe, records=each.records)
        finally:
            if source is not None:
                source.close()

    def _whole_lines(self, each: FileSalvage, source: StorageFile | None, prefix_bytes: int) -> Iterator[SortedLines]:
        """The records of a packed file's good frames, in order, but for repeats whose originals are lost."""
        expander = Expander(prefix_bytes, _lost)
        needle_bytes = prefix_bytes + ID_STAMP_CHARS + SUFFIX_CHARS
        for ref, data in stored_frames(each, source, copies=self._copies):
            stored = [line[:-1] for line in split_lines(data) if line[:needle_bytes] not in each.lost_repeats]
            lines = expander.expand(stored)
            if lines:
                yield SortedLines(b"\n".join(lines) + b"\n", ref.frame.ingested)


class _MendingReader(PieceReader):
    """Reads the blocks of one day file, those that were mended as they should be."""

    def __init__(self, engine: Engine, each: FileSalvage, copies: GoodCopies) -> None:
        super().__init__(
            engine.storage,
            catalog=engine.catalog,
            handles=ReadHandles(engine.storage, files_max=_OPEN_FILES_MAX),
            frames=SieveCache(engine.clock, bytes_max=_FRAME_CACHE_BYTES, ttl_s=3600),
        )
        self._each = each
        self._copies = copies

    def data(self, manifest: Manifest | None, piece: Piece) -> bytes:
        """See `PieceReader.data`."""
        mended = mended_bytes(self._each, piece, copies=self._copies)
        return super().data(manifest, piece) if mended is None else mended

    def adjoining(self, manifest: Manifest, blocks: Sequence[BlockRef]) -> bytes:
        """See `PieceReader.adjoining`."""
        return b"".join(self.data(manifest, block) for block in blocks)


def _index_of(manifest: Manifest, each: FileSalvage) -> Manifest:
    """An index that lists the good blocks of one day file and nothing else."""
    parsed = parse_day_file_name(each.name)
    assert parsed is not None, each.name
    blocks = tuple(piece for piece in each.pieces if isinstance(piece, BlockRef))
    return dataclasses.replace(
        manifest,
        days={parsed[0]: tuple(block._replace(merge=-1) for block in blocks)},
        sorted_days=(parsed[0],),
        day_files={each.name: max(block.offset + block.length for block in blocks)},
        ingested={each.name: each.ingested},
        packed={},
        trash={},
        hidden=Hidden(),
    )


def _each_once(parts: Iterable[SortedLines], agent: str) -> Iterator[SortedLines]:
    """Sorted lines without those whose id the line before has."""
    needle_bytes = len(agent_prefix(agent)) + ID_STAMP_CHARS + SUFFIX_CHARS
    last = b""
    for part in parts:
        kept: list[bytes] = []
        for line in split_lines(part.data):
            if line[:needle_bytes] != last:
                kept.append(line)
                last = line[:needle_bytes]
        if kept:
            yield SortedLines(b"".join(kept), part.ingested)


def _id_of(needle: bytes) -> str:
    return str(orjson.loads(b'"%b"' % needle[_ID_AT:]))


def _lost(needle: bytes) -> bytes:
    raise StorageError(f"{needle!r} is in no good frame")
