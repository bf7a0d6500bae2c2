"""``memstore maintain``: show what is due, or do it."""

from __future__ import annotations

import argparse
from collections import Counter
from typing import Any

from memstore.cli.arguments import add_command, positive
from memstore.cli.exit_codes import OK, exit_code, exit_code_of
from memstore.cli.opening import note, open_for_reading, open_for_writing
from memstore.cli.output import Output
from memstore.cli.progress import progress_bar
from memstore.cli.render import print_document, print_rows
from memstore.errors import LockedError, StorageFullError, UsageError
from memstore.lifecycle.action import Action, Withheld
from memstore.lifecycle.maintain_report import BUSY, NO_ROOM, MaintainReport

_PLAN_COLUMNS = ("kind", "agent", "records", "bytes_before", "bytes_after", "frees_bytes", "sentence")
_SIZES = ("stored_bytes", "manifest_bytes", "bytes")
"""Attributes of actions that say how large that is which they work on."""
_DESCRIPTION = """\
Do what is due: merge lanes, pack day files, fold late records in, remove what retention says, clean up. Every step can
be interrupted at any moment; what is left is done the next time. --plan lists the steps and changes nothing."""


def add_parser(commands: Any) -> None:
    """Declare the command."""
    parser = add_command(
        commands, "maintain", run, "do what is due: merge, pack, remove, clean up", description=_DESCRIPTION
    )
    parser.add_argument("--plan", action="store_true", help="only list what is due")
    parser.add_argument("--now", metavar="TIME", help="as if it were this time, which may not be in the past")
    parser.add_argument(
        "--time-limit", dest="time_limit_s", type=positive, metavar="SECONDS", help="begin nothing new after this"
    )
    parser.add_argument(
        "--trust-clock",
        action="store_true",
        help="let retention run although the clock has jumped: you have checked it",
    )


def run(args: argparse.Namespace) -> int:
    """Plan or maintain."""
    if args.plan:
        if args.time_limit_s is not None or args.trust_clock:
            raise UsageError("--plan does nothing that could take time or trust a clock: leave the other flag out")
        return _plan(args)
    return _maintain(args)


def _plan(args: argparse.Namespace) -> int:
    with open_for_reading(args) as store:
        rows = [plan_row(action) for action in store.plan(args.now)]
    out = Output.of(args)
    if rows or out.format != "table":
        print_rows(out, _PLAN_COLUMNS, rows)
    else:
        note("nothing is due")
    return OK


def plan_row(action: Action) -> dict[str, Any]:
    """An action with its size before and, as far as that can be told, after it."""
    row = action.as_dict()
    before = next((row[name] for name in _SIZES if name in row), None)
    after = None if before is None else max(before - action.frees_bytes, 0)
    return {**row, "bytes_before": before, "bytes_after": after}


def _maintain(args: argparse.Namespace) -> int:
    with open_for_writing(args, create=False) as store, progress_bar("maintaining") as report_progress:
        report = store.maintain(
            args.now, time_limit_s=args.time_limit_s, trust_clock=args.trust_clock, progress=report_progress
        )
    out = Output.of(args)
    print_document(out, summary(report, lists=out.format in ("json", "ndjson")))
    for action, why in report.skipped:
        note(action.sentence if isinstance(action, Withheld) else f"Skipped: {action.sentence} ({why})")
    for action, error in report.failed:
        note(f"Failed: {action.sentence} {error}")
    return _code(report, has_limit=args.time_limit_s is not None)


def _code(report: MaintainReport, *, has_limit: bool) -> int:
    """What the command exits with: the code of the first failure, of a full disk, of a busy store, or 0."""
    if report.failed:
        return exit_code(report.failed[0][1])
    if any(why.startswith(NO_ROOM) for _, why in report.skipped):
        return exit_code_of(StorageFullError)
    if report.finished:
        return OK
    if any(action == BUSY for action, _ in report.skipped):
        return exit_code_of(LockedError)
    if has_limit:
        note("the time is up; the next run goes on from here")
    return OK


def summary(report: MaintainReport, *, lists: bool) -> dict[str, Any]:
    """A report in figures; with ``lists`` every action of it too."""
    before = sum(result.bytes_before for result in report.done)
    after = sum(result.bytes_after for result in report.done)
    found: dict[str, Any] = {
        "done": len(report.done),
        "done_by_kind": dict(Counter(result.action.kind for result in report.done)),
        "skipped": len(report.skipped),
        "failed": len(report.failed),
        "finished": report.finished,
        "records": sum(result.records for result in report.done),
        "bytes_before": before,
        "bytes_after": after,
        "freed_bytes": before - after,
        "seconds": round(sum(result.seconds for result in report.done), 3),
    }
    if lists:
        found |= {f"{name}_actions": actions for name, actions in report.as_dict().items() if isinstance(actions, list)}
    return found
