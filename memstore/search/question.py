"""What somebody asks, as a tree of values; knows no index. `memstore.search.query` makes it of text."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Words:
    """Text that must occur as it is: one word, or several behind one another.

    Attributes:
        text: as it was typed.
        slop: how many other words may stand between.
        prefix: whether the last word may go on.
        quoted: whether it was put in quotes, so that stop words in it count.
    """

    text: str
    slop: int = 0
    prefix: bool = False
    quoted: bool = False


@dataclass(frozen=True, slots=True)
class Fuzzy:
    """One word, up to ``distance`` letters wrong (1 or 2)."""

    text: str
    distance: int


@dataclass(frozen=True, slots=True)
class FieldIs:
    """An identifier has one of these values.

    Attributes:
        field: an indexed field, or ``ctx.KEY``.
        values: any of them; ``*`` and ``?`` stand for any letters and any one.
        exact: whether case counts and ``*`` is a star.
    """

    field: str
    values: tuple[str, ...]
    exact: bool = False


@dataclass(frozen=True, slots=True)
class FlagIs:
    """``success`` is true or false."""

    field: str
    value: bool


@dataclass(frozen=True, slots=True)
class NumberIn:
    """A number lies between two others; None is no bound."""

    field: str
    low: float | None = None
    high: float | None = None
    include_low: bool = True
    include_high: bool = True


@dataclass(frozen=True, slots=True)
class TimeIn:
    """The record's time, microseconds, ``until_us`` exclusive."""

    since_us: int
    until_us: int


@dataclass(frozen=True, slots=True)
class IdIs:
    """One record, by its memory id."""

    memory_id: str


@dataclass(frozen=True, slots=True)
class Exists:
    """A field has a value."""

    field: str


@dataclass(frozen=True, slots=True)
class Everything:
    """Any record."""


@dataclass(frozen=True, slots=True)
class Boosted:
    """Counts so many times as much for relevance."""

    node: Node
    factor: float


@dataclass(frozen=True, slots=True)
class Group:
    """All of ``must``, none of ``must_not``, and one of ``should`` at least where there is no ``must`` that is text."""

    must: tuple[Node, ...] = ()
    should: tuple[Node, ...] = ()
    must_not: tuple[Node, ...] = ()


Node = Words | Fuzzy | FieldIs | FlagIs | NumberIn | TimeIn | IdIs | Exists | Everything | Boosted | Group


@dataclass(frozen=True, slots=True)
class Question:
    """A parsed query text.

    Attributes:
        node: what is asked; None where the text says nothing, so that filters decide alone.
        hints: what was not understood, and how it was taken.
    """

    node: Node | None
    hints: tuple[str, ...] = ()


def is_scored(node: Node | None) -> bool:
    """Whether records that match can be told apart by relevance."""
    match node:
        case Words() | Fuzzy():
            return True
        case Boosted(below, _):
            return is_scored(below)
        case Group(must, should, _):
            return any(map(is_scored, (*must, *should)))
        case _:
            return False


def text_nodes(node: Node | None) -> list[Words | Fuzzy]:
    """What text is asked for (not what is asked not to be there), for highlights."""
    match node:
        case Words() | Fuzzy():
            return [node]
        case Boosted(below, _):
            return text_nodes(below)
        case Group(must, should, _):
            return [found for below in (*must, *should) for found in text_nodes(below)]
        case _:
            return []
