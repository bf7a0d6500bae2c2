"""``memstore erase``: remove records from every file, now, and print the receipt."""

from __future__ import annotations

import argparse
import os
import sys
from typing import Any

import msgspec

from memstore.cli.arguments import add_command
from memstore.cli.exit_codes import NOTHING_FOUND, OK
from memstore.cli.ids import checked_ids, ids_from
from memstore.cli.opening import note, open_for_writing
from memstore.cli.output import Output
from memstore.cli.progress import progress_bar
from memstore.cli.render import print_document
from memstore.errors import LockedError, UsageError
from memstore.legible import safe_text
from memstore.lifecycle.receipt import Receipt
from memstore.store import MemStore

_DESCRIPTION = """\
Erase records: every file that holds one is rewritten or removed now, and a scan proves that no line of them is left.
Nothing brings them back. The receipt says what, when, and how it was verified, and what is still pending and why."""


def add_parser(commands: Any) -> None:
    """Declare the command."""
    parser = add_command(commands, "erase", run, "remove records for good, and prove it", description=_DESCRIPTION)
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--agent", metavar="ID", help="everything of this agent")
    which.add_argument("--ids", nargs="+", metavar="ID", help="these records")
    which.add_argument(
        "--ids-from", metavar="FILE", help="the records of a file: one id a line, or NDJSON; - is standard input"
    )
    parser.add_argument("--yes", action="store_true", help="do not ask")
    parser.add_argument("--receipt", metavar="FILE", help="write the receipt there, too, as JSON")


def run(args: argparse.Namespace) -> int:
    """Erase and print the receipt; 1 if one of the ids is not there.

    Raises:
        LockedError: something is left that another process holds; the receipt names it.
    """
    ids = None if args.agent is not None else ids_from(args.ids_from) if args.ids_from else checked_ids(args.ids)
    if args.receipt is not None:
        _check_place(args.receipt)
    with open_for_writing(args, create=False) as store:
        if not args.yes:
            _confirm(store, args.agent, ids)
        with progress_bar("erasing") as report:
            receipt = store.erase(agent=args.agent, ids=ids, progress=report)
    try:
        if args.receipt is not None:
            _write(args.receipt, receipt)
    finally:  # the records are gone by now: then it is printed at least
        print_document(Output.of(args), receipt.as_dict())
    for memory_id in receipt.not_found:
        note(f"{memory_id} is not in this store")
    if receipt.pending:
        first = receipt.pending[0]
        raise LockedError(
            f"{len(receipt.pending)} place(s) could not be cleaned or looked at, first {first.where}: {first.why}; "
            "erase again when that is over"
        )
    note("erased, and proved by a scan of every file")
    for each in receipt.backups:
        note(f"pending in backups at {each.where}: {each.why}")
    return NOTHING_FOUND if receipt.not_found else OK


def _write(path: str, receipt: Receipt) -> None:
    with open(path, "xb") as file:
        file.write(msgspec.json.format(msgspec.json.encode(receipt.as_dict())) + b"\n")
        file.flush()
        os.fsync(file.fileno())


def _check_place(path: str) -> None:
    """A receipt that cannot be written is told before anything is gone."""
    if os.path.lexists(path):
        raise UsageError(f"{path} is there already; name a new file for the receipt")
    if not os.access(os.path.dirname(os.path.abspath(path)), os.W_OK):
        raise UsageError(f"{path}: no receipt can be written there; name another place")


def _confirm(store: MemStore, agent: str | None, ids: list[str] | None) -> None:
    """Ask a person.

    Raises:
        UsageError: nobody is there to ask, or the answer is no.
    """
    if not _is_somebody_there():
        raise UsageError("erasing cannot be taken back: pass --yes to do it without being asked; nothing was changed")
    if agent is not None:
        what = f"all {store.agent(agent).count():,} records of agent {agent}"
    else:
        what = f"{len(ids or ()):,} record(s)"
    if _ask(what).strip().lower() != "yes":
        raise UsageError("not erased: the answer was not yes; nothing was changed")


def _is_somebody_there() -> bool:
    return sys.stdin.isatty() and sys.stderr.isatty()


def _ask(what: str) -> str:
    print(f"memstore: erase {safe_text(what)} for good? Type yes: ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline()
