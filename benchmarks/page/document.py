"""What a page is made of, whatever it is written as. Text may have `code` in backticks and nothing else."""

from __future__ import annotations

from dataclasses import dataclass, field

from benchmarks.page.chart import Chart


@dataclass(frozen=True, slots=True)
class Heading:
    """Starts a part."""

    text: str
    level: int = 2


@dataclass(frozen=True, slots=True)
class Text:
    """A paragraph."""

    text: str


@dataclass(frozen=True, slots=True)
class Command:
    """Lines for a shell."""

    lines: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Items:
    """A list."""

    items: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of cells; all columns but the first few are figures.

    Attributes:
        header: of the columns.
        rows: as many cells each.
        words: so many columns from the left are words, and so is the last one where ``last_words``.
        last_words: see there.
    """

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...] = field(default=())
    words: int = 1
    last_words: bool = False

    def is_words(self, column: int) -> bool:
        """Whether a column reads from the left."""
        return column < self.words or (self.last_words and column == len(self.header) - 1)


Block = Heading | Text | Command | Items | Table | Chart
