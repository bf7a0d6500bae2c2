"""Release lanes that cannot be merged as they are: what is whole into a lane that can, the rest into the quarantine.

::

    the lane                             copied into the quarantine, with the ranges that are lost
    slices that are not merged yet       into a new lane of the same token, which takes the place of the old one
    lines whose commit line was lost     into a lane whose token is made of the old one's

A MANIFEST that counts the old lane as merged so counts the new one, in which there is nothing of that agent; and at no
moment are a slice's records in two lanes of different tokens. Whatever is stopped in between is begun again and gives
the same names. The next merge takes both lanes.
"""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import asdict, dataclass, field

import msgspec
import xxhash

from memstore.codec.checksum import checksum
from memstore.engine.engine import Engine
from memstore.engine.lookup import find_lines
from memstore.engine.second_copy import standing_of
from memstore.errors import CorruptionError, StorageError
from memstore.format.consumer_file import ConsumerFile
from memstore.format.forgotten import text_hash
from memstore.format.lane import Slice, encode_commit, encode_header
from memstore.format.lines import agent_prefix, lines_span_us, split_lines
from memstore.format.names import KEPT_SUFFIX, StorePaths, is_lane_name, is_merged_lane_name, lane_name, lane_token
from memstore.fs.atomic import temporary_path, try_unlink
from memstore.fs.storage import StorageFile
from memstore.ids import parse_id
from memstore.lifecycle.needles import line_id
from memstore.ops.layout import entries_of
from memstore.ops.removed_records import RemovedRecords, removed_records
from memstore.ops.repair.good_copies import GoodCopies, file_of_root
from memstore.ops.repair.quarantine import Quarantine
from memstore.ops.repair.repair_step import RepairStep, sources_of
from memstore.ops.repair.salvage_lane import LaneSalvage, Load, salvage_lane
from memstore.wal.seal import seal_lane

COMMIT_BYTES = 8 * 1024 * 1024
"""How much of the old lane is written at once."""
_SLICE_BYTES = 1024 * 1024


@dataclass(slots=True)
class LanePlan:
    """What is to become of one lane.

    Attributes:
        path: where it lies.
        salvage: what is left of it.
        slices: good slices that are not merged yet.
        lines: whole lines without a commit line that may be kept, by agent and day.
        is_written: whether a living process writes it: then it is left alone.
        file: the lane, open and locked, from which slices are still to be read.
        is_for_consumers: whether all of it is merged and it waits for consumers alone.
        erased: how many of its lines were erased while it could not be reached.
        lost_from: the store has it no more, and this file of the second copy is it; empty for a lane that is there.
    """

    path: str
    salvage: LaneSalvage = field(default_factory=LaneSalvage)
    slices: list[tuple[Slice, Load]] = field(default_factory=list)
    lines: dict[tuple[str, str], list[bytes]] = field(default_factory=dict)
    is_written: bool = False
    file: StorageFile | None = None
    is_for_consumers: bool = False
    erased: int = 0
    lost_from: str = ""

    def close(self) -> None:
        """Let go of the lane. Idempotent."""
        if self.file is not None:
            self.file.close()

    @property
    def token(self) -> str:
        """How MANIFESTs cite it."""
        return lane_token(os.path.basename(self.path))

    @property
    def writer(self) -> int:
        """The writer number in its name."""
        return int(os.path.basename(self.path)[:8], 16)

    @property
    def records(self) -> int:
        """How many are saved."""
        return sum(item.records for item, _ in self.slices) + sum(map(len, self.lines.values()))

    @property
    def step(self) -> RepairStep:
        """In words."""
        if self.is_written:
            sentence = f"{self.path} is damaged, and a living process writes it: end that, and repair again."
            return RepairStep("withheld", self.path, sentence)
        if self.is_for_consumers:
            sentence = (
                f"Set {self.path} aside: it is merged, and no record is lost. What waited for it (an index, a backup) "
                "does without: a moment between two backups may not be restored whole."
            )
            return RepairStep("release_lane", self.path, sentence)
        if self.lost_from:
            sentence = f"Take {self.records} records from {self.lost_from}, which the store has lost unmerged."
            return RepairStep("restore_lane", self.path, sentence, records_kept=self.records)
        lost = sum(each.records or 0 for each in self.salvage.lost)
        sentence = f"Release {self.path}: {self.records} records that are not merged yet"
        if self.salvage.mended:
            sentence += f", {self.salvage.mended} place(s) put right"
        if self.salvage.copied:
            sentence += f" ({sources_of(self.salvage.copied)})"
        unknown = any(each.records is None for each in self.salvage.lost)
        sentence += (
            f"; {lost}{' and an unknown number of others' if unknown else ''} are lost." if lost or unknown else "."
        )
        if self.erased:
            sentence += f" It holds {self.erased} lines that were erased: erase them once more, then the quarantine has"
            sentence += " none of them either."
        return RepairStep(
            "release_lane",
            self.path,
            sentence,
            records_kept=self.records,
            records_lost=lost,
            copied=tuple(self.salvage.copied),
        )


class LaneRepair:
    """Plans and carries out. Used by one thread; carrying out needs the merge lock."""

    def __init__(self, engine: Engine, copies: GoodCopies) -> None:
        self._engine = engine
        self._storage = engine.storage
        self._copies = copies
        self._removed: dict[str, RemovedRecords] = {}

    def plan(self, path: str) -> LanePlan | None:
        """What is to become of a lane that is kept, or in which a check has found damage; None where it is gone.

        The plan is to be closed.

        Raises:
            StorageError: the disk refuses.
        """
        if is_merged_lane_name(os.path.basename(path)):
            return LanePlan(path, is_for_consumers=True)
        try:
            file = self._storage.open_update(path)
        except FileNotFoundError:
            return None
        try:
            if not file.try_lock():
                file.close()
                return LanePlan(path, is_written=True)
            name = file_of_root(self._engine.paths, path)
            plan = LanePlan(path, salvage_lane(file, copies=self._copies, name=name), file=file)
        except BaseException:
            file.close()
            raise
        self._plan_slices(plan)
        self._plan_lines(plan)
        return plan

    def _plan_slices(self, plan: LanePlan) -> None:
        for item, load in plan.salvage.slices:
            erased = self._erased_in(item, load)
            plan.erased += erased
            if not self._is_merged(item.agent, plan.token):
                self._plan_slice(plan, item, load, by_line=erased > 0)
        for item, load in plan.salvage.found_again:
            is_merged = self._is_merged(item.agent, plan.token)  # without this slice: the merge could not know of it
            erased = 0 if is_merged else self._erased_in(item, load)
            plan.erased += erased
            self._plan_slice(plan, item, load, by_line=is_merged or erased > 0)

    def _plan_slice(self, plan: LanePlan, item: Slice, load: Load, *, by_line: bool) -> None:
        """Take a slice as it is; or line by line, without those that were erased since it was written."""
        if by_line:
            plan.salvage.lines.setdefault((item.agent, item.day), []).extend(split_lines(load()))
        else:
            plan.slices.append((item, load))

    def _plan_lines(self, plan: LanePlan) -> None:
        adopted = _adopted_token(plan.token)
        for (agent, day), lines in plan.salvage.lines.items():
            if self._is_merged(agent, adopted):
                continue
            removed = self._removed_of(agent)
            kept = sorted({line for line in lines if not removed.was_erased(line)})
            if kept:
                plan.lines[agent, day] = kept

    def plan_lost(self, name: str, copy: StorePaths) -> LanePlan | None:
        """What is to be taken from a lane of the second copy that the store does not have; None where it has all of it.

        Line by line, for the store may have some of them: a merge takes one agent after the other. What was forgotten
        or erased since does not come back.

        Raises:
            StorageError: the disk refuses.
        """
        path = os.path.join(copy.lanes, name)
        try:
            file = self._storage.open_read(path)
        except FileNotFoundError:
            return None
        try:
            relative = file_of_root(copy, path)
            plan = LanePlan(os.path.join(self._engine.paths.lanes, name), lost_from=path)
            plan.salvage = salvage_lane(file, copies=self._copies, name=relative)
            for item, load in (*plan.salvage.slices, *plan.salvage.found_again):
                if not (
                    self._is_merged(item.agent, plan.token) or self._is_merged(item.agent, _adopted_token(plan.token))
                ):
                    lines = self._not_here(item.agent, split_lines(load()))
                    plan.lines.setdefault((item.agent, item.day), []).extend(lines)
        finally:
            file.close()
        plan.lines = {key: sorted(set(lines)) for key, lines in plan.lines.items() if lines}
        return plan if plan.lines else None

    def _not_here(self, agent: str, lines: Sequence[bytes]) -> list[bytes]:
        removed = self._removed_of(agent)
        by_id = {line_id(line): line for line in lines if not removed.was_erased(line)}
        times = {each: parse_id(each).time_us for each in by_id if text_hash(each) not in removed.forgotten}
        known = find_lines(self._engine.builder, agent, times, forgotten=True)
        return [by_id[each] for each in times if each not in known]

    def restore_lost(self, plan: LanePlan) -> None:
        """Write what is to be taken into a lane that the next merge takes.

        Raises:
            StorageError: the disk refuses.
        """
        name = lane_name(plan.writer, _adopted_token(plan.token))
        self._write(os.path.join(self._engine.paths.lanes, name), plan, _slices_of(plan.lines))
        self._engine.lanes.forget()

    def carry_out(self, plan: LanePlan, quarantine: Quarantine) -> None:
        """Write what is whole into lanes that can be merged, and set the old one aside.

        Raises:
            StorageFullError: no space; the old lane stands.
            StorageError: the disk refuses, likewise.
        """
        assert not plan.is_written
        found = {"lost": [asdict(each) for each in plan.salvage.lost], "records_kept": plan.records}
        quarantine.copy(plan.path, why="it could not be merged as it was", found=found)
        lanes = self._engine.paths.lanes
        if plan.is_for_consumers:
            self._engine.consumers.give_up([os.path.basename(plan.path)])
            return
        self._begin_again(plan.token)
        if plan.lines:
            name = lane_name(plan.writer, _adopted_token(plan.token))
            self._write(os.path.join(lanes, name), plan, _slices_of(plan.lines))
        target = os.path.join(lanes, lane_name(plan.writer, plan.token))
        if plan.slices:
            self._write(target, plan, plan.slices)
        if plan.path != target or not plan.slices:
            try_unlink(self._storage, plan.path)
        self._storage.sync_directory(lanes)
        self._engine.handles.drop(plan.path)
        self._engine.lanes.forget()

    def _begin_again(self, token: str) -> None:
        """Have every consumer read the lane from its start: what comes under this token has other offsets."""

        def without(content: ConsumerFile) -> ConsumerFile:
            return msgspec.structs.replace(content, lanes={t: at for t, at in content.lanes.items() if t != token})

        for name in self._engine.consumers.names():
            with contextlib.suppress(CorruptionError, KeyError):  # it has missed everything anyway, or is gone
                self._engine.consumers.update(name, without)

    def _write(self, target: str, plan: LanePlan, slices: Sequence[tuple[Slice, Load]]) -> None:
        """A sealed lane of these slices, whole and durable before it has its name."""
        engine = self._engine
        now_us = engine.clock.now_us()
        header = plan.salvage.header
        temporary = temporary_path(engine.paths.lanes)
        file = self._storage.create(temporary)
        try:
            if not file.try_lock():
                raise StorageError(f"{temporary}: a new file is locked by somebody else")
            first = encode_header(
                store=engine.catalog.state.store.id,
                writer=plan.writer,
                at=now_us if header is None else header.at,
                durability="fsync",
            )
            file.write(first, 0)
            _write_commits(file, len(first), slices, now_us)
            seal_lane(self._storage, engine.paths, file, at_us=now_us, own=True)
            self._storage.rename(temporary, target)
        except BaseException:
            try_unlink(self._storage, temporary)
            raise
        finally:
            file.close()
        self._storage.sync_directory(engine.paths.lanes)

    def _erased_in(self, item: Slice, load: Load) -> int:
        removed = self._removed_of(item.agent)
        if not removed.erased and not removed.erased_until:
            return 0
        return sum(removed.was_erased(line) for line in split_lines(load()))

    def _is_merged(self, agent: str, token: str) -> bool:
        manifest = self._engine.builder.manifest(agent)
        return manifest is not None and token in manifest.merged

    def _removed_of(self, agent: str) -> RemovedRecords:
        if agent not in self._removed:
            self._removed = {agent: removed_records(self._engine.forgotten.entries(), agent)}
        return self._removed[agent]


def lanes_to_release(engine: Engine, damaged: AbstractSet[str]) -> list[str]:
    """Paths of the lanes that are kept, and of those of these tokens: a merge renames lanes."""
    names = [name for name in engine.lanes.names() if name.endswith(KEPT_SUFFIX) or lane_token(name) in damaged]
    merged = [name for name in engine.consumers.merged_names() if lane_token(name) in damaged]
    return [os.path.join(engine.paths.lanes, name) for name in (*names, *merged)]


def lost_lanes(engine: Engine) -> list[tuple[StorePaths, str]]:
    """The second copy with each of its lanes that the store has under no name.

    One that was away has lanes of long ago, and what was in them may be gone from the store for good reasons.
    """
    entry = engine.catalog.reload().store.replica
    if entry is None or entry.state != "ok":
        return []
    if standing_of(engine.storage, entry, engine.catalog.state.store.id, root=engine.paths.root) != "copy":
        return []
    copy = StorePaths(entry.path)
    # The copy's first: a lane is made in the store before it is made there.
    there = [each.name for each in entries_of(engine.storage, copy.lanes) if is_lane_name(each.name)]
    here = {lane_token(name) for name in (*engine.lanes.names(), *engine.consumers.merged_names())}
    return [(copy, name) for name in there if lane_token(name) not in here]


def _adopted_token(token: str) -> str:
    """The token of the lane for lines that had lost their commit line: the same at each attempt."""
    return xxhash.xxh3_128_hexdigest(f"adopted from {token}".encode())


def _write_commits(file: StorageFile, offset: int, slices: Sequence[tuple[Slice, Load]], at_us: int) -> None:
    for group in _groups(slices):
        body: list[bytes] = []
        listed: list[Slice] = []
        end = 0
        for item, load in group:
            data = load()
            if checksum(data) != item.xxh3:
                raise StorageError(f"{file.path}: a slice of {item.agent!r} has changed since it was looked at")
            listed.append(item._replace(offset=end))
            body.append(data)
            end += len(data)
        payload = encode_commit(at=at_us, body_bytes=end, slices=listed) + b"".join(body)
        file.write(payload, offset)
        offset += len(payload)


def _groups(slices: Sequence[tuple[Slice, Load]]) -> Iterator[list[tuple[Slice, Load]]]:
    group: list[tuple[Slice, Load]] = []
    size = 0
    for item, load in slices:
        if group and size + item.length > COMMIT_BYTES:
            yield group
            group, size = [], 0
        group.append((item, load))
        size += item.length
    if group:
        yield group


def _slices_of(lines: dict[tuple[str, str], list[bytes]]) -> list[tuple[Slice, Load]]:
    found: list[tuple[Slice, Load]] = []
    for (agent, day), of_day in lines.items():
        part: list[bytes] = []
        for index, line in enumerate(of_day):
            part.append(line)
            if index + 1 == len(of_day) or sum(map(len, part)) + len(of_day[index + 1]) > _SLICE_BYTES:
                data = b"".join(part)
                span = lines_span_us(part, len(agent_prefix(agent)))
                item = Slice(agent, day, 0, len(data), len(part), *span, checksum(data))
                found.append((item, functools.partial(bytes, data)))
                part = []
    return found
