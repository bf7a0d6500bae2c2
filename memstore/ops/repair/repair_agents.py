"""Every damaged agent in turn: where it belongs, its locks, its plan, and that carried out."""

from __future__ import annotations

import os
from collections.abc import Iterable
from functools import partial

import msgspec

from memstore.engine.catalog import check_shard_is_there
from memstore.engine.engine import Engine
from memstore.format.names import MANIFEST, SHARD_LOCK
from memstore.format.store_file import StoreFile
from memstore.fs.atomic import make_durable_directories
from memstore.fs.lock import HeldLocks
from memstore.lifecycle.commit import LOCK_WAIT_S
from memstore.ops.finding import Finding
from memstore.ops.layout import read_layout
from memstore.ops.repair.agent_plan import AgentPlan
from memstore.ops.repair.agent_steps import steps_of
from memstore.ops.repair.damaged_agents import damaged_directories
from memstore.ops.repair.lost_agents import lost_agents
from memstore.ops.repair.plan_agent import plan_agent
from memstore.ops.repair.repair_agent import AgentRepair
from memstore.ops.repair.repair_run import RepairRun
from memstore.ops.repair.repair_step import RepairStep
from memstore.ops.repair.whose_directory import agent_of_directory


def repair_agents(run: RepairRun, engine: Engine, findings: Iterable[Finding]) -> None:
    """Repair the agents in which something was found, or tell how."""
    twice: set[str | None] = {finding.agent for finding in findings if finding.kind == "record"}
    for directory in damaged_directories(engine, read_layout(run.storage, run.paths), findings):
        run.attempt(directory, partial(_repair, run, engine, directory, twice))


def bring_back_agents(run: RepairRun, engine: Engine) -> None:
    """Bring back agents of which the second copy has everything, and the store has no directory any more."""
    for directory, agent in lost_agents(engine).items():
        run.attempt(directory, partial(_repair, run, engine, directory, set(), agent=agent))


def _repair(
    run: RepairRun, engine: Engine, directory: str, twice: set[str | None], *, agent: str | None = None
) -> None:
    agent = agent or agent_of_directory(engine, directory)
    if agent is None:
        sentence = (
            f"{directory} is left as it is: neither its name nor a record in it says whose it is. Look at it, and "
            "restore its MANIFEST from a backup with --from DIR."
        )
        run.tell(RepairStep("withheld", directory, sentence))
        return
    directory, other = _placed(run, engine, directory, agent)
    plan = partial(plan_agent, engine, run.copies, directory, agent, compare_ids=agent in twice, other=other)
    if run.plan_only:
        run.tell(*steps_of(plan()))
        return
    shards = sorted({os.path.dirname(each) for each in (directory, other) if each})
    with HeldLocks(engine.storage) as locks:
        locks.take(engine.paths.lock("merge"), timeout_s=LOCK_WAIT_S)
        for shard in shards:
            check_shard_is_there(engine.storage, shard)
            locks.take(os.path.join(shard, SHARD_LOCK), timeout_s=LOCK_WAIT_S)
        make_durable_directories(engine.storage, directory)
        planned = plan()
        if _must_wait(run, engine, planned) or planned.is_nothing:
            return
        run.tell(*steps_of(planned))
        AgentRepair(engine, run.copies, run.quarantine).carry_out(planned)


def _must_wait(run: RepairRun, engine: Engine, plan: AgentPlan) -> bool:
    """Whether a merge of the agent was stopped and could not be repeated: what it writes must not be moved away."""
    standing = {name for name in engine.lanes.names() if name.endswith(".lane")}
    cited = [name for name in standing if name[9:-5] in plan.index.manifest.merged]
    if not cited:
        return False
    sentence = (
        f"{plan.directory} waits: a merge of {cited[0]} was interrupted and could not be repeated. End the process "
        "that holds that lane, and repair again."
    )
    run.tell(RepairStep("withheld", plan.directory, sentence, plan.agent))
    return True


def _placed(run: RepairRun, engine: Engine, directory: str, agent: str) -> tuple[str, str]:
    """Where readers look for an agent, and its directory where they do not; the latter empty where there is none.

    An agent that lies in one place only is looked for there from now on.
    """
    state = engine.catalog.reload()
    homes = state.homes(agent)
    if directory in homes:
        return directory, ""
    others = [home for home in homes if engine.storage.identify(os.path.join(home, MANIFEST)) is not None]
    if others:
        return others[0], directory
    index = next((i for i, path in state.shard_paths.items() if path == os.path.dirname(directory)), None)
    assert index is not None, directory
    sentence = f"Pin {agent} to the shard in which it lies: {os.path.dirname(directory)}."
    run.tell(RepairStep("pin_agent", directory, sentence, agent))
    if not run.plan_only:
        engine.catalog.update(lambda store: _pinned(store, agent, index))
    return directory, ""


def _pinned(store: StoreFile, agent: str, index: int) -> StoreFile:
    placement = msgspec.structs.replace(store.placement, pins={**store.placement.pins, agent: index})
    return msgspec.structs.replace(store, placement=placement, epoch=store.epoch + 1)
