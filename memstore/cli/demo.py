"""``memstore demo``: a store of made-up memories, written by several processes, read back, checked and summed up."""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import os
import shlex
import shutil
import signal
import tempfile
import threading
from collections.abc import Iterator
from typing import Any

from memstore.cli.arguments import add_command, positive
from memstore.cli.opening import note
from memstore.cli.output import Output
from memstore.cli.progress import progress_bar
from memstore.cli.render import print_document
from memstore.clock import WallClock
from memstore.errors import UsageError

_DESCRIPTION = """\
Write made-up but realistic agent memories with several processes, read them back, check every count, let the lifecycle
pack what is old, check again, and sum up speed and size of all three tiers. The store lies in a temporary directory
that is removed at the end, unless --keep or --root says otherwise. MEMSTORE_ROOT is not looked at: a demo never writes
into a store that is in use."""


def add_parser(commands: Any) -> None:
    """Declare the command."""
    parser = add_command(
        commands, "demo", run, "see it work: write, read back and check 50,000 memories", description=_DESCRIPTION
    )
    parser.add_argument("--agents", type=positive, default=100, metavar="N", help="default: 100")
    parser.add_argument(
        "--days", type=positive, default=90, metavar="N", help="spread over so many days before now; default: 90"
    )
    parser.add_argument("--records", type=positive, default=50_000, metavar="N", help="default: 50000, about 250 MB")
    parser.add_argument("--processes", type=positive, default=3, metavar="N", help="writer processes; default: 3")
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="same seed, same memories; default: 1")
    parser.add_argument("--keep", action="store_true", help="keep the temporary directory")


def run(args: argparse.Namespace) -> int:
    """Write, read back, sum up."""
    if args.records < args.agents:
        raise UsageError(f"--records {args.records} is less than one for each of --agents {args.agents}")
    out = Output.of(args)
    root = args.root
    if root is None:
        directory = tempfile.mkdtemp(prefix="memstore-demo-")
        try:
            _demo(args, os.path.join(directory, "store"), out, kept=args.keep)
        except KeyboardInterrupt:
            raise KeyboardInterrupt(f"interrupted; {directory} is {'kept' if args.keep else 'removed'}") from None
        finally:
            if not args.keep:
                with _uninterrupted():
                    shutil.rmtree(directory, ignore_errors=True)
        return 0
    with _own_directory(root):
        _demo(args, root, out, kept=True)
    return 0


@contextlib.contextmanager
def _own_directory(root: str) -> Iterator[None]:
    """A new or empty directory, held against a second demo until the end.

    Raises:
        UsageError: it holds something, or another demo has it.
    """
    try:
        os.makedirs(root, exist_ok=True)
        directory = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except (FileExistsError, NotADirectoryError) as error:
        raise UsageError(f"{root} is a file; name a new directory") from error
    try:
        try:
            fcntl.flock(directory, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UsageError(f"another demo is writing to {root}; name another directory") from error
        if os.listdir(directory):
            raise UsageError(
                f"{root} is there already: a demo starts from nothing; name another directory or remove this one"
            )
        yield
    finally:
        os.close(directory)


@contextlib.contextmanager
def _uninterrupted() -> Iterator[None]:
    """Ctrl-C waits for the clearing up."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)


def _demo(args: argparse.Namespace, root: str, out: Output, *, kept: bool) -> None:
    # Only here: starting processes and drawing tables take time to import.
    from memstore.cli.demo_summary import print_summary, summary
    from memstore.demo.fleet import write_with_processes
    from memstore.demo.generator import Plan
    from memstore.demo.survey import survey

    plan = Plan(seed=args.seed, agents=args.agents, records=args.records, days=args.days, now_us=WallClock().now_us())
    durability = args.durability or "fsync"
    note(f"writing {plan.records:,} memories of {plan.agents:,} agents with {args.processes} processes to {root}")
    with progress_bar("writing") as report:
        reports = write_with_processes(root, plan, processes=args.processes, durability=durability, progress=report)
    note("merging, reading back and checking every record, packing what is old, checking again")
    with progress_bar("reading") as report:
        findings = survey(root, plan, reports, progress=report)
    found = summary(plan, reports, findings, root=root, durability=durability)
    if args.output in ("json", "ndjson"):
        print_document(out, found)
    else:
        print_summary(out, found, command=f"memstore --root {shlex.quote(root)}" if kept else None)
    out.flush()
