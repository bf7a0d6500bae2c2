"""``memstore agents``: who has memories here."""

from __future__ import annotations

import argparse
from typing import Any

from memstore.cli.arguments import add_command
from memstore.cli.opening import open_for_reading
from memstore.cli.output import Output
from memstore.cli.render import print_rows


def add_parser(commands: Any) -> None:
    """Declare the command."""
    parser = add_command(commands, "agents", run, "list the agents")
    parser.add_argument("--count", action="store_true", help="count each agent's records (reads every agent's index)")


def run(args: argparse.Namespace) -> int:
    """Print the ids, sorted."""
    with open_for_reading(args) as store:
        rows: list[dict[str, Any]] = [{"agent_id": agent_id} for agent_id in store.agents()]
        if args.count:
            for row in rows:
                row["records"] = store.agent(row["agent_id"]).count()
    print_rows(Output.of(args), ("agent_id", "records") if args.count else ("agent_id",), rows)
    return 0
