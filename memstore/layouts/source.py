"""What a mapping starts from: one parsed source, and what the sources do not say themselves."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec

LINE_PREFIX = "line:"
"""A line of NDJSON has no path; in its place stand this and the hash of its text."""
Resolve = Callable[[str, str], str | None]
_SUFFIXES = (
    (".memory.json", "memory"),
    (".mem.json", "mem"),
    (".interaction.json", "pair"),
    (".response.json", "pair"),
    (".perf.json", "perf"),
    (".error.json", "error"),
    (".ndjson", "line"),
    (".jsonl", "line"),
)


class DamagedError(ValueError):
    """A source cannot become a record; its text is the reason. Never leaves the importers."""


class Source(msgspec.Struct, gc=False):
    """One parsed file or line.

    Attributes:
        path: relative to the tree's root, with ``/``; of a line `LINE_PREFIX` and its hash.
        value: its JSON object; an import lets go of it once the record is encoded.
        raw: its text, where ``value`` had to be changed to be storable; else None.
        size_bytes: as it was read.
        line: of a line, its bytes; of a file None, which can be read again.
    """

    path: str
    value: dict[str, Any]
    raw: str | None
    size_bytes: int
    line: bytes | None = None


@dataclass(frozen=True, slots=True)
class Hints:
    """What the sources do not say themselves.

    Attributes:
        tz: the zone of times without one.
        agent: whose a source is that names nobody, or None.
        root_is_tier: the tree's own root is a tier, so that its first directories are agents.
        resolve: a source's parent id and agent to the parent's memory id, or None where it is not known.
    """

    tz: dt.tzinfo = dt.UTC
    agent: str | None = None
    root_is_tier: bool = False
    resolve: Resolve | None = None


def layout_of(name: str) -> str | None:
    """The layout a file's name stands for, or None."""
    for suffix, layout in _SUFFIXES:
        if name.endswith(suffix):
            return layout
    return None
