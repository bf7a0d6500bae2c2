"""``memstore get``: records by id, as the lines that are stored."""

from __future__ import annotations

import argparse
from typing import Any

from memstore.cli.arguments import add_command
from memstore.cli.exit_codes import NOTHING_FOUND, OK
from memstore.cli.opening import note, open_for_reading
from memstore.cli.output import Output
from memstore.cli.render import print_records
from memstore.ids import parse_id
from memstore.record import decode_record
from memstore.store import MemStore


def add_parser(commands: Any) -> None:
    """Declare the command."""
    parser = add_command(
        commands,
        "get",
        run,
        "print records by id",
        description="Print records by id. One id gives one JSON object with -o json, several give an array.\n"
        "Exits with 1 if one of them is not there.",
    )
    parser.add_argument("memory_ids", nargs="+", metavar="ID", help="a memory id")


def run(args: argparse.Namespace) -> int:
    """Print what is found; 1 if anything is not."""
    for memory_id in args.memory_ids:
        parse_id(memory_id)  # a misspelt id is told before anything is printed
    out = Output.of(args)
    missing = []
    with open_for_reading(args) as store:
        lines = []
        for memory_id in args.memory_ids:
            line = find_line(store, memory_id)
            if line is None:
                missing.append(memory_id)
            else:
                lines.append(line)
    if out.format == "json" and len(args.memory_ids) == 1:
        out.write_bytes(b"".join(line + b"\n" for line in lines))
        out.flush()
    elif lines or out.format == "json":
        print_records(out, lines)
    for memory_id in missing:
        note(f"{memory_id} is not in this store")
    return NOTHING_FOUND if missing else OK


def find_line(store: MemStore, memory_id: str) -> bytes | None:
    """The stored line of a record: an id says whose it is and its very microsecond."""
    parts = parse_id(memory_id)
    for line in store.agent(parts.agent_id).lines(since=parts.time_us, until=parts.time_us + 1):
        if decode_record(line).memory_id == memory_id:
            return line
    return None
