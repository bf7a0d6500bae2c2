"""``memstore stats``: how much is stored, where, and how well the caches do."""

from __future__ import annotations

import argparse
from typing import Any

from memstore.cli.arguments import add_command
from memstore.cli.opening import note_unknown_agents, open_for_reading
from memstore.cli.output import Output
from memstore.cli.render import print_document


def add_parser(commands: Any) -> None:
    """Declare the command."""
    parser = add_command(commands, "stats", run, "sum up the store, or one agent")
    parser.add_argument("--agent", metavar="ID", help="of this agent only")


def run(args: argparse.Namespace) -> int:
    """Print them."""
    with open_for_reading(args) as store:
        found = store.stats() if args.agent is None else store.agent(args.agent).stats()
        if args.agent is not None and not found["records"]:
            note_unknown_agents(store, [args.agent])
    print_document(Output.of(args), found)
    return 0
