"""The command line: parse, call, map errors to exit codes.

Data goes to standard output, everything else to standard error. An error is one line there: what happened, and what
to do.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import sys
import traceback
from collections.abc import Sequence
from typing import Any

from memstore.cli import (
    agents,
    append,
    backup,
    check,
    completion,
    config,
    daemon,
    demo,
    drain,
    erase,
    export,
    forget,
    get,
    hold,
    import_,
    index,
    maintain,
    range,  # noqa: A004 - the command's name; the builtin is not used here
    recent,
    repair,
    replica,
    restore,
    retention,
    search,
    shards,
    sql,
    stats,
    tiers,
    undelete,
)
from memstore.cli.arguments import HELP_FORMAT, Parser, add_globals
from memstore.cli.exit_codes import BUG, OK, exit_code
from memstore.cli.opening import NotesHandler
from memstore.legible import safe_text

_READ_AND_WRITE = (append, get, recent, range, search, sql, agents, stats, import_, export)
_LIFE = (tiers, maintain, daemon, retention, hold, forget, undelete, erase)
_HEALTH = (check, repair, backup, restore, index)
_COMMANDS = (*_READ_AND_WRITE, *_LIFE, *_HEALTH, config, shards, replica, drain, demo, completion)
_DESCRIPTION = """\
The memory engine for AI agents: durable, many-process, plain files.

  memstore --root DIR append --agent bot --input "Analyze the market" --response "Three clusters ..."
  memstore --root DIR recent --agent bot
  memstore --root DIR search "market AND timeout" --since 7d
  memstore demo"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: the arguments; ``sys.argv[1:]`` unless given.

    Returns:
        The exit code, as docs/CLI.md lists them.
    """
    arguments = sys.argv[1:] if argv is None else list(argv)
    _stand_in_for_closed_streams()
    log, notes = logging.getLogger("memstore"), NotesHandler()
    log.addHandler(notes)
    try:
        return _run(arguments)
    except SystemExit as stop:  # argparse after --help and --version
        return stop.code if isinstance(stop.code, int) else OK
    except BaseException as error:  # noqa: BLE001 - every error gets its number, ours too
        code = exit_code(error)
        with contextlib.suppress(OSError):  # standard error may be closed as well
            _explain(error, code, debug="--debug" in arguments)
        if isinstance(error, OSError):
            _discard_output()
        return code
    finally:
        log.removeHandler(notes)


def _run(arguments: list[str]) -> int:
    parser = build_parser()
    args = parser.parse_args(arguments)
    if not hasattr(args, "run"):
        parser.error("no command is given")
    args.parser = parser
    code: int = args.run(args)
    sys.stdout.flush()
    return code


def build_parser() -> Parser:
    """The whole command line."""
    parser = Parser(prog="memstore", description=_DESCRIPTION, formatter_class=HELP_FORMAT)
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version and exit")
    add_globals(parser, default=None)
    commands = parser.add_subparsers(metavar="COMMAND", title="commands")
    for command in _COMMANDS:
        command.add_parser(commands)
    return parser


class _Version(argparse.Action):
    """Looks the version up only when it is asked for: reading package metadata costs as much as starting."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        import importlib.metadata

        try:
            version = importlib.metadata.version("memstore")
        except importlib.metadata.PackageNotFoundError:
            version = "(not installed)"
        print(f"memstore {version}")
        parser.exit()


def _explain(error: BaseException, code: int, *, debug: bool) -> None:
    """One line on standard error; a closed pipe is no event."""
    if isinstance(error, BrokenPipeError):
        return
    if debug:
        traceback.print_exception(error, file=sys.stderr)
    if isinstance(error, KeyboardInterrupt):
        message = str(error) or "interrupted; what was acknowledged is stored"
    elif code == BUG:
        hint = "" if debug else "; run it again with --debug for the traceback, and report it"
        message = f"a bug of memstore: {type(error).__name__}: {error}{hint}"
    elif isinstance(error, OSError):
        message = (
            f"{error.filename or 'standard output'}: {error.strerror or error}; check the file or device and try again"
        )
    else:
        message = str(error)
    print(f"memstore: {safe_text(' '.join(message.split()))}", file=sys.stderr)


def _stand_in_for_closed_streams() -> None:
    """Python has None for a stream that was closed when it started (``<&-``), and files opened later get its number.

    A closed input is empty, writing to a closed output is an error of the system's as any other, and nobody reads
    what goes to a closed standard error.
    """
    for name, flags, mode in (("stdin", os.O_RDONLY, "r"), ("stdout", os.O_RDONLY, "w"), ("stderr", os.O_WRONLY, "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(os.open(os.devnull, flags), mode, encoding="utf-8"))


def _discard_output() -> None:
    """Point standard output nowhere, so that the interpreter's last flush does not fail on the same error again."""
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
