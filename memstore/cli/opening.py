"""The store that the flags name, opened."""

from __future__ import annotations

import argparse
import os
import sys

from memstore.cli.render import safe_text
from memstore.errors import NotFoundError, UsageError
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


def _open(args: argparse.Namespace, *, read_only: bool, create: bool) -> MemStore:
    root = root_of(args)
    try:
        return MemStore(root, settings=args.config, durability=args.durability, read_only=read_only, create=create)
    except NotFoundError as error:
        raise NotFoundError(f"{root} holds no store; `append` and `import` make one, or name another --root") from error


def note(message: str) -> None:
    """One line for people, on standard error."""
    print(f"memstore: {safe_text(message)}", file=sys.stderr)
