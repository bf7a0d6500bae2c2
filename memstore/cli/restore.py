"""``memstore restore``: bring a store, or a part of one, back from a backup."""

from __future__ import annotations

import argparse
import os
from typing import Any

from memstore.backup.report import RestoreReport
from memstore.cli.arguments import add_command
from memstore.cli.exit_codes import OK
from memstore.cli.opening import note, open_for_writing, root_of
from memstore.cli.output import Output
from memstore.cli.progress import progress_bar
from memstore.cli.render import print_document
from memstore.errors import UsageError
from memstore.record import MemoryType
from memstore.restoring import restore
from memstore.timestamps import iso_text

_DESCRIPTION = """\
Restore the store that was backed up to DEST: to a new directory (--to), or, with --replace, in the place of --root,
which is kept beside it. With --at as of any moment since the oldest backup. What was erased since does not come back.
With --agent, --since, --until or --type a part is restored: what --root does not have of it is appended to it."""


def add_parser(commands: Any) -> None:
    """Declare the command."""
    parser = add_command(commands, "restore", run, "bring a store back from a backup", description=_DESCRIPTION)
    parser.add_argument("destination", metavar="DEST", help="the directory of the backups")
    parser.add_argument("--at", metavar="TIME", help="as of this moment: 2025-01-15T14:30:00Z, or an age: 2h")
    parser.add_argument("--point", metavar="NAME", help="begin from this backup; the right one is found unless given")
    where = parser.add_argument_group("a whole store")
    where.add_argument("--to", metavar="DIR", help="a new or empty directory")
    where.add_argument("--replace", action="store_true", help="in the place of --root, which is kept beside it")
    where.add_argument("--discard-old", action="store_true", help="with --replace: remove what was there")
    part = parser.add_argument_group("a part, into --root")
    part.add_argument("--agent", dest="agents", action="append", metavar="ID", help="repeat for several")
    part.add_argument("--since", metavar="TIME", help="records from here on")
    part.add_argument("--until", metavar="TIME", help="records up to here, exclusive")
    part.add_argument(
        "--type", dest="memory_type", action="append", type=str.upper, choices=[*MemoryType], help="repeat for several"
    )


def run(args: argparse.Namespace) -> int:
    """Restore; prints what was done.

    Raises:
        UsageError: the flags do not go together.
    """
    is_part = any(value is not None for value in (args.agents, args.since, args.until, args.memory_type))
    if is_part and (args.to is not None or args.replace):
        raise UsageError("a part is appended to --root: leave out --to and --replace")
    if not is_part and (args.to is None) == (not args.replace):
        raise UsageError("name a new directory with --to, or ask with --replace for --root to be replaced")
    if args.discard_old and not args.replace:
        raise UsageError("--discard-old goes with --replace")
    report = _part(args) if is_part else _whole(args)
    print_document(Output.of(args), report.as_dict())
    _tell(report)
    return OK


def _part(args: argparse.Namespace) -> RestoreReport:
    with open_for_writing(args, create=True) as store, progress_bar("restoring") as progress:
        return store.restore_part(
            args.destination,
            agent=args.agents,
            since=args.since,
            until=args.until,
            memory_type=args.memory_type,
            at=args.at,
            point=args.point,
            progress=progress,
        )


def _whole(args: argparse.Namespace) -> RestoreReport:
    beside = args.root or os.environ.get("MEMSTORE_ROOT")
    with progress_bar("restoring") as progress:
        return restore(
            args.destination,
            root_of(args) if args.replace else args.to,
            at=args.at,
            point=args.point,
            replace=args.replace,
            discard_old=args.discard_old,
            beside=beside,
            progress=progress,
        )


def _tell(report: RestoreReport) -> None:
    if report.reached < report.at:
        note(f"no backup is as young as {iso_text(report.at)}: the store is as of {iso_text(report.reached)}")
    for gap in report.gaps:
        until = f" until {iso_text(gap.until)}" if gap.until else ""
        months = f" (records of {', '.join(gap.months)})" if gap.months else ""
        note(f"something may be missing: the lanes of some commits{until} could not be kept{months}")
    if report.undeletes_left_out:
        note(f"{report.undeletes_left_out} undelete(s) before that moment are not repeated: do them again")
    if report.held:
        note(f"{report.held} record(s) that were forgotten are there, for a hold covers them by now")
    if report.kept is not None:
        note(f"what was there is in {report.kept}; remove it when it is not needed any more")
    if report.imported or report.already or report.refused:
        note(f"{report.imported:,} records restored, {report.already:,} were there, {report.refused:,} stay forgotten")
    else:
        note(f"restored to {report.target}")
