"""Mend the second copy from the store: what a check finds damaged there, or missing, is copied once more.

Nothing has to be saved of it. A file that is written anew is whole and durable beside its place before it takes that,
and each block and frame of it is held against the store's index; so what the store has lost itself stays in the copy as
it is. Lanes are not copied: what is in them is merged, and a pass that has it in files lets them go.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator

from memstore.engine.engine import Engine
from memstore.errors import StorageError
from memstore.format.names import MANIFEST, TRASH_DIRECTORY, StorePaths
from memstore.ops.check_copy import check_copy
from memstore.ops.check_progress import Progress
from memstore.ops.finding import Finding
from memstore.ops.repair.repair_report import RepairReport
from memstore.ops.repair.repair_step import RepairStep
from memstore.replica.copy_agent import Anew
from memstore.replica.replicator import Replicator

DRAIN_S = 5.0
"""How long other processes get to give up lanes whose mirrors are damaged; they look for it every second."""
_SMALL = frozenset({"holds", "forgotten", "lifecycle_file"})


def repair_copy(
    engine: Engine,
    replicator: Replicator,
    *,
    plan_only: bool = False,
    progress: Progress | None = None,
    on_step: Callable[[RepairStep], None] | None = None,
) -> RepairReport:
    """Mend the second copy, or say what would be done.

    Args:
        engine: the store, open for writing unless ``plan_only``.
        replicator: brings the copy up to date.
        plan_only: change nothing.
        progress: of the checks; see `Progress`.
        on_step: told of each step: before it is done, unless ``plan_only``.

    Raises:
        NotFoundError: the store has no second copy.
        LockedError: somebody else was at the copy, or a merge did not end in time.
        StorageError: a volume refused; what was mended stays so.
    """

    def look() -> RepairReport:
        check = check_copy(engine.storage, engine.paths, clock=engine.clock, full=True, progress=progress)
        return RepairReport(check, copies=[f"the store at {engine.paths.root}"])

    report = look()
    damaged = [finding for finding in report.before.findings if finding.severity != "note"]
    for step in _steps(damaged, StorePaths(report.before.root).lanes):
        report.steps.append(step)
        if on_step is not None:
            on_step(step)
    if plan_only:
        return report
    if report.steps:
        engine.drain(timeout_s=DRAIN_S)  # what the copy lacks may be in lanes, which a pass does not copy
        passed = replicator.run_in_turn(anew=_anew(StorePaths(report.before.root), damaged))
        for why in () if passed is None else passed.waiting:
            report.failed.append((report.before.root, StorageError(why)))
    report.after = look().before
    return report


def _steps(findings: Iterable[Finding], lanes: str) -> Iterator[RepairStep]:
    """Each file once, in the order in which they were found."""
    seen: set[str] = set()
    for finding in findings:
        if finding.path in seen:
            continue
        seen.add(finding.path)
        path, agent = finding.path, finding.agent
        if finding.severity == "unread" or finding.kind in ("store_file", "shard", "archive"):
            yield RepairStep("withheld", path, f"{path} is left as it is: {finding.reason}.", agent)
        elif path == lanes:
            yield RepairStep("start_anew", path, f"Make {path} anew, and copy what the store has as files.")
        elif finding.kind == "lane":
            sentence = f"Merge what the store has of {path}, copy it as files, and let that lane go."
            yield RepairStep("release_lane", path, sentence, agent)
        elif finding.kind == "replica":
            sentence = f"Copy once more what the store has of {agent}: {finding.reason}."
            yield RepairStep("copy_again", path, sentence, agent)
        else:
            yield RepairStep("copy_again", path, f"Copy {path} once more from the store.", agent)


def _anew(paths: StorePaths, findings: Iterable[Finding]) -> Anew:
    """By the name of an agent's directory, what is to be copied whatever the copy says; small files always are."""
    files: dict[str, set[str]] = {}
    for finding in findings:
        if finding.kind in _SMALL or finding.kind == "lane" or finding.severity == "unread":
            continue
        directory, name = os.path.split(finding.path)
        if finding.kind in ("replica", "misplaced"):  # of all of an agent
            files.setdefault(name, set()).add(MANIFEST)
        elif directory.startswith((paths.shards, paths.archive)):
            if os.path.basename(directory) == TRASH_DIRECTORY:
                directory = os.path.dirname(directory)
            files.setdefault(os.path.basename(directory), set()).add(name)
    return {directory: frozenset(names) for directory, names in files.items()}
