"""What can be made of one agent: an index of what is left, and what has to be done so that it is true.

The index is salvaged line by line, every file piece by piece. Where the index has lost something, what lies in the
agent's directories and is not named by it is looked at, too: it may be what the lost lines named. Then no record may
come twice, so ids are compared across all that was found, and each is kept once: in a lane, if one has it; else in a
file that the index names and that is whole; else in one that it names; else in one that it does not. What was erased
does not come back; what was forgotten stays hidden as far as FORGOTTEN knows it.
"""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from memstore.codec.checksum import checksum
from memstore.codec.zstd import unpack_parts
from memstore.engine.engine import Engine
from memstore.errors import CorruptionError
from memstore.format.forgotten import text_hash
from memstore.format.lines import split_lines
from memstore.format.manifest import PackedFile, TrashedFile
from memstore.format.names import (
    KEPT_SUFFIX,
    LANE_SUFFIX,
    TRASH_DIRECTORY,
    file_version,
    is_lane_name,
    lane_token,
    parse_cold_file_name,
    parse_day_file_name,
    tier_of,
)
from memstore.fs.atomic import TEMPORARY_PREFIX
from memstore.fs.verified import read_listed
from memstore.ids import ID_TAIL_CHARS, agent_directory
from memstore.lifecycle.needles import line_id
from memstore.manifest.index import SETTLED, BlockRef, FrameRef
from memstore.manifest.torn import is_newer
from memstore.ops.ids_once import twice
from memstore.ops.layout import entries_of
from memstore.ops.reading_files import IdPiece, IdRun
from memstore.ops.record_lines import RecordLines
from memstore.ops.removed_records import RemovedRecords, removed_records
from memstore.ops.repair.good_copies import GoodCopies, NoCopies
from memstore.ops.repair.good_pieces import stored_lines
from memstore.ops.repair.salvage import FileSalvage
from memstore.ops.repair.salvage_day_file import IN_LANES, DayFilePlace, salvage_day_file
from memstore.ops.repair.salvage_packed_file import PackedFilePlace, salvage_packed_file
from memstore.ops.repair.salvaged_index import SalvagedIndex, salvage_index
from memstore.wal.reader import LaneReader, agent_of_directory_name

ERASED = "it was erased"
VERSIONS_SKIPPED = 1000
"""Where the index has lost something, so many versions of file names are left out: nobody knows any more which were
used, and none may come back."""
_US_PER_HOUR = 3_600_000_000


@dataclass(slots=True)
class AgentPlan:
    """What is left of an agent, and what is to be done with it.

    Attributes:
        agent: whose.
        directory: its directory.
        index: what is left of its MANIFEST.
        files: every file of it that was looked at.
        unmerged: tokens of lanes whose merge is taken back: their slices are merged once more.
        doubled: by path, what lines begin with that are kept elsewhere.
        repeated: by path, how many lines stand in the file twice.
        hidden: ids that must not be seen.
        strangers: paths of files that hold nothing of their own and are set aside.
        next_version: above every version there is.
        untold: how many records were forgotten by acts of which nobody knows whose they are.
        is_incomplete: whether something of the index is not known, be it that its lines are damaged or gone.
        other: a directory of the agent in which nobody looks for it; empty where there is none.
    """

    agent: str
    directory: str
    index: SalvagedIndex
    files: list[FileSalvage] = field(default_factory=list)
    unmerged: frozenset[str] = frozenset()
    doubled: dict[str, set[bytes]] = field(default_factory=dict)
    repeated: dict[str, int] = field(default_factory=dict)
    hidden: frozenset[str] = frozenset()
    strangers: list[str] = field(default_factory=list)
    next_version: int = 1
    untold: int = 0
    is_incomplete: bool = False
    other: str = ""

    def can_restore(self, each: FileSalvage) -> bool:
        """Whether a file can be written again just as it was."""
        return (
            each.listed
            and not self.is_elsewhere(each)
            and not (each.can_stay or each.lost or each.lost_repeats or each.changed)
            and not self.stands_twice(each)
            and bool(each.pieces)
        )

    def is_kept(self, each: FileSalvage) -> bool:
        """Whether a file stays as it is, or as it was."""
        if self.is_elsewhere(each):
            return False
        return (each.can_stay and not self.stands_twice(each)) or self.can_restore(each)

    def stands_twice(self, each: FileSalvage) -> int:
        """How many lines of a file are kept elsewhere, or once too often in it."""
        return len(self.doubled.get(each.path, ())) + self.repeated.get(each.path, 0)

    def is_elsewhere(self, each: FileSalvage) -> bool:
        """Whether a file lies where nobody looks for it, so that what is in it has to come into another."""
        return bool(self.other) and each.path.startswith(self.other + os.sep)

    @property
    def needs_index(self) -> bool:
        """Whether the MANIFEST has to be written anew."""
        return (
            self.is_incomplete
            or bool(self.other)
            or bool(self.index.mended)
            or bool(self.unmerged)
            or not self.index.is_there
            or self.hidden != self.index.manifest.hidden.ids
            or any(not self.is_kept(each) or each.changed for each in self.files)
        )

    @property
    def is_nothing(self) -> bool:
        """Whether there is nothing to do."""
        return not self.needs_index and not self.strangers and not any(map(self.can_restore, self.files))


class AgentPlanner:
    """Plans the repair of agents, one after the other. Changes nothing. Used by one thread.

    Args:
        engine: the store.
        copies: where good copies may be had.
    """

    def __init__(self, engine: Engine, copies: GoodCopies) -> None:
        self._engine = engine
        self._storage = engine.storage
        self._copies = copies

    def plan(self, directory: str, agent: str, *, compare_ids: bool = False, other: str = "") -> AgentPlan:
        """What can be made of an agent.

        Args:
            directory: the agent's.
            agent: whose it is taken to be where nothing in it can say.
            compare_ids: look for records that stand twice, also where the index is whole.
            other: another directory of the agent, in which nobody looks for it: what only that holds is kept, too.

        Raises:
            VersionError: a newer memstore wrote it.
            StorageError: the disk refuses.
        """
        planning = _Planning(self._engine, self._copies, directory, agent, compare_ids=compare_ids or bool(other))
        if other:
            planning.take_in(_Planning(self._engine, self._copies, other, agent, compare_ids=False))
        return planning.plan()


class _Planning:
    def __init__(self, engine: Engine, copies: GoodCopies, directory: str, agent: str, *, compare_ids: bool) -> None:
        self._engine = engine
        self._storage = engine.storage
        self._copies = copies
        self._directory = directory
        self._compare_ids = compare_ids
        self._now_us = engine.clock.now_us()
        index = salvage_index(
            engine.storage,
            directory,
            agent,
            at_us=self._now_us,
            copies=copies,
            current=_current_copy(engine),
        )
        self._compare_ids |= bool(index.source)
        self._plan = AgentPlan(index.manifest.agent, directory, index, hidden=index.manifest.hidden.ids)
        self._archive = engine.catalog.state.archive_of(self._plan.agent)
        self._lines = RecordLines(self._plan.agent)
        self._removed: RemovedRecords = removed_records(engine.forgotten.entries(), self._plan.agent)
        engine.lanes.forget()
        self._lanes: list[LaneReader] = engine.lanes.refresh()
        self._names = self._list()
        self._in_lanes: set[str] | None = None
        self._others: AgentPlan | None = None

    def take_in(self, other: _Planning) -> None:
        """Look at the files of another directory of the agent, too."""
        found = other.plan()
        manifest = found.index.manifest
        self._plan.other = found.directory
        self._plan.hidden |= found.hidden
        self._others = found
        self._plan.index = dataclasses.replace(
            self._plan.index,
            manifest=dataclasses.replace(
                self._plan.index.manifest,
                next_version=max(self._plan.index.manifest.next_version, found.next_version),
                merged={**dict.fromkeys(manifest.merged, SETTLED), **self._plan.index.manifest.merged},
                purged=self._plan.index.manifest.purged | manifest.purged,
            ),
        )

    def plan(self) -> AgentPlan:
        plan, manifest = self._plan, self._plan.index.manifest
        index = plan.index
        plan.is_incomplete = bool(index.lost) or index.header is None or not index.is_there
        adopt = plan.is_incomplete = plan.is_incomplete or self._has_unexplained()
        unmerged: set[int] = set()
        for name in manifest.day_files:
            plan.files.append(self._day_file(name, adopt=adopt, unmerged=unmerged))
        if unmerged:  # a merge is taken back as a whole, in all of its days
            plan.unmerged = frozenset(token for index in unmerged for token in manifest.merges[index].lanes)
            self._in_lanes = None
            plan.files = [self._day_file(name, adopt=adopt, unmerged=unmerged) for name in manifest.day_files]
        for name in (*manifest.packed, *manifest.trash):
            plan.files.append(self._packed_file(name, manifest.trash.get(name)))
        if self._others is not None:
            self._take_files_of(self._others)
        if adopt:
            self._adopt_files()
        else:
            plan.strangers += self._strange_day_files()
        if adopt or self._compare_ids:
            self._keep_once()
            self._hide_forgotten()
        plan.files = [each for each in plan.files if not self._was_moved(each)]
        versions = [file_version(name) or 0 for names in self._names.values() for name in names]
        plan.next_version = max(manifest.next_version, *versions, 0) + 1
        if adopt:
            plan.next_version += VERSIONS_SKIPPED
            plan.untold = self._removed.untold
        return plan

    def _take_files_of(self, other: AgentPlan) -> None:
        """Cold files lie in one place for both; everything else has to come over."""
        listed = {each.path for each in self._plan.files if not each.is_missing}
        for each in other.files:
            if each.path not in listed and each.pieces:
                each.listed, each.changed = False, True
                self._plan.files.append(each)
            elif each.path not in listed:
                self._plan.strangers.append(each.path)
        self._plan.strangers += other.strangers

    # -- what there is

    def _list(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for home in (self._directory, self._archive):
            for directory in (home, os.path.join(home, TRASH_DIRECTORY)):
                found[directory] = [e.name for e in entries_of(self._storage, directory) if not e.is_directory]
        return found

    def _copies_of(self, path: str) -> GoodCopies:
        """Where good copies of a file may be had.

        Not of one that is missing while lines of the index are lost: they may have said that something took its place,
        and what was erased with it would come back. Unless a second copy that has all that the store has says that it
        counts: what was erased is not in it.
        """
        is_missing = self._storage.identify(path) is None
        is_in_doubt = self._plan.is_incomplete and not self._plan.index.is_current
        return NoCopies() if is_missing and is_in_doubt else self._copies

    def _has_unexplained(self) -> bool:
        """Whether files say that the index has lost lines of which nothing is left: cut off at the end of a line."""
        manifest = self._plan.index.manifest
        there = {name for names in self._names.values() for name in names}
        listed = {*manifest.day_files, *manifest.packed, *manifest.trash}
        unlisted = {name for name in there - listed if tier_of(name) in ("warm", "cold")} - manifest.dropped.keys()
        if unlisted and not listed <= there:
            return True  # a move whose line is lost: what it took is gone, what it made is there
        for name in self._names[self._directory]:
            if parse_day_file_name(name) is None or name in manifest.dropped:
                continue
            committed = manifest.day_files.get(name, 0)
            path = os.path.join(self._directory, name)
            identity = self._storage.identify(path)
            if identity is not None and identity.size_bytes > committed and self._holds_unknown(path, committed):
                return True
        return False

    def _holds_unknown(self, path: str, committed: int) -> bool:
        """Whether a day file has records behind its committed length that no lane has."""
        found = self._salvaged_day_file(os.path.basename(path), [], adopt=True, ingested_us=0)
        return any(piece.offset >= committed for piece in found.pieces)

    def _was_moved(self, each: FileSalvage) -> bool:
        """Whether a file that is missing was taken by a move whose line is lost, so that nothing is missing.

        Of one that counts by what a second copy says which has everything, only where files are here that it does not
        know: else it is lost there as well.
        """
        if not (self._plan.is_incomplete and each.is_missing and not each.pieces and each.listed):
            return False
        return not self._plan.index.is_current or any(not other.listed for other in self._plan.files)

    # -- files

    def _day_file(self, name: str, *, adopt: bool, unmerged: set[int]) -> FileSalvage:
        manifest = self._plan.index.manifest
        refs = [ref for ref in manifest.file_refs(name) if isinstance(ref, BlockRef)]
        found = self._salvaged_day_file(
            name, [ref for ref in refs if ref.merge not in unmerged], adopt=adopt, ingested_us=manifest.ingested[name]
        )
        lost = {each.offset for each in found.lost}
        unmerged.update(ref.merge for ref in refs if ref.offset in lost and self._stands(ref))
        found.changed |= any(ref.merge in unmerged for ref in refs)
        if not adopt:
            found.behind = self._unexplained_behind(name)
            found.blocks = None if found.behind else found.blocks
        return found

    def _unexplained_behind(self, name: str) -> int:
        """How many bytes behind the end of a day file keep its agent from being read: more than lanes explain."""
        manifest = self._plan.index.manifest
        committed = manifest.day_files.get(name, 0)
        identity = self._storage.identify(os.path.join(self._directory, name))
        behind = 0 if identity is None else identity.size_bytes - committed
        if behind <= 0 or not (committed or is_newer(name, manifest)):
            return 0
        day = name.partition(".")[0]
        waiting = (lane for lane in self._lanes if lane.token not in manifest.merged)
        slices = (item for lane in waiting for item in lane.agent_slices(manifest.agent).slices)
        return behind if behind > sum(item.length for item in slices if item.day == day) else 0

    def _salvaged_day_file(self, name: str, refs: Sequence[BlockRef], *, adopt: bool, ingested_us: int) -> FileSalvage:
        path = os.path.join(self._directory, name)
        place = DayFilePlace(path, listed=name in self._plan.index.manifest.day_files)
        return salvage_day_file(
            self._storage,
            place,
            refs,
            lines=self._lines,
            copies=self._copies_of(path),
            refuse=self._refuse if adopt else None,
            ingested_us=ingested_us,
        )

    def _stands(self, ref: BlockRef) -> bool:
        """Whether all lanes that a block was merged from are still there."""
        standing = {lane.token for lane in self._lanes}
        return ref.merge != SETTLED and standing.issuperset(self._plan.index.manifest.merges[ref.merge].lanes)

    def _packed_file(self, name: str, trashed: TrashedFile | None) -> FileSalvage:
        manifest = self._plan.index.manifest
        home = self._directory if parse_cold_file_name(name) is None else self._archive
        places = [os.path.join(home, name), os.path.join(home, TRASH_DIRECTORY, name)]
        if trashed is not None:
            places.reverse()
        path = next((each for each in places if self._storage.identify(each) is not None), places[0])
        return salvage_packed_file(
            self._storage,
            PackedFilePlace(path, trashed),
            manifest.packed_file(name),
            lines=self._lines,
            copies=self._copies_of(path),
            ingested_us=self._now_us,
        )

    def _adopt_files(self) -> None:
        """Take in files that no line names: newest versions first, for they took the place of older ones."""
        manifest = self._plan.index.manifest
        listed = {*manifest.day_files, *manifest.packed, *manifest.trash}
        listed |= {each.name for each in self._plan.files if not self._plan.is_elsewhere(each)}
        found: list[tuple[int, str, str]] = []
        for directory, names in self._names.items():
            for name in names:
                if name in listed or name in manifest.dropped or name.startswith(TEMPORARY_PREFIX):
                    continue
                version = file_version(name)
                if version is not None:
                    found.append((-version, directory, name))
        for _, directory, name in sorted(found):
            path = os.path.join(directory, name)
            in_trash = os.path.basename(directory) == TRASH_DIRECTORY
            if parse_day_file_name(name) is not None:
                salvage = self._salvaged_day_file(name, [], adopt=True, ingested_us=self._now_us)
            else:
                salvage = salvage_packed_file(
                    self._storage,
                    PackedFilePlace(path),
                    None,
                    lines=self._lines,
                    copies=self._copies,
                    ingested_us=self._now_us,
                )
                if in_trash:
                    salvage.trashed = self._trashed(salvage)
            if salvage.pieces:
                self._plan.files.append(salvage)
            else:
                self._plan.strangers.append(path)

    def _strange_day_files(self) -> list[str]:
        """Day files that no line names, that no merge has begun, and in which no record is."""
        manifest = self._plan.index.manifest
        names = [name for name in self._names[self._directory] if parse_day_file_name(name) is not None]
        unlisted = [name for name in names if name not in manifest.day_files and name not in manifest.dropped]
        return [os.path.join(self._directory, name) for name in unlisted if self._unexplained_behind(name)]

    def _trashed(self, salvage: FileSalvage) -> TrashedFile:
        """What lies in the trash stays there, for as long as if it had been put there now."""
        packed = salvage.packed or PackedFile(file=salvage.name, size=0, xxh3="", frames=[], kinds=[])
        grace_us = int(self._engine.settings.storage.retention.grace_hours * _US_PER_HOUR)
        reason = "it lay in the trash when the MANIFEST was written anew"
        return TrashedFile(packed=packed, at=self._now_us, purge_at=self._now_us + grace_us, reason=reason)

    # -- lines that no index lists

    def _refuse(self, line: bytes) -> str | None:
        if self._removed.was_erased(line):
            return ERASED
        if self._in_lanes is None:
            self._in_lanes = set(self._lane_checksums())
        return IN_LANES if checksum(line) in self._in_lanes else None

    def _lane_checksums(self) -> Iterator[str]:
        for lane in self._waiting_lanes():
            for item in lane.agent_slices(self._plan.agent).slices:
                try:
                    data = read_listed(lane.file, item)
                except CorruptionError:
                    continue
                yield from map(checksum, split_lines(data))

    def _waiting_lanes(self) -> list[LaneReader]:
        """Lanes whose slices of the agent are not merged, or are to be merged again."""
        manifest = self._plan.index.manifest
        waiting = {
            lane_token(name)
            for name in self._engine.lanes.names()
            if is_lane_name(name) and name.endswith((LANE_SUFFIX, KEPT_SUFFIX))
        }
        return [
            lane
            for lane in self._lanes
            if lane.token in waiting and (lane.token not in manifest.merged or lane.token in self._plan.unmerged)
        ]

    # -- each record once

    def _keep_once(self) -> None:
        runs = [run for lane in self._waiting_lanes() for run in self._lane_runs(lane)]
        ordered = sorted(
            (each for each in self._plan.files if each.trashed is None),
            key=lambda each: (each.is_missing, not each.listed, not each.can_stay, -(file_version(each.name) or 0)),
        )
        for priority, each in enumerate(ordered, start=1):
            runs += self._file_runs(each, priority)
        by_path = {each.path: each for each in ordered}
        for first, second, needle in twice(runs, needle_bytes=self._lines.needle_bytes, on_bytes=lambda _: None):
            if second.path == first.path and second.path in by_path:
                self._plan.repeated[second.path] = self._plan.repeated.get(second.path, 0) + 1
            elif second.path in by_path:
                self._plan.doubled.setdefault(second.path, set()).add(needle)
        for each in ordered:
            if each.is_missing:
                self._leave_out_erased(each)
        for each in [each for each in ordered if len(self._plan.doubled.get(each.path, ())) >= each.records]:
            if each.pieces:
                self._plan.files.remove(each)
                self._plan.doubled.pop(each.path, None)
                if not each.is_missing:
                    self._plan.strangers.append(each.path)

    def _leave_out_erased(self, each: FileSalvage) -> None:
        """Of a file that comes back from a copy, no line that was erased meanwhile."""
        if self._removed.erased or self._removed.erased_until:
            for piece in each.pieces:
                for line in split_lines(self._load(each, piece)):
                    if self._removed.was_erased(line):
                        self._plan.doubled.setdefault(each.path, set()).add(line[: self._lines.needle_bytes])

    def _lane_runs(self, lane: LaneReader) -> Iterator[IdRun]:
        file = lane.file
        for item in lane.agent_slices(self._plan.agent).slices:
            place = (file.path, item.offset, item.length, item.records, item.t_min, item.t_max)
            yield IdRun((IdPiece(*place, functools.partial(file.read, item.offset, item.length)),))

    def _file_runs(self, each: FileSalvage, priority: int) -> Iterator[IdRun]:
        for piece in each.pieces:
            place = (each.path, piece.offset, piece.length, piece.records, piece.t_min, piece.t_max)
            yield IdRun((IdPiece(*place, functools.partial(self._load, each, piece), priority),))

    def _load(self, each: FileSalvage, piece: BlockRef | FrameRef) -> bytes:
        return stored_lines(self._storage, each, piece, copies=self._copies)

    def _hide_forgotten(self) -> None:
        """Hide again what was forgotten, as far as FORGOTTEN says which records that were."""
        if not self._removed.forgotten:
            return
        hidden: set[str] = set(self._plan.hidden)
        for each in self._plan.files:
            for piece in each.pieces if each.trashed is None else ():
                hidden.update(self._forgotten_in(self._load(each, piece)))
        for lane in self._waiting_lanes():
            for run in self._lane_runs(lane):
                hidden.update(self._forgotten_in(run.pieces[0].load()))
        self._plan.hidden = frozenset(hidden)

    def _forgotten_in(self, data: bytes) -> Iterator[str]:
        for line in split_lines(data):
            try:
                memory_id = line_id(line)
            except ValueError:  # of a slice that is damaged
                continue
            if text_hash(memory_id) in self._removed.forgotten:
                yield memory_id


def _current_copy(engine: Engine) -> str | None:
    """Root of the second copy, if it has everything that the store has."""
    entry = engine.catalog.state.store.replica
    return entry.path if entry is not None and entry.state == "ok" else None


def agent_of_directory(engine: Engine, directory: str) -> str | None:
    """Whose a directory with a hashed name is, by the records in it; None where none can be read."""
    name = os.path.basename(directory)
    archive = os.path.join(engine.catalog.state.archive, name)
    for home in (directory, archive):
        for entry in entries_of(engine.storage, home):
            if entry.is_directory or tier_of(entry.name) is None:
                continue
            line = _first_line(engine, os.path.join(home, entry.name))
            if line is not None:
                agent = line_id(line)[:-ID_TAIL_CHARS]
                if agent_directory(agent) == name:
                    return agent
    return agent_of_directory_name(engine.lanes.refresh(), name)


def _first_line(engine: Engine, path: str) -> bytes | None:
    file = engine.storage.open_read(path)
    try:
        data = file.read(0, 1 << 20)
        if path.endswith(".zst"):
            data = next(iter(unpack_parts(file.read, 0, file.identity().size_bytes)), b"")
    except ValueError:
        return None
    finally:
        file.close()
    line = data.partition(b"\n")[0]
    return line if line.startswith(b'{"memory_id":"') else None
