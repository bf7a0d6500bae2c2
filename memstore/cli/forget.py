"""``memstore forget``: hide records at once; the next rewrite of their files drops them."""

from __future__ import annotations

import argparse
from typing import Any

from memstore.cli.arguments import add_command
from memstore.cli.exit_codes import NOTHING_FOUND, OK
from memstore.cli.ids import add_ids, checked_ids
from memstore.cli.opening import note, open_for_writing
from memstore.cli.output import Output
from memstore.cli.render import print_document

_DESCRIPTION = """\
Forget records: from now on no read finds them, in any process. Their lines are dropped when their file is next
rewritten; until then `memstore undelete ID` takes it back. To have them gone now, and proved: `memstore erase`."""


def add_parser(commands: Any) -> None:
    """Declare the command."""
    parser = add_command(
        commands, "forget", run, "hide records at once; gone at the next rewrite", description=_DESCRIPTION
    )
    add_ids(parser, nargs="+")


def run(args: argparse.Namespace) -> int:
    """Hide them; 1 if one of them is not there."""
    ids = checked_ids(args.memory_ids)
    with open_for_writing(args, create=False) as store:
        report = store.forget(ids)
    print_document(Output.of(args), {"hidden": list(report.hidden), "unknown": list(report.unknown)})
    if report.hidden:
        note("hidden; `memstore undelete ID` takes it back until maintenance next rewrites the file")
    for memory_id in report.unknown:
        note(f"{memory_id} is not in this store")
    return NOTHING_FOUND if report.unknown else OK
