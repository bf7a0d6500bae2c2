"""What a search shows on a terminal: hits as a table, groups with bars, and the conversation's screen."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any, BinaryIO

from rich.text import Text

from memstore.cli.destination import whole_file
from memstore.cli.exit_codes import OK
from memstore.cli.output import Output
from memstore.cli.render import print_rich, print_rows
from memstore.errors import UsageError
from memstore.explore.asking import LIMIT_DEFAULT, Asking, Pages
from memstore.explore.completion import Vocabulary
from memstore.explore.conversation import Conversation, Place
from memstore.explore.facets_view import facet_lines
from memstore.explore.history import history_path, prepared
from memstore.explore.hits_view import Look, hit_lines, summary
from memstore.explore.prompt import ReadLine, plain_prompt, rich_prompt
from memstore.explore.session import FACETS
from memstore.store import MemStore

_LINES_BESIDE_HITS = 18
"""Of a screen: histogram, facets, what was typed, what is said, the prompt and the room below it."""
_LINES_OF_HIT = 3
_SIZES = (3, 20)
_BAR_CHARS = 30
_BLOCKS = " ▏▎▍▌▋▊▉█"


def look_of(out: Output) -> Look:
    """How to draw on an output."""
    return Look(out.width_chars, styled=out.is_terminal and os.environ.get("TERM") != "dumb", is_unicode=out.is_unicode)


def print_hits(out: Output, pages: Pages, asking: Asking, *, everything: bool) -> None:
    """A table of hits, page by page; facets and how many there are behind it."""
    look, first = look_of(out), 1
    for page in pages.pages():
        print_rich(out, *hit_lines(page.hits, look, first=first, header=first == 1 and bool(page.hits)))
        out.flush()
        first += len(page)
    result = pages.first
    if result is None:
        return
    lines, _ = facet_lines(result.facets, look, numbered=False)
    shown = replace(result, hits=result.hits if first > 1 else ())
    said = summary(shown, first=1, sort=asking.sort).replace(f"1-{len(result):,} of", f"1-{first - 1:,} of", 1)
    more = f"\nthe next: --cursor {pages.cursor}" if pages.cursor is not None and not everything else ""
    print_rich(out, *lines, *([Text(said, style="dim")] if not more else [Text(said, style="dim"), more.strip()]))
    out.flush()


def print_groups(out: Output, columns: list[str], rows: list[dict[str, Any]], total: int, seconds: float) -> None:
    """Groups as a table, and how many there are."""
    _group_table(out, columns, rows)
    groups = f"{len(rows):,} group{'' if len(rows) == 1 else 's'} of {total:,} records"
    print_rich(out, Text(f"{groups}, in {seconds * 1000:.0f} ms", style="dim"))
    out.flush()


def _group_table(out: Output, columns: list[str], rows: list[dict[str, Any]]) -> None:
    """Groups, with a bar beside each where there is room for one."""
    if rows and "time" in rows[0]:
        rows = [{**row, "time": each} for row, each in zip(rows, _times([row["time"] for row in rows]), strict=True)]
    top = max((row["count"] for row in rows), default=0)
    needed = sum(max(len(name), *(len(str(row[name])) for row in rows)) + 2 for name in columns) if rows else 0
    if rows and out.is_unicode and needed + 10 <= out.width_chars:
        room = min(out.width_chars - needed, _BAR_CHARS)
        rows = [{**row, "": _bar(row["count"], top, room)} for row in rows]
        columns = [*columns, ""]
    if rows:
        print_rows(out, columns, rows)


def _times(texts: list[str]) -> list[str]:
    """Times as exactly as they differ: days, or seconds."""
    days = all(text.endswith("T00:00:00.000000Z") for text in texts)
    return [text[:10] if days else text[:19].replace("T", " ") for text in texts]


def _bar(count: int, top: int, room: int) -> str:
    eighths = max(round(count / top * room * 8), 1)
    return "█" * (eighths // 8) + _BLOCKS[eighths % 8].strip()


class TerminalScreen:
    """Standard output as a conversation's screen. The terminal may be resized between two drawings."""

    def show(self, *drawn: Any) -> None:
        """Draw lines."""
        out = Output("table")
        print_rich(out, *drawn)
        out.flush()

    def look(self) -> Look:
        """As the terminal is now."""
        return look_of(Output("table"))

    def height(self) -> int:
        """Lines of the terminal."""
        return shutil.get_terminal_size().lines

    def rows(self, columns: list[str], rows: list[dict[str, Any]]) -> None:
        """Draw a table of groups."""
        _group_table(Output("table"), columns, rows)

    def file(self, path: str) -> AbstractContextManager[BinaryIO]:
        """A new file; one that is there stays."""
        place = os.path.expanduser(path)
        if os.path.isfile(place):
            raise UsageError(f"{path} is there already: choose another name")
        return whole_file(place, force=False)


def converse(args: argparse.Namespace, store: MemStore, asking: Asking) -> int:
    """A conversation on the terminal, until /quit or Ctrl-D."""
    screen = TerminalScreen()
    size = asking.limit if args.limit is not None else _fitting(screen.height())
    asking = replace(asking, limit=min(size, 200) or LIMIT_DEFAULT, facets=asking.facets or FACETS)
    talk = Conversation(store, screen, Place(store.root, args.config), asking)
    print_rich(Output("table"), Text(f"{store.root}: type what to look for, or /help", style="dim"))
    talk.run(_prompt(talk, screen), ask_first=bool(asking.query or asking.filters))
    return OK


def _fitting(height: int) -> int:
    """Hits that a screen has room for beside all else."""
    return max(_SIZES[0], min((height - _LINES_BESIDE_HITS) // _LINES_OF_HIT, _SIZES[1]))


def _prompt(talk: Conversation, screen: TerminalScreen) -> ReadLine:
    def known() -> Vocabulary:
        return talk.vocabulary

    path = history_path(os.environ)
    try:
        return rich_prompt(history=path if prepared(path) else None, known=known, toolbar=talk.toolbar)
    except ImportError:
        missing = "completion and history need prompt_toolkit, which is not installed: pip install 'memstore[tool]'"
        screen.show(Text(missing, style="dim"))
        sys.stdout.flush()
        return plain_prompt()
