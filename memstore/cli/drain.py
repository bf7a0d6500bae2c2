"""``memstore drain``: merge every lane, so that each agent's directory is complete in itself."""

from __future__ import annotations

import argparse
from typing import Any

from memstore.cli.arguments import add_command, positive
from memstore.cli.opening import note, open_for_writing
from memstore.cli.output import Output
from memstore.cli.render import print_document
from memstore.errors import LockedError

_TIMEOUT_S_DEFAULT = 30


def add_parser(commands: Any) -> None:
    """Declare the command."""
    parser = add_command(commands, "drain", run, "seal and merge every lane: each agent's directory is then complete")
    parser.add_argument(
        "--timeout",
        dest="timeout_s",
        type=positive,
        default=_TIMEOUT_S_DEFAULT,
        metavar="SECONDS",
        help=f"wait so long for other processes (default: {_TIMEOUT_S_DEFAULT})",
    )


def run(args: argparse.Namespace) -> int:
    """Drain; a lane that another process holds on to is a `LockedError`, after the report."""
    with open_for_writing(args, create=False) as store:
        report = store.drain(timeout_s=args.timeout_s)
    print_document(Output.of(args), {"merged_lanes": report.merged_lanes, "pending": list(report.pending)})
    if report.pending:
        raise LockedError(
            f"{len(report.pending)} lane(s) could not be sealed: {', '.join(report.pending)}. "
            "Their writers are stopped or stuck: end them and drain again; nothing is lost meanwhile"
        )
    note("every lane is merged")
    return 0
