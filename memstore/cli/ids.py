"""Memory ids as they are given on the command line, and in files."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable

import orjson

from memstore.errors import UsageError
from memstore.ids import parse_id


def checked_ids(ids: Iterable[str]) -> list[str]:
    """The ids without repeats, in order: a misspelt one is told before anything is done.

    Raises:
        UsageError: one is no id.
    """
    found = list(dict.fromkeys(ids))
    for memory_id in found:
        parse_id(memory_id)
    return found


def ids_from(source: str) -> list[str]:
    """The ids of a file, one a line; a line may also be a whole record, as `range` prints them.

    Args:
        source: a path, or ``-`` for standard input.

    Raises:
        UsageError: a line is neither, or there is none.
        OSError: the file cannot be read.
    """
    if source == "-":
        lines = sys.stdin.buffer.readlines()
    else:
        with open(source, "rb") as file:
            lines = file.readlines()
    ids = [_id_of(line.strip(), number, source) for number, line in enumerate(lines, 1) if line.strip()]
    if not ids:
        raise UsageError(f"{source} names no memory id: one a line is expected, or records as NDJSON")
    return checked_ids(ids)


def _id_of(line: bytes, number: int, source: str) -> str:
    try:
        found = orjson.loads(line)["memory_id"] if line.startswith(b"{") else line.decode()
    except (ValueError, KeyError) as error:
        raise UsageError(f"{source}, line {number}: no memory id, and no record that has one") from error
    if not isinstance(found, str):
        raise UsageError(f"{source}, line {number}: memory_id is no text")
    return found


def add_ids(parser: argparse.ArgumentParser, *, nargs: str) -> None:
    """The positional ids."""
    parser.add_argument("memory_ids", nargs=nargs, metavar="ID", help="a memory id")
