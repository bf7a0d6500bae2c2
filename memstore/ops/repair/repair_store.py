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

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial

from memstore.clock import Clock
from memstore.engine.engine import Engine
from memstore.format.names import StorePaths
from memstore.fs.lock import locked
from memstore.fs.storage import Storage
from memstore.lifecycle.commit import LOCK_WAIT_S
from memstore.lifecycle.turn import own_turn
from memstore.ops.check import check_store
from memstore.ops.check_progress import Progress
from memstore.ops.finding import Finding
from memstore.ops.layout import read_layout
from memstore.ops.repair.damaged_agents import is_urgent
from memstore.ops.repair.good_copies import OrderedCopies
from memstore.ops.repair.repair_agents import bring_back_agents, repair_agents
from memstore.ops.repair.repair_lanes import repair_lanes
from memstore.ops.repair.repair_report import RepairReport
from memstore.ops.repair.repair_run import RepairRun
from memstore.ops.repair.repair_small_files import SmallFileRepair
from memstore.ops.repair.repair_step import RepairStep
from memstore.ops.repair.repair_store_file import StoreFileRepair
from memstore.ops.report import CheckReport

ROUNDS_MAX = 4
"""An index that is put right lets a lane be merged, whose merge shows a record twice: more than that hang together in
no way that is known."""


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
        progress: of the checks; see `Progress`.
        on_step: told of each step: before it is done, unless ``plan_only``.

    Raises:
        NotFoundError: no store, or no such volume.
        VersionError: a newer memstore wrote it.
        LockedError: maintenance or a merge did not end in time; nothing was changed.
        ReadOnlyError: the second copy is not there, or was made the store: nothing but STORE.json was changed.
        StorageError: the root cannot be read.
    """
    look = partial(check_store, storage, paths, clock=clock, full=True, progress=progress)
    copies = copies or OrderedCopies()
    names, missing = [source.name for source in copies.sources], list(copies.missing)
    report = RepairReport(look(), copies=names, copies_missing=missing)
    run = RepairRun(storage, paths, clock, copies, report, plan_only=plan_only, on_step=on_step)
    if _repair_store_file(run, volumes):
        _repair_rest(run, open_engine, look)
    if run.quarantine.files:
        report.quarantine = run.quarantine.directory
    if not plan_only:
        report.after = look()
    return report


def _repair_store_file(run: RepairRun, volumes: Sequence[str]) -> bool:
    """See that STORE.json can be read; whether it can, and the rest can be looked at."""
    layout = read_layout(run.storage, run.paths)
    if layout.error is None:
        return True
    repair = StoreFileRepair(run.storage, run.paths, clock=run.clock, copies=run.copies, volumes=volumes)
    plan = repair.plan(layout)
    run.tell(plan.step)
    if plan.content is None:
        return False
    if run.plan_only:
        return False  # what else there is to do can be told once STORE.json says where things lie
    repair.carry_out(plan, run.quarantine)
    return True


def _repair_rest(run: RepairRun, open_engine: Callable[[], Engine], look: Callable[[], CheckReport]) -> None:
    """Round after round, until nothing is damaged or nothing more can be done."""
    engine = open_engine()
    if not run.plan_only:  # what a second copy that is away has would not be asked for, and then be given up
        engine.check_writable()
    findings = run.report.before.findings
    if run.report.steps:  # STORE.json was written anew: what lies elsewhere is seen only now
        findings = look().findings
    with _alone(run, engine):
        for _ in range(ROUNDS_MAX):
            done = len(run.report.steps)
            _small_files(run, findings)
            # First those of which a merge would begin a second MANIFEST, beside files that it knows nothing of.
            urgent = [finding for finding in findings if is_urgent(engine, finding)]
            repair_agents(run, engine, urgent)
            if run.copies.second_copy is not None:
                run.attempt(run.copies.second_copy, lambda: bring_back_agents(run, engine))
            _merge(run, engine)
            repair_agents(run, engine, [finding for finding in findings if finding not in urgent])
            repair_lanes(run, engine, findings)
            _merge(run, engine)
            if run.plan_only or len(run.report.steps) == done:
                return
            findings = look().findings
            if not any(finding.severity == "damage" or finding.kind == "lane" for finding in findings):
                return


@contextmanager
def _alone(run: RepairRun, engine: Engine) -> Iterator[None]:
    """Keep movers away; merges go on but for the moment in which an agent or a lane is changed."""
    if run.plan_only:
        yield
        return
    with (
        own_turn(engine.storage, engine.paths),
        locked(engine.storage, engine.paths.lock("rebalance"), timeout_s=LOCK_WAIT_S),
    ):
        yield


def _small_files(run: RepairRun, findings: Iterable[Finding]) -> None:
    repair = SmallFileRepair(run.storage, run.paths, clock=run.clock, copies=run.copies)
    for finding in findings:
        one = [finding]
        for step in repair.steps(one) if run.plan_only else repair.carry_out(one, run.quarantine):
            run.tell(step)


def _merge(run: RepairRun, engine: Engine) -> None:
    """Merge what can be merged, so that lanes are looked at that cannot."""
    if not run.plan_only:
        run.attempt(run.paths.lanes, lambda: _drain(engine))


def _drain(engine: Engine) -> None:
    """Merge what is sealed, and what dead writers left. Living ones need not seal theirs for this."""
    with locked(engine.storage, engine.paths.lock("merge"), timeout_s=LOCK_WAIT_S):
        engine.drain_locked(timeout_s=0.0)
