"""The page as one HTML file: styles and charts are inside, nothing is fetched and nothing runs."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from html import escape

from benchmarks.page.chart import Bars, Plots
from benchmarks.page.document import Block, Command, Heading, Items, Table, Text

_STYLE = os.path.join(os.path.dirname(__file__), "style.css")
_MISSED = ("MISSED", "not flat", "memstore loses")


def html(blocks: Sequence[Block], *, title: str) -> str:
    """A whole document."""
    with open(_STYLE, encoding="utf-8") as file:
        style = file.read()
    body = "\n".join(part for block in blocks for part in _block(block))
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{escape(title)}</title>\n<style>\n{style}</style>\n</head>\n<body>\n{body}\n</body>\n</html>\n"
    )


def _block(block: Block) -> Iterator[str]:
    match block:
        case Heading(text, level):
            yield f"<h{level}>{_inline(text)}</h{level}>"
        case Text(text):
            yield f"<p>{_inline(text)}</p>"
        case Command(lines):
            yield "<pre>" + "\n".join(escape(f"$ {line}") for line in lines) + "</pre>"
        case Items(items):
            yield "<ul>" + "".join(f"<li>{_inline(item)}</li>" for item in items) + "</ul>"
        case Table():
            yield _table(block)
        case Bars():
            yield f"<figure><figcaption>{_inline(block.title)}</figcaption>{block.svg()}</figure>"
        case Plots():
            plots = "".join(line.svg() for line in block.lines)
            yield f'<figure><figcaption>{_inline(block.title)}</figcaption><div class="plots">{plots}</div></figure>'


def _table(table: Table) -> str:
    header = "".join(_cell("th", cell, words=table.is_words(column)) for column, cell in enumerate(table.header))
    rows = "".join(
        "<tr>" + "".join(_cell("td", cell, words=table.is_words(column)) for column, cell in enumerate(row)) + "</tr>"
        for row in table.rows
    )
    return f'<div class="wide"><table><thead><tr>{header}</tr></thead><tbody>{rows}</tbody></table></div>'


def _cell(kind: str, text: str, *, words: bool) -> str:
    classes = [name for name, is_so in (("words", words), ("missed", text in _MISSED)) if is_so]
    attribute = f' class="{" ".join(classes)}"' if classes else ""
    return f"<{kind}{attribute}>{_inline(text)}</{kind}>"


def _inline(text: str) -> str:
    """Escaped, with what stands in backticks as code."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text, quote=False))
