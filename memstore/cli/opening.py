"""The store that the flags name, opened."""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import shlex
import sys
from collections.abc import Iterable, Iterator

from memstore.cli.arguments import did_you_mean
from memstore.errors import NotFoundError, UsageError
from memstore.legible import safe_text
from memstore.store import MemStore


def root_of(args: argparse.Namespace) -> str:
    """``--root``, else ``MEMSTORE_ROOT``.

    Raises:
        UsageError: neither is given.
    """
    root: str | None = args.root or os.environ.get("MEMSTORE_ROOT")
    if not root:
        raise UsageError("no store is named: pass --root DIR or set MEMSTORE_ROOT")
    return root


def open_for_reading(args: argparse.Namespace) -> MemStore:
    """The store, which must be there; nothing in it is changed.

    Raises:
        NotFoundError: there is no store.
    """
    return _open(args, read_only=True, create=False)


def open_for_writing(args: argparse.Namespace, *, create: bool) -> MemStore:
    """The store; with ``create`` it is made if it is not there."""
    return _open(args, read_only=False, create=create)


def open_for_searching(args: argparse.Namespace) -> MemStore:
    """The store, so that what a search lacks can be indexed; read-only where this user may not write to it.

    Raises:
        NotFoundError: there is no store.
    """
    root = root_of(args)
    if os.path.isdir(root) and not os.access(root, os.W_OK):
        note("the store is not writable for you: what is not indexed is scanned")
        return open_for_reading(args)
    return open_for_writing(args, create=False)


def _open(args: argparse.Namespace, *, read_only: bool, create: bool) -> MemStore:
    root = root_of(args)
    try:
        with notices_summed(args):
            return MemStore(root, settings=args.config, durability=args.durability, read_only=read_only, create=create)
    except NotFoundError as error:
        made = "" if os.path.isdir(root) and os.listdir(root) else "`append` and `import` make one, or "
        raise NotFoundError(f"{root} holds no store; {made}name another --root") from error


def note_unknown_agents(store: MemStore, agents: Iterable[str]) -> None:
    """Tell which of these the store does not have: nothing was found, and a misspelt name may be why."""
    known = store.agents()
    for agent_id in agents:
        if agent_id not in known:
            note(f"the store has no agent {agent_id!r}{did_you_mean(agent_id, known)}")


class NotesHandler(logging.Handler):
    """What the engine logs, as notes."""

    def emit(self, record: logging.LogRecord) -> None:
        """One line."""
        note(" ".join(record.getMessage().split()))


class _Collector(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())


@contextlib.contextmanager
def notices_summed(args: argparse.Namespace) -> Iterator[None]:
    """Settings without effect, which opening a store logs one by one, become one line; ``config show`` tells each."""
    log = logging.getLogger("memstore.store")
    collector = _Collector()
    log.addHandler(collector)
    propagate, log.propagate = log.propagate, False
    try:
        yield
    finally:
        log.removeHandler(collector)
        log.propagate = propagate
    if len(collector.messages) == 1:
        note(collector.messages[0])
    elif collector.messages:
        keys = ", ".join(message.partition(" ")[0] for message in collector.messages)
        command = "config show" if args.config is None else f"config show --config {shlex.quote(args.config)}"
        note(f"{len(collector.messages)} settings have no effect yet (`memstore {command}` says why): {keys}")


@contextlib.contextmanager
def without_log() -> Iterator[None]:
    """What the engine would log of damage, a check tells in its own words, once."""
    log = logging.getLogger("memstore")
    level = log.level
    log.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        log.setLevel(level)


def note(message: str) -> None:
    """One line for people, on standard error."""
    print(f"memstore: {safe_text(message)}", file=sys.stderr)
