"""``memstore replica``: the second copy: its state; add one, remove it, bring it up to date, make it the store."""

from __future__ import annotations

import argparse
import os
from typing import Any

from memstore.cli.arguments import add_command
from memstore.cli.opening import note, open_for_reading, open_for_writing, root_of
from memstore.cli.output import Output
from memstore.cli.render import print_document
from memstore.fs.local import LocalStorage
from memstore.replica.setup import promote

_PROMOTE = """\
Make the second copy that --root names the store: for when the store itself is lost. Every process of the store must be
stopped. The old store is refused for writing from then on, wherever it sees this copy."""


def add_parser(commands: Any) -> None:
    """Declare the command."""
    replica = add_command(commands, "replica", run_status, "the second copy: its state; add, remove, sync, promote")
    kinds = replica.add_subparsers(metavar="ACTION", title="actions (without one: status)")
    add_command(kinds, "status", run_status, "say how the second copy is")
    add = add_command(kinds, "add", run_add, "give the store a second copy, written before every acknowledgement")
    add.add_argument("volume", metavar="DIR", help="a directory on another volume")
    add_command(kinds, "remove", run_remove, "write to the second copy no more; its files stay")
    add_command(kinds, "sync", run_sync, "bring the second copy up to date now")
    add_command(kinds, "promote", run_promote, "make the second copy the store", description=_PROMOTE)


def run_status(args: argparse.Namespace) -> int:
    """Print its state."""
    with open_for_reading(args) as store:
        found = store.replica_status()
    if found is None:
        note("the store has one copy; `memstore replica add DIR` gives it a second one")
    print_document(Output.of(args), found or {"state": "none"})
    return 0


def run_add(args: argparse.Namespace) -> int:
    """Add one; prints its state."""
    with open_for_writing(args, create=False) as store:
        found = store.add_replica(os.path.abspath(args.volume))
    print_document(Output.of(args), found)
    return 0


def run_remove(args: argparse.Namespace) -> int:
    """Take it out; prints where its files are."""
    with open_for_writing(args, create=False) as store:
        path = store.remove_replica()
    print_document(Output.of(args), {"removed": path})
    return 0


def run_sync(args: argparse.Namespace) -> int:
    """Bring it up to date; prints its state."""
    with open_for_writing(args, create=False) as store:
        found = store.sync_replica()
    print_document(Output.of(args), found or {"state": "none"})
    return 0


def run_promote(args: argparse.Namespace) -> int:
    """Make the copy the store; prints its root."""
    root = os.path.abspath(root_of(args))
    promote(LocalStorage(), root)
    print_document(Output.of(args), {"store": root})
    return 0
