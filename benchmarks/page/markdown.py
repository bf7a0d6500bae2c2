"""The page as Markdown; charts are left to the HTML."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from benchmarks.page.chart import Bars, Plots
from benchmarks.page.document import Block, Command, Heading, Items, Table, Text


def markdown(blocks: Sequence[Block]) -> str:
    """A whole document."""
    return "\n\n".join(part for block in blocks for part in _block(block)) + "\n"


def _block(block: Block) -> Iterator[str]:
    match block:
        case Heading(text, level):
            yield f"{'#' * level} {text}"
        case Text(text):
            yield text
        case Command(lines):
            yield "\n".join(["```console", *(f"$ {line}" for line in lines), "```"])
        case Items(items):
            yield "\n".join(f"- {item}" for item in items)
        case Table():
            yield "\n".join(_table(block))
        case Bars() | Plots():
            return


def _table(table: Table) -> Iterator[str]:
    yield _row(table.header)
    yield _row(["---" if table.is_words(column) else "---:" for column in range(len(table.header))])
    for row in table.rows:
        yield _row(row)


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
