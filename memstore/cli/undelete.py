"""``memstore undelete``: bring back what was forgotten or what retention has put into the trash."""

from __future__ import annotations

import argparse
from typing import Any

from memstore.cli.arguments import add_command
from memstore.cli.exit_codes import NOTHING_FOUND, OK
from memstore.cli.ids import add_ids, checked_ids
from memstore.cli.opening import note, open_for_writing
from memstore.cli.output import Output
from memstore.cli.render import print_document
from memstore.errors import UsageError

_DESCRIPTION = """\
Bring back records that were forgotten and are not rewritten yet, or that retention removed and that are still within
their grace period. A hold is added for what retention removed, or the next run would remove it again; `memstore hold
remove NAME` ends it."""


def add_parser(commands: Any) -> None:
    """Declare the command."""
    parser = add_command(
        commands, "undelete", run, "bring back what was forgotten or removed by retention", description=_DESCRIPTION
    )
    parser.add_argument("--agent", metavar="ID", help="everything of this agent that can be brought back")
    add_ids(parser, nargs="*")


def run(args: argparse.Namespace) -> int:
    """Bring them back; 1 if one of them cannot be."""
    if (args.agent is None) == (not args.memory_ids):
        raise UsageError("name memory ids, or an agent with --agent; not both")
    ids = checked_ids(args.memory_ids) or None
    with open_for_writing(args, create=False) as store:
        report = store.undelete(agent=args.agent, ids=ids)
    unknown = list(report.unknown)
    print_document(Output.of(args), {"records": report.records, "holds": list(report.holds), "unknown": unknown})
    if report.holds:
        note("held against the next run of retention; `memstore hold remove NAME` ends it")
    for memory_id in unknown:
        note(f"{memory_id} cannot be brought back: not forgotten, or rewritten since, or its grace period is over")
    return NOTHING_FOUND if unknown else OK
