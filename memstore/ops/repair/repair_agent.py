"""Carry out what was planned for one agent: files first, then the index that names them, then what they replace goes.

::

    files that can be written again just as they were     set aside, written beside, renamed over themselves
    files of which something is lost                      what is good of them into new files, whole and durable
    everything that is to go                              copied into the quarantine
    the MANIFEST                                          replaced as a whole: from here on all of it counts
    originals                                             unlinked

A crash before the MANIFEST is replaced leaves copies in the quarantine and packed files that no line names; a crash
behind it, files that the MANIFEST names as dropped. Both are what the next clean-up knows, and the repair finds the
same to do as before, or nothing.
"""

from __future__ import annotations

import dataclasses
import logging
import os
import secrets
from collections.abc import Iterable, Iterator, Sequence

import msgspec
import orjson

from memstore.cache.lru import LruCache
from memstore.codec.zstd import CHECKSUM_BYTES
from memstore.engine.engine import Engine
from memstore.engine.piece import Piece
from memstore.engine.piece_reader import PieceReader
from memstore.errors import StorageError
from memstore.format.forgotten import Changing, text_hash
from memstore.format.frames import SeekEntry, content_check, encode_seek_table
from memstore.format.lines import ID_STAMP_CHARS, agent_prefix, split_lines
from memstore.format.manifest import (
    Block,
    Chunk,
    PackedFile,
    State,
    TrashedFile,
    encode_manifest_header,
    encode_state,
)
from memstore.format.names import KEPT_SUFFIX, MANIFEST, TRASH_DIRECTORY, Tier, lane_token, parse_day_file_name, tier_of
from memstore.fs.atomic import make_durable_directories, replace_file, temporary_path, try_unlink
from memstore.fs.handles import ReadHandles
from memstore.fs.storage import StorageFile
from memstore.ids import SUFFIX_CHARS
from memstore.lifecycle.collapse import Expander, OwnRepeatFieldError
from memstore.lifecycle.pack import Built, Recipe
from memstore.lifecycle.recipes import recipe_for
from memstore.lifecycle.sources import SortedLines, sorted_lines
from memstore.lifecycle.worker import worker_packer
from memstore.manifest.compaction import TOKEN_KEPT_US
from memstore.manifest.index import BlockRef, FrameRef, Hidden, Manifest
from memstore.ops.layout import entries_of
from memstore.ops.repair.agent_plan import AgentPlan
from memstore.ops.repair.good_copies import GoodCopies
from memstore.ops.repair.good_pieces import mended_bytes, stored_bytes, stored_frames
from memstore.ops.repair.quarantine import Quarantine
from memstore.ops.repair.repair_step import CopiedRange, RepairStep, sources_of
from memstore.ops.repair.salvage import FileSalvage
from memstore.timestamps import YEAR_10000_US

_log = logging.getLogger(__name__)
_OPEN_FILES_MAX = 16
_FRAME_CACHE_BYTES = 8 * 1024 * 1024
_ID_AT = len(b'{"memory_id":"')


def steps_of(plan: AgentPlan) -> list[RepairStep]:
    """What carrying out a plan does, in words."""
    here = [each for each in plan.files if not plan.is_elsewhere(each)]
    steps = [_file_step(plan, each) for each in here if not plan.is_kept(each) or plan.can_restore(each)]
    steps += [_adopt_step(plan, each) for each in here if plan.is_kept(each) and not each.listed]
    steps += [
        RepairStep("keep_once", path, f"Set {path} aside: nothing is in it that is not kept elsewhere.", plan.agent)
        for path in plan.strangers
    ]
    if plan.unmerged:
        sentence = f"Merge {len(plan.unmerged)} lane(s) of {plan.agent} once more, in place of blocks that are damaged."
        steps.append(RepairStep("merge_again", plan.directory, sentence, plan.agent))
    if plan.other:
        sentence = f"Take what only {plan.other} holds into {plan.directory}, where readers look for {plan.agent}."
        steps.append(RepairStep("adopt", plan.other, sentence, plan.agent))
    if plan.needs_index:
        steps.append(_index_step(plan))
    return steps


def _file_step(plan: AgentPlan, each: FileSalvage) -> RepairStep:
    doubled = plan.stands_twice(each)
    if plan.can_restore(each):
        how = []
        if each.flipped:
            how.append(f"{len(each.flipped)} piece(s) in which one bit had flipped")
        if each.copied:
            how.append(f"{len(each.copied)} piece(s) of a good copy, {sources_of(_copied(each))}")
        if each.behind:
            how.append(f"without the {each.behind} bytes behind its end, which are no records")
        what = " and ".join(how) or "its seek table"
        return RepairStep(
            "restore_file",
            each.path,
            f"Write {each.path} again just as it was: {what}.",
            plan.agent,
            records_kept=each.records,
            copied=_copied(each),
        )
    if not each.pieces:
        reason = each.lost[0].reason if each.lost else "it is missing"
        sentence = f"Take {each.path} out of the MANIFEST: {reason}."
        return RepairStep("take_out", each.path, sentence, plan.agent, records_lost=each.records_lost)
    if not each.lost and not each.lost_repeats and doubled:
        sentence = (
            f"Keep {each.records - doubled} records of {each.path} in a new file: {doubled} stand elsewhere, too."
        )
        return RepairStep("keep_once", each.path, sentence, plan.agent, records_kept=each.records - doubled)
    unknown = " and an unknown number of others" if any(lost.records is None for lost in each.lost) else ""
    sentence = (
        f"Keep {each.records - doubled} records of {each.path} in a new file; {each.records_lost}{unknown} are lost."
    )
    if each.copied:
        sentence += f" {len(each.copied)} piece(s) are of a good copy, {sources_of(_copied(each))}."
    return RepairStep(
        "salvage_file",
        each.path,
        sentence,
        plan.agent,
        records_kept=each.records - doubled,
        records_lost=each.records_lost,
        copied=_copied(each),
    )


def _copied(each: FileSalvage) -> tuple[CopiedRange, ...]:
    """What of a file is taken from good copies."""
    lengths = {piece.offset: piece.length for piece in each.pieces}
    return tuple(CopiedRange(at, lengths[at], source) for at, source in sorted(each.copied.items()) if at in lengths)


def _adopt_step(plan: AgentPlan, each: FileSalvage) -> RepairStep:
    where = "keep it in the trash" if each.trashed is not None else "let it count"
    sentence = f"Take {each.path} into the MANIFEST, which has lost its lines, and {where}: {each.records} records."
    return RepairStep("adopt", each.path, sentence, plan.agent, records_kept=each.records)


def _index_step(plan: AgentPlan) -> RepairStep:
    path = os.path.join(plan.directory, MANIFEST)
    sentence = f"Write {path} anew"
    if plan.index.mended:
        sentence += f", {len(plan.index.mended)} line(s) put right"
    copied = tuple(CopiedRange(each.offset, each.length, each.source) for each in plan.index.mended if each.source)
    if copied:
        sentence += f" ({sources_of(copied)})"
    hidden = len(plan.hidden - plan.index.manifest.hidden.ids)
    if hidden:
        sentence += f", {hidden} forgotten record(s) hidden again"
    if plan.index.source:
        sentence += f", by what {plan.index.source} says of it"
    if plan.is_incomplete:
        sentence += ", from the files and lanes of the agent; when its records were merged is not known any more"
        if plan.untold:
            sentence += f", and up to {plan.untold} records that were forgotten may be seen again: forget them anew"
    return RepairStep("write_manifest", path, f"{sentence}.", plan.agent, copied=copied)


class AgentRepair:
    """Carries out plans. The caller holds the lifecycle, the rebalance, the merge and the shard's lock."""

    def __init__(self, engine: Engine, copies: GoodCopies, quarantine: Quarantine) -> None:
        self._engine = engine
        self._storage = engine.storage
        self._copies = copies
        self._quarantine = quarantine

    def carry_out(self, plan: AgentPlan) -> None:
        """Do what `steps_of` says.

        Raises:
            StorageFullError: no space; what was done so far counts, and the rest is done by the next repair.
            StorageError: the disk refuses, likewise.
        """
        for each in plan.files:
            if plan.can_restore(each):
                self._restore(plan, each)
        if plan.needs_index:
            self._write_index(plan)
        elif plan.strangers:
            self._set_aside(plan, [])
            self._remove(plan.strangers)
        for directory in (plan.directory, self._engine.catalog.state.archive_of(plan.agent)):
            self._engine.pieces.drop_under(directory)

    # -- files that can be written again just as they were

    def _restore(self, plan: AgentPlan, each: FileSalvage) -> None:
        """Write a file anew under its own name: the same bytes as ever, so whoever reads it may take either."""
        self._quarantine.copy(each.path, why="parts of it were damaged; it was written again just as it was")
        make_durable_directories(self._storage, os.path.dirname(each.path))
        source = None if each.is_missing else self._storage.open_read(each.path)
        temporary = temporary_path(os.path.dirname(each.path))
        try:
            target = self._storage.create(temporary)
            try:
                size = self._write_pieces(each, source, target)
                expected = plan.index.manifest.day_files.get(each.name)
                if expected is None:
                    expected = plan.index.manifest.packed_file(each.name).size
                if size != expected:
                    raise StorageError(
                        f"{each.path}: {size} bytes came of its pieces, not {expected}; it stays as it is"
                    )
                target.sync_data()
            finally:
                target.close()
            self._storage.rename(temporary, each.path)
        except BaseException:
            try_unlink(self._storage, temporary)
            raise
        finally:
            if source is not None:
                source.close()
        self._storage.sync_directory(os.path.dirname(each.path))
        self._engine.handles.drop(each.path)

    def _write_pieces(self, each: FileSalvage, source: StorageFile | None, target: StorageFile) -> int:
        end = 0
        entries: list[SeekEntry] = []
        for piece in each.pieces:
            data = stored_bytes(each, piece, source, copies=self._copies)
            target.write(data, end)
            end += len(data)
            if isinstance(piece, FrameRef):
                entries.append(SeekEntry(piece.length, piece.frame.raw_length, content_check(data[-CHECKSUM_BYTES:])))
        if entries:
            table = encode_seek_table(entries)
            target.write(table, end)
            end += len(table)
        return end

    # -- the index, and files that have lost something

    def _write_index(self, plan: AgentPlan) -> None:
        built: list[tuple[FileSalvage, Built]] = []
        version = plan.next_version
        for each in plan.files:
            if not plan.is_kept(each) and each.pieces:
                built.append((each, self._build(plan, each, version)))
                version += 2
        state = self._state(plan, built, version)
        gone = [each for each in plan.files if not plan.is_kept(each)]
        self._set_aside(plan, gone)
        # What other processes have cached, or an index says of the agent, may be gone, or have come back.
        now_us = self._engine.clock.now_us()
        change = Changing(at=now_us, agent=text_hash(plan.agent), since=0, until=YEAR_10000_US)
        self._engine.forgotten.stir(change)
        self._engine.catalog.raise_version()
        header = encode_manifest_header(
            agent=plan.agent, at=self._engine.clock.now_us(), compaction_id=secrets.token_hex(8)
        )
        replace_file(self._storage, os.path.join(plan.directory, MANIFEST), header + encode_state(state))
        self._remove([*(each.path for each in gone), *plan.strangers])
        if plan.other:
            self._remove([os.path.join(plan.other, MANIFEST)])
            self._remove_directory(plan.other)

    def _remove_directory(self, directory: str) -> None:
        """What is left of it was never anybody's, or is all that a maintenance would remove."""
        for entry in entries_of(self._storage, directory):
            path = os.path.join(directory, entry.name)
            if entry.is_directory:
                self._remove_directory(path)
            else:
                self._quarantine.copy(path, why="it lay in a directory in which nobody looks for the agent")
                self._remove([path])
        self._storage.remove_directory(directory)
        self._storage.sync_directory(os.path.dirname(directory))

    def _set_aside(self, plan: AgentPlan, gone: Sequence[FileSalvage]) -> None:
        if plan.needs_index:
            why = "it was written anew by a repair"
            lost = [{"offset_bytes": offset, "length_bytes": length} for offset, length in plan.index.lost]
            self._quarantine.copy(os.path.join(plan.directory, MANIFEST), why=why, found={"lost": lost})
        if plan.other:
            why = "it lay in a directory in which nobody looks for the agent; what it says is in the other one now"
            self._quarantine.copy(os.path.join(plan.other, MANIFEST), why=why)
        for each in gone:
            found = {
                "agent": plan.agent,
                "records_kept": each.records,
                "lost": [dataclasses.asdict(lost) for lost in each.lost],
                "repeats_lost": len(each.lost_repeats),
            }
            self._quarantine.copy(each.path, why="parts of it are damaged; the rest is in other files now", found=found)
        for path in plan.strangers:
            self._quarantine.copy(path, why="no line of a MANIFEST names it, and it holds nothing of its own")

    def _remove(self, paths: Sequence[str]) -> None:
        for path in paths:
            try_unlink(self._storage, path)
            self._engine.handles.drop(path)
        for directory in sorted({os.path.dirname(path) for path in paths}):
            if self._storage.identify(directory) is not None:
                self._storage.sync_directory(directory)

    def _state(self, plan: AgentPlan, built: Sequence[tuple[FileSalvage, Built]], version: int) -> State:
        manifest = plan.index.manifest
        now_us = self._engine.clock.now_us()
        kept = [each for each in plan.files if plan.is_kept(each)]
        days = [each for each in kept if parse_day_file_name(each.name) is not None]
        packed: list[PackedFile] = []
        trash: list[TrashedFile] = []
        for each in kept:
            if parse_day_file_name(each.name) is None:
                known = each.packed or manifest.packed_file(each.name)
                _sort_in(each, known, packed, trash)
        for each, result in built:
            one = result.live or result.trash
            if one is not None:
                _sort_in(each, _as_digested(one, each, manifest), packed, trash)
        gone = [each.name for each in plan.files if not plan.is_kept(each) and not each.is_missing]
        return State(
            at=now_us,
            next_version=version,
            lanes=self._tokens(plan, now_us),
            days=sorted((Chunk(each.name, 0, _blocks(each)) for each in days), key=lambda chunk: chunk.file),
            ingested={each.name: each.ingested for each in days},
            packed=sorted(packed, key=lambda each: each.file),
            trash=sorted(trash, key=lambda each: each.packed.file),
            hidden=sorted(plan.hidden),
            purged=sorted(manifest.purged),
            dropped={**manifest.dropped, **dict.fromkeys(gone, now_us)},
        )

    def _tokens(self, plan: AgentPlan, now_us: int) -> list[str]:
        """Lanes that count as merged: those that are kept, and those that a reader may have listed within the hour."""
        manifest = plan.index.manifest
        kept = {lane_token(name) for name in self._engine.lanes.names() if name.endswith(KEPT_SUFFIX)}
        merge_at = {token: merge.at for merge in manifest.merges for token in merge.lanes}
        is_of_copy = bool(plan.index.source)  # which knows of them, and not since when
        return sorted(
            token
            for token in manifest.merged
            if token not in plan.unmerged
            and (
                token in kept
                or (is_of_copy and token not in merge_at)
                or merge_at.get(token, manifest.begun) > now_us - TOKEN_KEPT_US
            )
        )

    def _build(self, plan: AgentPlan, each: FileSalvage, version: int) -> Built:
        """What is good of a file in a new one, whole and durable, which counts for nothing yet."""
        tier: Tier = "cold" if tier_of(each.name) == "cold" else "warm"
        drop = Hidden.of(_id_of(needle) for needle in plan.doubled.get(each.path, ()))
        settings = self._engine.settings.storage.lifecycle
        split = None if each.trashed is None and not _in_trash(each) else _all_to_trash
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
            return worker_packer(self._engine, reader).build_from(numbered, parts, recipe, records=records)
        source = None if each.is_missing else self._storage.open_read(each.path)
        try:
            parts = self._whole_lines(each, source, len(agent_prefix(plan.agent)))
            return worker_packer(self._engine, reader).build_from(numbered, parts, recipe, records=each.records)
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
            frames=LruCache(engine.clock, bytes_max=_FRAME_CACHE_BYTES, ttl_s=3600),
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


def _blocks(each: FileSalvage) -> list[Block]:
    """The index of a day file that stays."""
    if each.blocks is not None:
        return each.blocks
    return [Block(piece.length, piece.records, piece.t_min, piece.t_max, piece.xxh3) for piece in each.pieces]


def _sort_in(each: FileSalvage, known: PackedFile, packed: list[PackedFile], trash: list[TrashedFile]) -> None:
    if each.trashed is not None:
        trash.append(msgspec.structs.replace(each.trashed, packed=known))
    else:
        packed.append(known)


def _as_digested(packed: PackedFile, each: FileSalvage, manifest: Manifest) -> PackedFile:
    """What was said of digests in a file is said of the one that takes its place; how many were lost nobody counted."""
    if not each.listed or parse_day_file_name(each.name) is not None:
        return packed
    old = manifest.packed_file(each.name)
    return msgspec.structs.replace(packed, digests=min(old.digests, packed.records), digested_until=old.digested_until)


def _in_trash(each: FileSalvage) -> bool:
    return os.path.basename(os.path.dirname(each.path)) == TRASH_DIRECTORY


def _all_to_trash(lines: list[bytes], _: int) -> list[bool]:
    return [True] * len(lines)


def _id_of(needle: bytes) -> str:
    return str(orjson.loads(b'"%b"' % needle[_ID_AT:]))


def _lost(needle: bytes) -> bytes:
    raise StorageError(f"{needle!r} is in no good frame")
