"""``memstore import``: memories from a one-file-per-memory tree or from NDJSON. The source is never touched."""

from __future__ import annotations

import argparse
import contextlib
import datetime as dt
import os
import stat
import sys
import tempfile
from collections.abc import Iterator
from typing import Any, BinaryIO

from memstore.cli.arguments import Parser, add_command
from memstore.cli.opening import note, notices_summed, open_for_reading, open_for_writing, root_of
from memstore.cli.output import Output
from memstore.cli.progress import progress_bar
from memstore.cli.render import print_document
from memstore.errors import NotFoundError, UsageError
from memstore.ids import check_agent_id
from memstore.importers.report import ImportReport
from memstore.store import MemStore

_DAMAGED_TOLD = 10
"""Damaged files named on standard error; -o json names all."""
_TREE = """\
Import every memory under a directory of one-file-per-memory. Layouts are told apart by file names.

A second import adds nothing; an interrupted one goes on where it stopped. Damaged files are listed and left out."""
_NDJSON = "Import records from NDJSON, such as `memstore export ndjson` writes. - is standard input."


def add_parser(commands: Any) -> None:
    """Declare the command."""
    parent = add_command(commands, "import", run_none, "import memories from a tree of files, or NDJSON")
    kinds = parent.add_subparsers(metavar="KIND", title="kinds")
    tree = add_command(kinds, "tree", run_tree, "a directory of one-file-per-memory", description=_TREE)
    tree.add_argument("path", metavar="PATH")
    _add_common(tree)
    ndjson = add_command(kinds, "ndjson", run_ndjson, "records, one JSON object a line", description=_NDJSON)
    ndjson.add_argument("path", metavar="PATH", help="a file, or - for standard input")
    _add_common(ndjson)


def _add_common(parser: Parser) -> None:
    parser.add_argument(
        "--tz", metavar="ZONE", default="UTC", help="of times without a zone, such as Europe/Berlin; default: UTC"
    )
    parser.add_argument("--agent", metavar="ID", help="whose the records are that name no agent")
    parser.add_argument("--dry-run", action="store_true", help="read everything, say what would happen, write nothing")


def run_none(_: argparse.Namespace) -> int:
    """Refuse: a kind is needed.

    Raises:
        UsageError: always.
    """
    raise UsageError("import what? `memstore import tree PATH` or `memstore import ndjson PATH`")


def run_tree(args: argparse.Namespace) -> int:
    """Import a tree; prints the report."""
    from memstore.importers.tree import import_tree, tree_root

    zone = _checked(args)
    tree_root(args.path)  # a mistaken path makes no store
    with _target(args) as store, progress_bar("importing files") as report:
        done = import_tree(store, args.path, tz=zone, dry_run=args.dry_run, agent=args.agent, progress=report)
    _print_report(args, done)
    return 0


def run_ndjson(args: argparse.Namespace) -> int:
    """Import NDJSON; prints the report."""
    from memstore.importers.ndjson import import_ndjson, open_lines

    zone = _checked(args)
    source: BinaryIO | str
    with contextlib.ExitStack() as opened:
        if args.path == "-":
            source = sys.stdin.buffer
        else:
            source = opened.enter_context(open_lines(args.path))  # a mistaken path makes no store
            if stat.S_ISREG(os.fstat(source.fileno()).st_mode):  # a pipe cannot be read twice
                source = args.path
        store = opened.enter_context(_target(args))
        report = opened.enter_context(progress_bar("importing bytes"))
        done = import_ndjson(store, source, tz=zone, dry_run=args.dry_run, agent=args.agent, progress=report)
    _print_report(args, done)
    return 0


def _checked(args: argparse.Namespace) -> dt.tzinfo:
    """The zone; refuses wrong flags before a store is made."""
    if args.agent is not None:
        check_agent_id(args.agent)
    return time_zone(args.tz)


@contextlib.contextmanager
def _target(args: argparse.Namespace) -> Iterator[MemStore]:
    """The store to import into; a dry run opens it read-only, or stands an empty one in for one that is not there."""
    if not args.dry_run:
        with open_for_writing(args, create=True) as store:
            yield store
        return
    with contextlib.ExitStack() as opened:
        try:
            store = opened.enter_context(open_for_reading(args))
        except NotFoundError:
            empty = opened.enter_context(tempfile.TemporaryDirectory(prefix="memstore-dry-run-"))
            with notices_summed(args):
                store = opened.enter_context(MemStore(os.path.join(empty, "store"), settings=args.config))
        yield store


def time_zone(name: str) -> dt.tzinfo:
    """A zone of the time zone database.

    Raises:
        UsageError: there is none of this name.
    """
    if name.upper() in ("UTC", "Z"):
        return dt.UTC
    import zoneinfo

    try:
        return zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise UsageError(
            f"--tz {name!r} is no time zone; they are written like Europe/Berlin or America/New_York"
        ) from error


def _print_report(args: argparse.Namespace, report: ImportReport) -> None:
    found = report.as_dict()
    out = Output.of(args)
    if out.format == "table":
        found = {key: value for key, value in found.items() if not isinstance(value, list)}
    print_document(out, found)
    if args.dry_run:
        note(f"dry run: nothing was written to {os.path.abspath(root_of(args))}")
    if not report.files:
        note(f"no file was found under {os.path.abspath(args.path)}")
    for what, files in (("damaged", report.damaged_files), ("skipped", report.skipped_files)):
        if files and out.format in ("json", "ndjson"):
            note(f"{what}: {len(files):,}; {what}_files lists them with their reasons")
            continue
        for file in files[:_DAMAGED_TOLD]:
            note(f"{what}: {file['path']}: {file['reason']}")
        if len(files) > _DAMAGED_TOLD:
            note(f"{what}: {len(files) - _DAMAGED_TOLD:,} more; -o json lists them all")
