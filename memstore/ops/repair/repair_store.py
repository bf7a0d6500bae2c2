"""Repair a store: what can be saved is saved, what is damaged is set aside, nothing is deleted.

It begins with a full check and ends with one. In between, in an order in which each step finds what it needs whole:
STORE.json, the small files, a merge of all lanes that can be merged, the agents in which something was found, lanes
that could not be merged, and the merge of those. What one round makes possible the next one does; there are few. A
plan is the list of steps of the first round, as far as they can be told without doing any.

Every step can be stopped anywhere and is begun again by the next repair. LevelDB's ``RepairDB`` has the same shape
(find files, turn logs into tables, describe tables, write a descriptor; what cannot be read goes to ``lost/``), and
restic's ``repair packs``: what is intact is kept in new files, the old ones are put by.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import msgspec

from memstore.clock import Clock
from memstore.engine.catalog import check_shard_is_there
from memstore.engine.engine import Engine
from memstore.errors import MemstoreError
from memstore.format.names import MANIFEST, SHARD_LOCK, StorePaths, lane_token
from memstore.format.store_file import StoreFile
from memstore.fs.atomic import make_durable_directories
from memstore.fs.lock import locked
from memstore.fs.storage import Storage
from memstore.ids import directory_agent
from memstore.lifecycle.commit import LOCK_WAIT_S
from memstore.lifecycle.turn import own_turn
from memstore.ops.check import Progress, check_store
from memstore.ops.finding import Finding
from memstore.ops.layout import Layout, read_layout
from memstore.ops.repair.agent_plan import AgentPlan
from memstore.ops.repair.good_copies import OrderedCopies
from memstore.ops.repair.lost_agents import lost_agents
from memstore.ops.repair.plan_agent import plan_agent
from memstore.ops.repair.quarantine import Quarantine
from memstore.ops.repair.repair_agent import AgentRepair, steps_of
from memstore.ops.repair.repair_lane import LaneRepair, lanes_to_release, lost_lanes
from memstore.ops.repair.repair_small_files import SmallFileRepair
from memstore.ops.repair.repair_step import RepairStep
from memstore.ops.repair.repair_store_file import StoreFileRepair
from memstore.ops.repair.whose_directory import agent_by_records, agent_of_directory
from memstore.ops.report import CheckReport

_log = logging.getLogger(__name__)
ROUNDS_MAX = 4
"""An index that is put right lets a lane be merged, whose merge shows a record twice: more than that hang together in
no way that is known."""
_OF_AGENTS = frozenset({"manifest", "day_file", "packed_file", "seek_table", "record", "misplaced"})


@dataclass(slots=True)
class RepairReport:
    """What a repair did, or would do.

    Attributes:
        steps: in order.
        before: what was found at the beginning.
        after: what is found now; None for a plan.
        quarantine: the directory in which the old files lie; empty where none was set aside.
        failed: what could not be done, and why; the next repair tries it again.
        copies: what people call the copies that good bytes are taken from, in the order in which they are asked.
        copies_missing: of each copy that the store knows of and that cannot be asked, why.
    """

    before: CheckReport
    steps: list[RepairStep] = field(default_factory=list)
    after: CheckReport | None = None
    quarantine: str = ""
    failed: list[tuple[str, MemstoreError]] = field(default_factory=list)
    copies: list[str] = field(default_factory=list)
    copies_missing: list[str] = field(default_factory=list)

    @property
    def withheld(self) -> list[RepairStep]:
        """What a person has to see to."""
        return [step for step in self.steps if step.kind == "withheld"]

    @property
    def records_lost(self) -> int:
        """How many records could not be saved, as far as that is known."""
        return sum(step.records_lost for step in self.steps)

    @property
    def is_clean(self) -> bool:
        """Whether nothing is damaged any more."""
        return self.after is not None and self.after.is_clean and not self.failed

    def as_dict(self) -> dict[str, Any]:
        """For machines; docs/CLI.md lists the fields."""
        return {
            "copies": self.copies,
            "copies_missing": self.copies_missing,
            "before": self.before.summary(),
            "steps": [step.as_dict() for step in self.steps],
            "records_lost": self.records_lost,
            "withheld": len(self.withheld),
            "failed": [{"path": path, "error": f"{type(error).__name__}: {error}"} for path, error in self.failed],
            "quarantine": self.quarantine,
            "after": None if self.after is None else self.after.as_dict(),
        }


def repair_store(
    storage: Storage,
    paths: StorePaths,
    *,
    clock: Clock,
    open_engine: Callable[[], Engine],
    copies: OrderedCopies | None = None,
    volumes: Sequence[str] = (),
    plan_only: bool = False,
    progress: Progress | None = None,
    on_step: Callable[[RepairStep], None] | None = None,
) -> RepairReport:
    """Repair a store, or say what a repair would do.

    Args:
        storage: where it lies.
        paths: its root.
        clock: for stamps.
        open_engine: gives an engine of the store, for writing, once STORE.json can be read; the caller closes it.
        copies: where good copies may be had.
        volumes: other volumes on which shards may lie that a lost STORE.json knew.
        plan_only: change nothing.
        progress: of the checks; see `memstore.ops.check`.
        on_step: told of each step: before it is done, unless ``plan_only``.

    Raises:
        NotFoundError: no store, or no such volume.
        VersionError: a newer memstore wrote it.
        LockedError: maintenance or a merge did not end in time; nothing was changed.
        ReadOnlyError: the second copy is not there, or was made the store: nothing but STORE.json was changed.
        StorageError: the root cannot be read.
    """
    before = check_store(storage, paths, clock=clock, full=True, progress=progress)
    copies = copies or OrderedCopies()
    names, missing = [source.name for source in copies.sources], list(copies.missing)
    report = RepairReport(before, copies=names, copies_missing=missing)
    run = _Run(storage, paths, clock, copies, report, plan_only=plan_only, on_step=on_step)
    if run.repair_store_file(volumes):
        run.repair_rest(open_engine, progress)
    return run.finished(progress)


class _Run:
    """One repair."""

    def __init__(
        self,
        storage: Storage,
        paths: StorePaths,
        clock: Clock,
        copies: OrderedCopies,
        report: RepairReport,
        *,
        plan_only: bool,
        on_step: Callable[[RepairStep], None] | None,
    ) -> None:
        self._storage = storage
        self._paths = paths
        self._clock = clock
        self._copies = copies
        self._report = report
        self._plan_only = plan_only
        self._on_step = on_step
        self._quarantine = Quarantine(storage, paths, now_us=clock.now_us())

    def finished(self, progress: Progress | None) -> RepairReport:
        """The report, with a last check."""
        if self._quarantine.files:
            self._report.quarantine = self._quarantine.directory
        if not self._plan_only:
            self._report.after = check_store(
                self._storage, self._paths, clock=self._clock, full=True, progress=progress
            )
        return self._report

    def _tell(self, step: RepairStep) -> None:
        if step in self._report.steps:
            return
        self._report.steps.append(step)
        _log.info("%s", step.sentence)
        if self._on_step is not None:
            self._on_step(step)

    # -- STORE.json

    def repair_store_file(self, volumes: Sequence[str]) -> bool:
        """See that STORE.json can be read; whether it can, and the rest can be looked at."""
        layout = read_layout(self._storage, self._paths)
        if layout.error is None:
            return True
        repair = StoreFileRepair(self._storage, self._paths, clock=self._clock, copies=self._copies, volumes=volumes)
        plan = repair.plan(layout)
        self._tell(plan.step)
        if plan.content is None:
            return False
        if self._plan_only:
            return False  # what else there is to do can be told once STORE.json says where things lie
        repair.carry_out(plan, self._quarantine)
        return True

    # -- the rest

    def repair_rest(self, open_engine: Callable[[], Engine], progress: Progress | None) -> None:
        """Round after round, until nothing is damaged or nothing more can be done."""
        engine = open_engine()
        if not self._plan_only:  # what a second copy that is away has would not be asked for, and then be given up
            engine.check_writable()
        findings = self._report.before.findings
        if self._report.steps:  # STORE.json was written anew: what lies elsewhere is seen only now
            findings = self._look(progress).findings
        with self._alone(engine):
            for _ in range(ROUNDS_MAX):
                done = len(self._report.steps)
                self._small_files(findings)
                # First those of which a merge would begin a second MANIFEST, beside files that it knows nothing of.
                urgent = [finding for finding in findings if _is_urgent(engine, finding)]
                self._agents(engine, urgent)
                if self._copies.second_copy is not None:
                    self._attempt(self._copies.second_copy, lambda: self._lost_agents(engine))
                self._merge(engine)
                self._agents(engine, [finding for finding in findings if finding not in urgent])
                self._lanes(engine, findings)
                self._merge(engine)
                if self._plan_only or len(self._report.steps) == done:
                    return
                findings = self._look(progress).findings
                if not any(finding.severity == "damage" or finding.kind == "lane" for finding in findings):
                    return

    def _look(self, progress: Progress | None) -> CheckReport:
        return check_store(self._storage, self._paths, clock=self._clock, full=True, progress=progress)

    @contextmanager
    def _alone(self, engine: Engine) -> Iterator[None]:
        """Keep movers away; merges go on but for the moment in which an agent or a lane is changed."""
        if self._plan_only:
            yield
            return
        with (
            own_turn(engine.storage, engine.paths),
            locked(engine.storage, engine.paths.lock("rebalance"), timeout_s=LOCK_WAIT_S),
        ):
            yield

    def _attempt(self, path: str, work: Callable[[], None]) -> None:
        """What fails is told, and the rest is done all the same."""
        try:
            work()
        except MemstoreError as error:
            _log.warning("%s: %s", path, error)
            self._report.failed.append((path, error))

    def _small_files(self, findings: Iterable[Finding]) -> None:
        repair = SmallFileRepair(self._storage, self._paths, clock=self._clock, copies=self._copies)
        for finding in findings:
            one = [finding]
            for step in repair.steps(one) if self._plan_only else repair.carry_out(one, self._quarantine):
                self._tell(step)

    def _merge(self, engine: Engine) -> None:
        """Merge what can be merged, so that lanes are looked at that cannot."""
        if not self._plan_only:
            self._attempt(self._paths.lanes, lambda: _drain(engine))

    # -- agents

    def _agents(self, engine: Engine, findings: Iterable[Finding]) -> None:
        twice = {finding.agent for finding in findings if finding.kind == "record"}
        for directory in _directories(engine, read_layout(self._storage, self._paths), findings):
            self._attempt(directory, partial(self._agent, engine, directory, twice))

    def _lost_agents(self, engine: Engine) -> None:
        """Bring back agents of which the second copy has everything, and the store has no directory any more."""
        for directory, agent in lost_agents(engine).items():
            self._attempt(directory, partial(self._agent, engine, directory, set(), agent=agent))

    def _agent(
        self,
        engine: Engine,
        directory: str,
        twice: set[str | None],
        *,
        agent: str | None = None,
    ) -> None:
        agent = agent or agent_of_directory(engine, directory)
        if agent is None:
            sentence = (
                f"{directory} is left as it is: neither its name nor a record in it says whose it is. Look at it, and "
                "restore its MANIFEST from a backup with --from DIR."
            )
            self._tell(RepairStep("withheld", directory, sentence))
            return
        directory, other = self._placed(engine, directory, agent)
        plan = partial(plan_agent, engine, self._copies, directory, agent, compare_ids=agent in twice, other=other)
        if self._plan_only:
            for step in steps_of(
                plan_agent(engine, self._copies, directory, agent, compare_ids=agent in twice, other=other)
            ):
                self._tell(step)
            return
        shards = sorted({os.path.dirname(each) for each in (directory, other) if each})
        with ExitStack() as locks:
            locks.enter_context(locked(engine.storage, engine.paths.lock("merge"), timeout_s=LOCK_WAIT_S))
            for shard in shards:
                check_shard_is_there(engine.storage, shard)
                locks.enter_context(locked(engine.storage, os.path.join(shard, SHARD_LOCK), timeout_s=LOCK_WAIT_S))
            make_durable_directories(engine.storage, directory)
            planned = plan()
            if self._must_wait(engine, planned) or planned.is_nothing:
                return
            for step in steps_of(planned):
                self._tell(step)
            AgentRepair(engine, self._copies, self._quarantine).carry_out(planned)

    def _must_wait(self, engine: Engine, plan: AgentPlan) -> bool:
        """Whether a merge of the agent was stopped and could not be repeated: what it writes must not be moved away."""
        standing = {name for name in engine.lanes.names() if name.endswith(".lane")}
        cited = [name for name in standing if name[9:-5] in plan.index.manifest.merged]
        if not cited:
            return False
        sentence = (
            f"{plan.directory} waits: a merge of {cited[0]} was interrupted and could not be repeated. End the process "
            "that holds that lane, and repair again."
        )
        self._tell(RepairStep("withheld", plan.directory, sentence, plan.agent))
        return True

    def _placed(self, engine: Engine, directory: str, agent: str) -> tuple[str, str]:
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
        self._tell(RepairStep("pin_agent", directory, sentence, agent))
        if not self._plan_only:
            engine.catalog.update(lambda store: _pinned(store, agent, index))
        return directory, ""

    # -- lanes

    def _lanes(self, engine: Engine, findings: Iterable[Finding]) -> None:
        paths = {finding.path for finding in findings if finding.kind == "lane" and finding.severity == "damage"}
        damaged = {lane_token(os.path.basename(path)) for path in paths}
        repair = LaneRepair(engine, self._copies)
        engine.lanes.forget()
        for path in lanes_to_release(engine, damaged):
            self._attempt(path, partial(self._lane, engine, repair, path))
        if self._copies.second_copy is not None:
            self._attempt(self._copies.second_copy, lambda: self._lost_lanes(engine, repair))

    def _lane(self, engine: Engine, repair: LaneRepair, path: str) -> None:
        if self._plan_only:
            plan = repair.plan(path)
            if plan is not None:
                plan.close()
                self._tell(plan.step)
            return
        with locked(engine.storage, engine.paths.lock("merge"), timeout_s=LOCK_WAIT_S):
            plan = repair.plan(path)
            if plan is None:
                return
            try:
                self._tell(plan.step)
                if not plan.is_written:
                    repair.carry_out(plan, self._quarantine)
            finally:
                plan.close()

    def _lost_lanes(self, engine: Engine, repair: LaneRepair) -> None:
        """Take from the second copy's lanes what the store has lost before it was merged."""
        with ExitStack() as locks:
            if not self._plan_only:  # whose passes remove lanes there, and merges here
                for name in ("replica", "merge"):
                    locks.enter_context(locked(engine.storage, engine.paths.lock(name), timeout_s=LOCK_WAIT_S))
            for copy, name in lost_lanes(engine):
                plan = repair.plan_lost(name, copy)
                if plan is not None:
                    self._tell(plan.step)
                    if not self._plan_only:
                        repair.restore_lost(plan)


def _drain(engine: Engine) -> None:
    """Merge what is sealed, and what dead writers left. Living ones need not seal theirs for this."""
    with locked(engine.storage, engine.paths.lock("merge"), timeout_s=LOCK_WAIT_S):
        engine.drain_locked(timeout_s=0.0)


def _is_urgent(engine: Engine, finding: Finding) -> bool:
    """Whether an agent lies where a merge does not look for it, or has lost the whole of its MANIFEST."""
    if finding.severity != "damage" or finding.kind not in ("misplaced", "manifest"):
        return False
    return (
        finding.kind == "misplaced"
        or (finding.length_bytes == 0 and not engine.storage.exists(finding.path))
        or (os.path.basename(finding.path) != MANIFEST)
    )


def _directories(engine: Engine, layout: Layout, findings: Iterable[Finding]) -> list[str]:
    """Directories of the agents in which something was found, each once."""
    shards = dict.fromkeys(layout.shards.values())
    found: dict[str, None] = {}
    for finding in findings:
        if finding.severity != "damage" or finding.kind not in _OF_AGENTS:
            continue
        shard = next((each for each in shards if finding.path.startswith(each + os.sep)), None)
        if shard is not None:
            name = finding.path[len(shard) + 1 :].partition(os.sep)[0]
            found[os.path.join(shard, name)] = None
        elif finding.path.startswith(layout.archive + os.sep):
            name = finding.path[len(layout.archive) + 1 :].partition(os.sep)[0]
            found[_home_of(engine, layout, name)] = None
        elif finding.agent is not None:  # a record that stands in a lane and in a file
            found[next(iter(layout.homes(finding.agent)))] = None
    return list(found)


def _home_of(engine: Engine, layout: Layout, name: str) -> str:
    """The directory in a shard of an agent of which an archive directory is known."""
    for shard in layout.shards.values():
        path = os.path.join(shard, name)
        if engine.storage.identify(path) is not None:
            return path
    first = next(iter(layout.shards.values()))
    agent = directory_agent(name) or agent_by_records(engine, os.path.join(first, name))
    return os.path.join(first, name) if agent is None else layout.homes(agent)[0]


def _pinned(store: StoreFile, agent: str, index: int) -> StoreFile:
    placement = msgspec.structs.replace(store.placement, pins={**store.placement.pins, agent: index})
    return msgspec.structs.replace(store, placement=placement, epoch=store.epoch + 1)
