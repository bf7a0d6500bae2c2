"""What is typed at the prompt, as a command. Pure; anything at all can be typed."""

from __future__ import annotations

import re
from dataclasses import dataclass

from memstore.nearest import nearest_name

ASK = "ask"
NOTHING = "nothing"
UNCLEAR = "unclear"


@dataclass(frozen=True, slots=True)
class Typed:
    """A command and what stands behind it; ``ask`` with the query text, ``unclear`` with what to say."""

    name: str
    argument: str = ""


@dataclass(frozen=True, slots=True)
class CommandHelp:
    """One command as ``/help`` tells it; the order decides what an abbreviation means."""

    argument: str
    meaning: str


COMMANDS: dict[str, CommandHelp] = {
    "next": CommandHelp("", "the next page (or just Enter)"),
    "previous": CommandHelp("", "the page before"),
    "open": CommandHelp("N", "one record in full, by number (#3), label (p, c1, b1, a1, s1) or memory id"),
    "narrow": CommandHelp("N", "only records with this value of a facet (or just its number)"),
    "undo": CommandHelp("", "take back the last change of the question"),
    "clear": CommandHelp("", "begin anew, without filters"),
    "list": CommandHelp("", "the hits of this page again"),
    "agent": CommandHelp("ID ...", "of these agents, * and ? allowed; without a value: of all"),
    "type": CommandHelp("TYPE ...", "of these types"),
    "importance": CommandHelp("I ...", "of these importances"),
    "min-importance": CommandHelp("I", "at least this importance"),
    "tag": CommandHelp("TAG ...", "with any of these tags"),
    "session": CommandHelp("ID", "of this session"),
    "since": CommandHelp("TIME", "from here on: 2025-01-15, 7d, 12h"),
    "until": CommandHelp("TIME", "up to here"),
    "success": CommandHelp("yes|no", "whether the response was one"),
    "sort": CommandHelp("ORDER", "relevance, newest or oldest"),
    "size": CommandHelp("N", "hits on a page"),
    "facets": CommandHelp("F ...", "fields whose values are counted: type agent importance tag user context.KEY"),
    "histogram": CommandHelp("", "hits over time, as large as the screen allows"),
    "by": CommandHelp("F ... [p99(ms) ...] [day]", "count in groups, with figures, by time"),
    "similar": CommandHelp("N", "records that share the telling words of a hit"),
    "follow": CommandHelp("", "show new matches as they are appended, until Ctrl-C"),
    "save": CommandHelp("FILE [N]", "the hits to a file: .ndjson .json .csv .parquet .html (N of them; else all)"),
    "python": CommandHelp("", "the Python that gives the same"),
    "command": CommandHelp("", "the command line that gives the same"),
    "help": CommandHelp("", "this, and how to ask"),
    "quit": CommandHelp("", "leave (or Ctrl-D)"),
}
_ALSO = {"prev": "previous", "exit": "quit", "?": "help", "back": "list", "n": "next", "p": "previous", "size": "size"}
_COMMAND = re.compile(r"/(\S*)\s*(.*)", re.DOTALL)
_NUMBER = re.compile(r"\d{1,6}")
_HIT = re.compile(r"#\s*(\w+)")


def parse_typed(text: str, *, choices: int = 0) -> Typed:
    """What is meant.

    Args:
        text: as it was typed.
        choices: how many values of facets are shown, which their numbers stand for.
    """
    stripped = text.strip()
    if not stripped:
        return Typed(NOTHING)
    if hit := _HIT.fullmatch(stripped):
        return Typed("open", hit[1])
    if _NUMBER.fullmatch(stripped) and 1 <= int(stripped) <= choices:
        return Typed("narrow", stripped)
    command = _COMMAND.fullmatch(stripped)
    if command is None:
        return Typed(ASK, stripped)
    name = _command_name(command[1].lower())
    if name is None:
        near = nearest_name(command[1].lower(), COMMANDS)
        hint = f", did you mean /{near}?" if near else ";"
        return Typed(
            UNCLEAR, f"there is no command /{command[1]}{hint} /help lists them; a path to search for is put in quotes"
        )
    return Typed(name, command[2].strip())


def _command_name(given: str) -> str | None:
    """A command by its name, another name, or its beginning; the first one listed wins."""
    if given in COMMANDS:
        return given
    if given in _ALSO:
        return _ALSO[given]
    return next((name for name in COMMANDS if given and name.startswith(given)), None)
