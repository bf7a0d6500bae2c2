"""``memstore range``: records in time order, streaming, agent by agent."""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Iterator
from typing import Any

from memstore.cli.arguments import add_command, add_filters, filters, positive
from memstore.cli.opening import note_unknown_agents, open_for_reading
from memstore.cli.output import Output
from memstore.cli.render import print_records
from memstore.store import MemStore

_DESCRIPTION = """\
Print records in time order, oldest first, one agent after another.

Without --agent every agent's. Memory stays bounded whatever the range."""


def add_parser(commands: Any) -> None:
    """Declare the command."""
    parser = add_command(commands, "range", run, "print records in time order", description=_DESCRIPTION)
    parser.add_argument(
        "--agent", dest="agents", action="append", metavar="ID", help="repeat for several; default: all"
    )
    add_filters(parser)
    parser.add_argument("--newest-first", action="store_true", help="the other way round")
    parser.add_argument("--limit", type=positive, metavar="N", help="stop after so many records")
    parser.add_argument(
        "--on-damage",
        choices=["raise", "skip"],
        default="raise",
        help="skip reads around damaged bytes (default: raise)",
    )


def run(args: argparse.Namespace) -> int:
    """Print them."""
    wanted = {**filters(args), "newest_first": args.newest_first, "on_damage": args.on_damage}
    with open_for_reading(args) as store:
        lines = itertools.islice(lines_of(store, args.agents, wanted), args.limit)
        if not print_records(Output.of(args), lines):
            note_unknown_agents(store, args.agents or ())
    return 0


def lines_of(store: MemStore, agents: list[str] | None, wanted: dict[str, Any]) -> Iterator[bytes]:
    """Stored lines of these agents, or of all, one agent after another."""
    for agent_id in store.agents() if agents is None else agents:
        yield from store.agent(agent_id).lines(**wanted)
