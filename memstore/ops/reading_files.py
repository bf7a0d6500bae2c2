"""What the checkers of all kinds of files share: being told of what is read, and what they give back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from memstore.ops.finding import Finding

OnBytes = Callable[[int], None]
"""Told of every read, before its bytes are judged. May wait (a rate limit), and may raise `StoppedError`."""

OnFile = Callable[[str, bool], None]
"""Told of each file of an agent that was looked at, in order of names, and whether it and all before it are whole."""

ForgottenNow = Callable[[str], frozenset[str]]
"""Hashes of the ids of an agent that FORGOTTEN says are not to be seen, read anew."""


def nothing_forgotten(_agent: str) -> frozenset[str]:
    """Where nobody compares."""
    return frozenset()


class StoppedError(Exception):
    """The check was told to stop: what it has found so far stands."""


@dataclass(frozen=True, slots=True)
class IdRun:
    """Pieces whose lines are in order from the first to the last, so that no id stands in them twice.

    Attributes:
        pieces: in that order.
    """

    pieces: tuple[IdPiece, ...]


@dataclass(frozen=True, slots=True)
class IdPiece:
    """A whole piece of a file, and how to read its lines again.

    Attributes:
        path: the file.
        offset: where it begins.
        length: how long it is.
        records: how many lines it has.
        t_min: time of its first line.
        t_max: time of its last line.
        load: its lines, unpacked; FileNotFoundError if the file has moved.
        priority: where an id stands in two pieces, the one of the lower number is told first.
    """

    path: str
    offset: int
    length: int
    records: int
    t_min: int
    t_max: int
    load: Callable[[], bytes]
    priority: int = 0


@dataclass(slots=True)
class FileResult:
    """What one file turned out to be.

    Attributes:
        findings: what is wrong with it.
        records: whole lines in it.
        runs: its whole pieces, for those who look for ids that stand in several files.
    """

    findings: list[Finding] = field(default_factory=list)
    records: int = 0
    runs: list[IdRun] = field(default_factory=list)
