"""Every lane in turn that cannot be merged as it is, and those that only the second copy has any more."""

from __future__ import annotations

import os
from collections.abc import Iterable
from functools import partial

from memstore.engine.engine import Engine
from memstore.format.names import is_lane_name, lane_token
from memstore.fs.lock import HeldLocks, locked
from memstore.lifecycle.commit import LOCK_WAIT_S
from memstore.ops.finding import Finding
from memstore.ops.repair.plan_lane import LanePlanner, lanes_to_release, lost_lanes
from memstore.ops.repair.repair_lane import LaneRepair
from memstore.ops.repair.repair_run import RepairRun


def repair_lanes(run: RepairRun, engine: Engine, findings: Iterable[Finding]) -> None:
    """Release lanes that could not be merged and take back those that are lost, or tell how."""
    paths = {finding.path for finding in findings if finding.kind == "lane" and finding.severity == "damage"}
    damaged = {lane_token(name) for name in map(os.path.basename, paths) if is_lane_name(name)}
    if engine.storage.identify(engine.paths.lanes) is None:  # of a plan: it is not made anew yet
        return
    planner = LanePlanner(engine, run.copies)
    engine.lanes.forget()
    for path in lanes_to_release(engine, damaged):
        run.attempt(path, partial(_lane, run, engine, planner, path))
    if run.copies.second_copy is not None:
        run.attempt(run.copies.second_copy, lambda: _lost_lanes(run, engine, planner))


def _lane(run: RepairRun, engine: Engine, planner: LanePlanner, path: str) -> None:
    if run.plan_only:
        plan = planner.plan(path)
        if plan is not None:
            plan.close()
            run.tell(plan.step)
        return
    with locked(engine.storage, engine.paths.lock("merge"), timeout_s=LOCK_WAIT_S):
        plan = planner.plan(path)
        if plan is None:
            return
        try:
            run.tell(plan.step)
            if not plan.is_written:
                LaneRepair(engine).carry_out(plan, run.quarantine)
        finally:
            plan.close()


def _lost_lanes(run: RepairRun, engine: Engine, planner: LanePlanner) -> None:
    """Take from the second copy's lanes what the store has lost before it was merged."""
    with HeldLocks(engine.storage) as locks:
        if not run.plan_only:  # whose passes remove lanes there, and merges here
            for name in ("replica", "merge"):
                locks.take(engine.paths.lock(name), timeout_s=LOCK_WAIT_S)
        for copy, name in lost_lanes(engine):
            plan = planner.plan_lost(name, copy)
            if plan is not None:
                run.tell(plan.step)
                if not run.plan_only:
                    LaneRepair(engine).restore_lost(plan)
