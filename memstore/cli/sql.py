"""``memstore sql``: one question in SQL over the store's own files, read-only."""

from __future__ import annotations

import argparse
import resource
import sys
from typing import Any

from memstore.cli.arguments import add_command, context_pairs, positive
from memstore.cli.opening import open_for_reading
from memstore.cli.output import Output
from memstore.cli.render import print_rows
from memstore.errors import InvalidRecordError, UsageError

_DESCRIPTION = """\
Ask one question in SQL (DuckDB's) over the view `memories`: every record of the store once,
from every tier and what is not merged yet. Nothing is copied, and nothing can be changed.

  memstore --root DIR sql "SELECT agent_id, count(*) FROM memories GROUP BY ALL ORDER BY 2 DESC"
  memstore --root DIR sql --agent 'bdi_*' --since 30d "SELECT * FROM memories WHERE list_contains(tags, 'market')"
  memstore sql --schema

--agent, --since and --until decide which files are read at all. Needs `pip install 'memstore[sql]'`."""
_MIB = 1 << 20


def add_parser(commands: Any) -> None:
    """Declare the command."""
    parser = add_command(commands, "sql", run, "ask a question in SQL", description=_DESCRIPTION)
    parser.add_argument("query", metavar="QUERY", nargs="?", help="a SELECT; - reads it from standard input")
    parser.add_argument(
        "--schema", "--tables", dest="schema", action="store_true", help="list the columns of the view, and stop"
    )
    parser.add_argument(
        "--agent", dest="agents", action="append", metavar="GLOB", help="of these agents; repeat for several"
    )
    parser.add_argument("--since", metavar="TIME", help="from here on, as `range` takes it")
    parser.add_argument("--until", metavar="TIME", help="up to here, exclusive")
    parser.add_argument(
        "--param",
        action="append",
        metavar="NAME=VALUE",
        help="the value of $NAME in the query; NAME:=JSON for what is no text; repeat for several",
    )
    parser.add_argument(
        "--on-damage",
        choices=["raise", "skip"],
        default="raise",
        help="skip reads around damaged bytes (default: raise)",
    )
    parser.add_argument(
        "--memory", type=positive, metavar="MIB", default=1024, help="what the query may take (default: 1024)"
    )


def run(args: argparse.Namespace) -> int:
    """Print the answer."""
    from memstore.sql import COLUMNS, ask

    out = Output.of(args)
    if args.schema:
        rows = [{"column": each.name, "type": each.type, "meaning": each.meaning} for each in COLUMNS]
        print_rows(out, ("column", "type", "meaning"), rows)
        return 0
    query, parameters = _query(args.query), _parameters(args.param)
    from memstore.cli.sql_answer import print_answer

    _allow_open_files()
    with (
        open_for_reading(args) as store,
        ask(
            store,
            query,
            parameters,
            agents=args.agents,
            since=args.since,
            until=args.until,
            on_damage=args.on_damage,
            memory_bytes_max=args.memory * _MIB,
        ) as answer,
    ):
        print_answer(out, answer)
    return 0


def _query(given: str | None) -> str:
    """Raises: UsageError: there is none, or it is no text."""
    if given == "-":
        try:
            given = sys.stdin.buffer.read().decode()
        except UnicodeDecodeError as error:
            raise UsageError(
                f"the query on standard input is no text ({error.reason} at byte {error.start})"
            ) from error
    if not given or not given.strip():
        raise UsageError("no query is given; `memstore sql --schema` lists the columns of the view `memories`")
    return given


def _parameters(pairs: list[str] | None) -> dict[str, Any]:
    try:
        return context_pairs(pairs, flag="--param")
    except InvalidRecordError as error:  # there is no record: the command is wrong
        raise UsageError(str(error)) from error


def _allow_open_files() -> None:
    """As many as the system lets this process have: the files of a query stay open while it runs."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        except (ValueError, OSError):
            return  # some systems state a limit that they do not grant; fewer are held open then
