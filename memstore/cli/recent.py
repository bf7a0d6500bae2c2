"""``memstore recent``: an agent's newest records, newest first."""

from __future__ import annotations

import argparse
import itertools
from typing import Any

from memstore.cli.arguments import add_command, add_filters, filters, positive
from memstore.cli.opening import note_unknown_agents, open_for_reading
from memstore.cli.output import Output
from memstore.cli.render import print_records

_LIMIT_DEFAULT = 20


def add_parser(commands: Any) -> None:
    """Declare the command."""
    parser = add_command(commands, "recent", run, "print an agent's newest records, newest first")
    parser.add_argument("--agent", metavar="ID", required=True, help="whose memory")
    parser.add_argument(
        "-n",
        "--limit",
        type=positive,
        default=_LIMIT_DEFAULT,
        metavar="N",
        help=f"how many at most (default: {_LIMIT_DEFAULT})",
    )
    add_filters(parser)


def run(args: argparse.Namespace) -> int:
    """Print them; no record is an empty answer, not an error."""
    wanted = filters(args)
    with open_for_reading(args) as store:
        lines = store.agent(args.agent).lines(newest_first=True, **wanted)
        if not print_records(Output.of(args), itertools.islice(lines, args.limit)):
            note_unknown_agents(store, [args.agent])
    return 0
