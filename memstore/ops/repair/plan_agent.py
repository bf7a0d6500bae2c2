"""What can be made of one agent: an index of what is left, and what has to be done so that it is true.

The index is salvaged line by line, every file piece by piece. Where the index has lost something, what lies in the
agent's directories and is not named by it is looked at, too: it may be what the lost lines named. Then no record may
come twice, so ids are compared across all that was found, and each is kept once (`memstore.ops.repair.each_once`).
What was erased does not come back; what was forgotten stays hidden as far as FORGOTTEN knows it.
"""

from __future__ import annotations

import dataclasses
import os

from memstore.engine.engine import Engine
from memstore.format.names import file_version
from memstore.manifest.index import SETTLED, BlockRef, FrameRef
from memstore.ops.agent_place import list_agent
from memstore.ops.record_lines import RecordLines
from memstore.ops.removed_records import removed_records
from memstore.ops.repair.agent_files import AgentFiles
from memstore.ops.repair.agent_plan import AgentPlan
from memstore.ops.repair.each_once import keep_each_once
from memstore.ops.repair.good_copies import GoodCopies, NoCopies
from memstore.ops.repair.good_pieces import piece_lines
from memstore.ops.repair.hide_again import found_forgotten
from memstore.ops.repair.lost_index_lines import has_lost_lines
from memstore.ops.repair.salvage import FileSalvage
from memstore.ops.repair.salvage_day_file import IN_LANES, DayFilePlace, salvage_day_file
from memstore.ops.repair.salvaged_index import salvage_index
from memstore.ops.repair.waiting_lanes import WaitingLanes

ERASED = "it was erased"
VERSIONS_SKIPPED = 1000
"""Where the index has lost something, so many versions of file names are left out: nobody knows any more which were
used, and none may come back."""


def plan_agent(
    engine: Engine, copies: GoodCopies, directory: str, agent: str, *, compare_ids: bool = False, other: str = ""
) -> AgentPlan:
    """Plan the repair of an agent. Changes nothing.

    Args:
        engine: the store.
        copies: where good copies may be had.
        directory: the agent's.
        agent: whose it is taken to be where nothing in it can say.
        compare_ids: look for records that stand twice, also where the index is whole.
        other: another directory of the agent, in which nobody looks for it: what only that holds is kept, too.

    Raises:
        VersionError: a newer memstore wrote it.
        StorageError: the disk refuses.
    """
    planning = _Planning(engine, copies, directory, agent, compare_ids=compare_ids or bool(other))
    if other:
        planning.take_in(_Planning(engine, copies, other, agent, compare_ids=False))
    return planning.plan()


class _Planning:
    def __init__(self, engine: Engine, copies: GoodCopies, directory: str, agent: str, *, compare_ids: bool) -> None:
        self._engine = engine
        self._storage = engine.storage
        self._copies = copies
        self._now_us = engine.clock.now_us()
        index = salvage_index(
            engine.storage,
            directory,
            agent,
            at_us=self._now_us,
            copies=copies,
            current=_current_copy(engine),
        )
        self._compare_ids = compare_ids or bool(index.source)
        self._plan = AgentPlan(index.manifest.agent, directory, index, hidden=index.manifest.hidden.ids)
        self._removed = removed_records(engine.forgotten.entries(), self._plan.agent)
        self._lines = RecordLines(self._plan.agent)
        engine.lanes.forget()
        self._lanes = WaitingLanes(engine, engine.lanes.refresh(), index.manifest)
        self._place = list_agent(engine.storage, directory, engine.catalog.state.archive_of(self._plan.agent))
        self._others: AgentPlan | None = None

    def take_in(self, other: _Planning) -> None:
        """Look at the files of another directory of the agent, too."""
        found = other.plan()
        ours, theirs = self._plan.index.manifest, found.index.manifest
        self._plan.other = found.directory
        self._plan.hidden |= found.hidden
        self._others = found
        manifest = dataclasses.replace(
            ours,
            next_version=max(ours.next_version, found.next_version),
            merged={**dict.fromkeys(theirs.merged, SETTLED), **ours.merged},
            purged=ours.purged | theirs.purged,
        )
        self._plan.index = dataclasses.replace(self._plan.index, manifest=manifest)
        self._lanes = WaitingLanes(self._engine, self._lanes.all, manifest)

    def plan(self) -> AgentPlan:
        plan, index = self._plan, self._plan.index
        plan.is_incomplete = (
            bool(index.lost)
            or index.header is None
            or not index.is_there
            or has_lost_lines(self._storage, self._place, index.manifest, holds_unknown=self._holds_unknown)
        )
        self._take_files()
        if plan.is_incomplete or self._compare_ids:
            needle_bytes = self._lines.needle_bytes
            keep_each_once(plan, self._lanes, self._removed, needle_bytes=needle_bytes, load=self._load)
            plan.hidden |= found_forgotten(plan, self._lanes, self._removed.forgotten, load=self._load)
        plan.files = [each for each in plan.files if not self._was_moved(each)]
        versions = [file_version(name) or 0 for _, name in self._place.files()]
        plan.next_version = max(index.manifest.next_version, *versions, 0) + 1
        if plan.is_incomplete:
            plan.next_version += VERSIONS_SKIPPED
            plan.untold = self._removed.untold
        return plan

    def _take_files(self) -> None:
        """Note every file there is, and which of them are strangers."""
        plan = self._plan
        files = AgentFiles(
            self._engine,
            self._place,
            plan.index,
            self._lanes,
            copies=self._copies,
            refuse=self._refuse if plan.is_incomplete else None,
            now_us=self._now_us,
        )
        plan.files += files.listed()
        plan.unmerged = self._lanes.taken_back
        if self._others is not None:
            self._take_files_of(self._others)
        if not plan.is_incomplete:
            plan.strangers += files.strange_day_files()
            return
        for path, each in files.unlisted({each.name for each in plan.files if not plan.is_elsewhere(each)}):
            if each.pieces:
                plan.files.append(each)
            else:
                plan.strangers.append(path)

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

    def _was_moved(self, each: FileSalvage) -> bool:
        """Whether a file that is missing was taken by a move whose line is lost, so that nothing is missing.

        Of one that counts by what a second copy says which has everything, only where files are here that it does not
        know: else it is lost there as well.
        """
        if not (self._plan.is_incomplete and each.is_missing and not each.pieces and each.listed):
            return False
        return not self._plan.index.is_current or any(not other.listed for other in self._plan.files)

    # -- lines that no index lists

    def _refuse(self, line: bytes) -> str | None:
        if self._removed.was_erased(line):
            return ERASED
        return IN_LANES if self._lanes.has_line(line) else None

    def _holds_unknown(self, name: str, committed: int) -> bool:
        """Whether a day file has records behind its committed length that no lane has."""
        place = DayFilePlace(os.path.join(self._place.directory, name), listed=False)
        found = salvage_day_file(
            self._storage, place, [], lines=self._lines, copies=NoCopies(), refuse=self._refuse, ingested_us=0
        )
        return any(piece.offset >= committed for piece in found.pieces)

    def _load(self, each: FileSalvage, piece: BlockRef | FrameRef) -> bytes:
        return piece_lines(self._storage, each, piece, copies=self._copies)


def _current_copy(engine: Engine) -> str | None:
    """Root of the second copy, if it has everything that the store has."""
    entry = engine.catalog.state.store.replica
    return entry.path if entry is not None and entry.state == "ok" else None
