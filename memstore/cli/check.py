"""``memstore check``: is the store as it was written?"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from typing import Any

from memstore.cli.arguments import add_command
from memstore.cli.exit_codes import OK, exit_code_of
from memstore.cli.opening import note, root_of, without_log
from memstore.cli.output import Output
from memstore.cli.progress import Progress, progress_bar
from memstore.cli.render import print_document, print_rows
from memstore.clock import WallClock
from memstore.errors import CorruptionError, MemstoreError, StorageError
from memstore.format.names import StorePaths
from memstore.fs.local import LocalStorage
from memstore.ops.check import check_store
from memstore.ops.check_copy import check_copy
from memstore.ops.check_index import check_index
from memstore.ops.finding import Finding
from memstore.ops.report import CheckReport
from memstore.search.state import CONSUMER
from memstore.store import open_engine

COLUMNS = ("severity", "kind", "path", "offset_bytes", "length_bytes", "records", "agent", "reason", "repair")
_DESCRIPTION = """\
Look for damage: without --full at the structure (MANIFESTs, names, sizes, lanes, small files), with it at every byte,
every record, every count, and whether a search would find each record. Nothing of the store is changed or locked;
writers and maintenance go on meanwhile. Exits with 7 if something is damaged, with 6 if something could not be looked
at. `memstore repair --plan` says what can be done. With --copy it looks at the second copy, and whether each record
that the store has acknowledged is there."""


def add_parser(commands: Any) -> None:
    """Declare the command."""
    parser = add_command(commands, "check", run, "look for damage", description=_DESCRIPTION)
    parser.add_argument("--full", action="store_true", help="read every byte and every record")
    parser.add_argument(
        "--copy",
        action="store_true",
        help="look at the second copy instead, and whether it has all that the store has",
    )


def run(args: argparse.Namespace) -> int:
    """Check; the code says what was found."""
    out = Output.of(args)
    on_finding = _printer(out) if out.format == "ndjson" else None
    # Not through MemStore: a store whose STORE.json is damaged cannot be opened, and can be checked.
    paths = StorePaths(os.path.abspath(root_of(args)))
    with progress_bar("checking") as progress, without_log():
        report = (check_copy if args.copy else check_store)(
            LocalStorage(), paths, clock=WallClock(), full=args.full, progress=progress, on_finding=on_finding
        )
    if not args.copy:
        with progress_bar("checking the search index") as progress, without_log():
            _check_index(args, report, progress)
    print_report(out, report, repair="repair --copy" if args.copy else "repair")
    return code_of(report)


def _check_index(args: argparse.Namespace, report: CheckReport, progress: Progress) -> None:
    """The part that needs an open store; one that cannot be opened is damaged, which the report says."""
    paths = StorePaths(report.root)
    if LocalStorage().identify(paths.consumer(CONSUMER)) is None:
        return
    try:
        engine = open_engine(
            report.root, settings=args.config, durability=None, read_only=True, create=False, clock=None
        )
    except (MemstoreError, FileNotFoundError) as error:
        report.add(Finding("search_index", "unread", paths.search, f"the store cannot be opened for it: {error}"))
        return
    try:
        check_index(engine, report, progress=progress)
    finally:
        engine.close()


def print_report(out: Output, report: CheckReport, *, repair: str = "repair") -> None:
    """The findings, unless they were printed one by one, and the figures."""
    match out.format:
        case "json":
            print_document(out, report.as_dict())
        case "ndjson":
            print_document(out, {"event": "summary", **report.summary()})
        case _:
            if report.findings or out.format == "csv":
                print_rows(out, COLUMNS, [finding.as_dict() for finding in report.findings])
    checked = report.checked
    what = f"{checked.agents:,} agents, {checked.lanes:,} lanes, {checked.files:,} files, {checked.records:,} records"
    if report.is_clean:
        note(f"clean: {what}" + ("" if report.full else " (structure only; --full reads every byte)"))
        return
    note(
        f"{report.damaged:,} damaged place(s), {report.records_affected:,} record(s) known to be affected, "
        f"{report.unread:,} place(s) that could not be looked at; {what}"
    )
    if any(each.severity == "damage" and each.kind != "search_index" for each in report.findings):
        note(f"what is intact stays readable; `memstore {repair} --plan` says what can be done")
    elif report.damaged:
        note("no record is damaged; `memstore index rebuild` builds the search index anew")


def code_of(report: CheckReport) -> int:
    """0 for a clean store, else the code of the error that a read would meet."""
    if report.damaged:
        return exit_code_of(CorruptionError)
    return OK if report.is_clean else exit_code_of(StorageError)


def _printer(out: Output) -> Callable[[Finding], None]:
    def show(finding: Finding) -> None:
        print_document(out, {"event": "finding", **finding.as_dict()})

    return show
