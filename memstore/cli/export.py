"""``memstore export``: records out, as NDJSON (the stored bytes), CSV, or a tree of one file per memory.

A destination file appears whole or not at all: it is written beside its name and renamed.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from typing import Any

from memstore.cli.arguments import add_command, add_filters, filters
from memstore.cli.destination import whole_file
from memstore.cli.opening import note, open_for_reading
from memstore.cli.progress import progress_bar
from memstore.errors import UsageError

_STDOUT = "-"
_KINDS = (
    ("ndjson", "the stored lines, byte for byte"),
    ("csv", "one row a record, nested fields as JSON"),
    ("tree", "one file per memory, as they came where they were imported"),
)


def add_parser(commands: Any) -> None:
    """Declare the command."""
    parent = add_command(commands, "export", run_none, "write records to a file, a pipe or a tree of files")
    kinds = parent.add_subparsers(metavar="KIND", title="kinds")
    for kind, summary in _KINDS:
        parser = add_command(kinds, kind, run_tree if kind == "tree" else run_stream, summary)
        if kind == "tree":
            parser.add_argument("destination", metavar="DEST", help="a new or empty directory")
        else:
            parser.add_argument(
                "destination", metavar="DEST", nargs="?", default=_STDOUT, help="a file; - or none: standard output"
            )
            parser.add_argument("--force", action="store_true", help="replace DEST if it is there")
        parser.set_defaults(kind=kind)
        parser.add_argument(
            "--agent", dest="agents", action="append", metavar="ID", help="repeat for several; default: all"
        )
        add_filters(parser)
        parser.add_argument(
            "--on-damage",
            choices=["raise", "skip"],
            default="raise",
            help="skip leaves damaged bytes out (default: raise)",
        )


def run_none(_: argparse.Namespace) -> int:
    """Refuse: a kind is needed.

    Raises:
        UsageError: always.
    """
    raise UsageError("export as what? `memstore export ndjson`, `csv` or `tree`, then DEST")


def run_stream(args: argparse.Namespace) -> int:
    """Export to a file or standard output; how many goes to standard error."""
    from memstore.exporters.csv import export_csv
    from memstore.exporters.ndjson import export_ndjson

    export: Callable[..., int] = export_csv if args.kind == "csv" else export_ndjson
    wanted = {**filters(args), "on_damage": args.on_damage}
    if args.destination == _STDOUT:
        with open_for_reading(args) as store:
            records = export(store, sys.stdout.buffer, agents=args.agents, **wanted)
        sys.stdout.buffer.flush()
    else:
        with (
            open_for_reading(args) as store,
            whole_file(args.destination, force=args.force) as out,
            progress_bar("exporting agents") as report,
        ):
            records = export(store, out, agents=args.agents, progress=report, **wanted)
    note(f"{records:,} record{'' if records == 1 else 's'} exported")
    return 0


def run_tree(args: argparse.Namespace) -> int:
    """Export to a directory; how many goes to standard error."""
    from memstore.exporters.tree import export_tree

    if args.destination == _STDOUT:
        raise UsageError("a tree of files needs a directory; standard output takes ndjson or csv")
    wanted = {**filters(args), "on_damage": args.on_damage}
    with open_for_reading(args) as store, progress_bar("exporting agents") as report:
        records = export_tree(store, args.destination, agents=args.agents, progress=report, **wanted)
    note(f"{records:,} record{'' if records == 1 else 's'} exported")
    return 0
