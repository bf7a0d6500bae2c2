"""What can be made of lanes that cannot be merged as they are, and of those that only the second copy has any more."""

from __future__ import annotations

import os
from collections.abc import Sequence
from collections.abc import Set as AbstractSet

from memstore.engine.engine import Engine
from memstore.engine.lookup import find_lines
from memstore.engine.second_copy import standing_of
from memstore.format.forgotten import text_hash
from memstore.format.lane import Slice
from memstore.format.lines import split_lines
from memstore.format.names import KEPT_SUFFIX, StorePaths, is_lane_name, is_merged_lane_name, lane_token
from memstore.ids import parse_id
from memstore.lifecycle.needles import line_id
from memstore.ops.layout import entries_of
from memstore.ops.removed_records import RemovedRecords, removed_records
from memstore.ops.repair.good_copies import GoodCopies, file_of_root
from memstore.ops.repair.lane_plan import LanePlan
from memstore.ops.repair.salvage_lane import Load, salvage_lane


class LanePlanner:
    """Plans the repair of lanes, one after the other. Changes nothing. Used by one thread.

    Args:
        engine: the store.
        copies: where good copies may be had.
    """

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
        for (agent, day), lines in plan.salvage.lines.items():
            if self._is_merged(agent, plan.adopted_token):
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
                if not (self._is_merged(item.agent, plan.token) or self._is_merged(item.agent, plan.adopted_token)):
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
