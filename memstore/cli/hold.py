"""``memstore hold``: legal holds, which no retention, forgetting or erasing passes over."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

from memstore.cli.arguments import add_command
from memstore.cli.exit_codes import OK
from memstore.cli.ids import checked_ids
from memstore.cli.opening import note, open_for_reading, open_for_writing
from memstore.cli.output import Output
from memstore.cli.render import print_document, print_rows
from memstore.format.holds_file import Hold
from memstore.record import MemoryType
from memstore.timestamps import YEAR_10000_US, iso_text

_COLUMNS = ("name", "agent", "ids", "memory_types", "since", "until", "reason", "at")


def add_parser(commands: Any) -> None:
    """Declare the command."""
    hold = add_command(commands, "hold", run_list, "legal holds: add, remove or list them")
    kinds = hold.add_subparsers(metavar="ACTION", title="actions (without one: list)")
    add_command(kinds, "list", run_list, "list the holds")
    add = add_command(
        kinds,
        "add",
        run_add,
        "keep records whatever retention says",
        description="Keep the records for which all that is given is true; nothing removes them while the hold stands.",
    )
    add.add_argument("name", metavar="NAME", help="letters, digits, '.', '_' and '-'")
    add.add_argument("--agent", metavar="PATTERN", help="an agent, or a pattern with * ? [...]; default: all")
    add.add_argument("--ids", nargs="+", metavar="ID", help="these records only")
    add.add_argument(
        "--type", dest="memory_types", nargs="+", type=str.upper, choices=[*MemoryType], help="these types only"
    )
    add.add_argument("--since", metavar="TIME", help="records from here on: 2025-01-15, or an age: 7d")
    add.add_argument("--until", metavar="TIME", help="records up to here, exclusive")
    add.add_argument("--reason", metavar="TEXT", required=True, help="for those who read the list later")
    remove = add_command(kinds, "remove", run_remove, "end a hold")
    remove.add_argument("name", metavar="NAME")


def run_list(args: argparse.Namespace) -> int:
    """Print the holds."""
    out = Output.of(args)
    with open_for_reading(args) as store:
        rows = [hold_row(hold) for hold in store.holds()]
    if out.format == "table":
        rows = [{**row, "ids": len(row["ids"]) or None} for row in rows]
    print_rows(out, _COLUMNS, rows)
    return OK


def run_add(args: argparse.Namespace) -> int:
    """Add one; prints it."""
    with open_for_writing(args, create=False) as store:
        added = store.add_hold(
            args.name,
            agent=args.agent,
            ids=None if args.ids is None else checked_ids(args.ids),
            memory_type=args.memory_types,
            since=args.since,
            until=args.until,
            reason=args.reason,
        )
    print_document(Output.of(args), hold_row(added))
    return OK


def run_remove(args: argparse.Namespace) -> int:
    """Remove one."""
    with open_for_writing(args, create=False) as store:
        store.remove_hold(args.name)
    print_document(Output.of(args), {"removed": args.name})
    note("what it held is removed again when retention says so")
    return OK


def hold_row(hold: Hold) -> Mapping[str, Any]:
    """A hold for people and scripts; open ends are None."""
    return {
        "name": hold.name,
        "agent": hold.agent,
        "ids": list(hold.ids),
        "memory_types": list(hold.memory_types),
        "since": iso_text(hold.since_us) if hold.since_us else None,
        "until": iso_text(hold.until_us) if hold.until_us < YEAR_10000_US else None,
        "reason": hold.reason,
        "at": iso_text(hold.at),
    }
