"""``memstore repair``: save what can be saved of a damaged store."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from typing import Any

from memstore.cli.arguments import add_command
from memstore.cli.check import code_of
from memstore.cli.exit_codes import OK, exit_code, exit_code_of
from memstore.cli.opening import note, open_for_reading, open_for_writing, root_of, without_log
from memstore.cli.output import Output
from memstore.cli.progress import Progress, progress_bar
from memstore.cli.render import print_document, print_rows
from memstore.errors import CorruptionError, UsageError
from memstore.ops.repair.repair_report import RepairReport
from memstore.ops.repair.repair_step import RepairStep
from memstore.store import repair

OnStep = Callable[[RepairStep], None]
_COLUMNS = ("kind", "agent", "records_kept", "records_lost", "sentence")
_DESCRIPTION = """\
Repair a store: put single flipped bits right, take good bytes from --from, the second copy and the newest backups, keep
whatever else is intact, write MANIFESTs anew from the files, and set what is damaged aside in quarantine/, with a note
of why. Nothing is deleted, and what was forgotten or erased does not come back.
Each step is told before it is done; --plan lists them and changes nothing. Writers may go on meanwhile; a copy of the
directory beforehand is never wrong. A repair can be stopped anywhere; run it again. --copy mends the second copy from
the store instead."""


def add_parser(commands: Any) -> None:
    """Declare the command."""
    parser = add_command(commands, "repair", run, "save what can be saved of a damaged store", description=_DESCRIPTION)
    parser.add_argument("--plan", action="store_true", help="only list what would be done")
    parser.add_argument(
        "--from",
        dest="source",
        metavar="DIR",
        help="where good bytes are looked for first: a copy of this store's directory, or a directory of its backups",
    )
    parser.add_argument(
        "--no-copies", action="store_true", help="take nothing from the second copy and the backups of the store"
    )
    parser.add_argument(
        "--copy",
        action="store_true",
        help="mend the second copy: copy once more from the store what is damaged or missing there",
    )
    parser.add_argument(
        "--volume",
        dest="volumes",
        action="append",
        default=[],
        metavar="DIR",
        help="where shards on another volume lie, if STORE.json is lost; repeat for several",
    )


def run(args: argparse.Namespace) -> int:
    """Plan or repair."""
    out = Output.of(args)
    told: list[RepairStep] = []

    def on_step(step: RepairStep) -> None:
        told.append(step)
        if out.format == "ndjson":
            print_document(out, {"event": "step", **step.as_dict()})
        elif not args.plan:
            note(step.sentence)

    if args.copy and (args.source or args.no_copies or args.volumes):
        raise UsageError("the second copy is mended from the store alone: leave out --from, --no-copies and --volume")
    with progress_bar("looking") as progress, without_log():
        report = (_repair_copy if args.copy else _repair_store)(args, progress, on_step)
    _print(out, report, args)
    return _code(report, plan_only=args.plan)


def _repair_store(args: argparse.Namespace, progress: Progress, on_step: OnStep) -> RepairReport:
    return repair(
        os.path.abspath(root_of(args)),
        settings=args.config,
        source=args.source,
        known_copies=not args.no_copies,
        volumes=args.volumes,
        plan_only=args.plan,
        progress=progress,
        on_step=on_step,
    )


def _repair_copy(args: argparse.Namespace, progress: Progress, on_step: OnStep) -> RepairReport:
    if args.plan:
        with open_for_reading(args) as store:
            return store.repair_replica(plan_only=True, progress=progress, on_step=on_step)
    with open_for_writing(args, create=False) as store:
        return store.repair_replica(progress=progress, on_step=on_step)


def _print(out: Output, report: RepairReport, args: argparse.Namespace) -> None:
    match out.format:
        case "json":
            print_document(out, report.as_dict())
        case "ndjson":
            print_document(out, {"event": "summary", **{k: v for k, v in report.as_dict().items() if k != "steps"}})
        case _:
            if report.steps or out.format == "csv":
                print_rows(out, _COLUMNS, [step.as_dict() for step in report.steps])
    for path, error in report.failed:
        note(f"failed: {path}: {error}")
    if report.steps:
        for sentence in report.copies_missing:
            note(f"a copy could not be asked: {sentence}")
    else:
        note("nothing is damaged that a repair could mend")
    if report.quarantine:
        note(f"what was replaced lies in {report.quarantine}; remove it once you do not need it")
    if report.after is not None:
        lost = f"; {report.records_lost:,} record(s) known to be lost" if report.records_lost else ""
        what, look = ("second copy", "check --copy --full") if args.copy else ("store", "check --full")
        state = f"the {what} is clean" if report.after.is_clean else f"the {what} is not clean yet: `memstore {look}`"
        note(f"{state}{lost}")


def _code(report: RepairReport, *, plan_only: bool) -> int:
    if report.failed:
        return exit_code(report.failed[0][1])
    if plan_only:
        return exit_code_of(CorruptionError) if report.before.damaged else code_of(report.before)
    assert report.after is not None
    return code_of(report.after) if not report.after.is_clean else OK
