"""Flags that several commands share, and what they mean to the store.

Global flags are accepted before and after the command: the command's own copy has no default (``SUPPRESS``), so that it
only overrides what stands before it when it is really given.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NoReturn

from memstore.errors import InvalidRecordError, UsageError
from memstore.nearest import nearest_name
from memstore.record import Importance, MemoryType

FORMATS = ("table", "json", "ndjson", "csv")
DURABILITIES = ("fsync", "os")
Run = Callable[[argparse.Namespace], int]


class Parser(argparse.ArgumentParser):
    """An argument parser whose mistakes are a `UsageError`; refuses abbreviated flags: a new flag would change them."""

    def __init__(self, **options: Any) -> None:
        options.setdefault("allow_abbrev", False)
        super().__init__(**options)
        self._given: list[str] = []

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As argparse does, but the parser that met an unknown argument is the one that refuses it.

        Raises:
            UsageError: an argument is unknown, wrong or missing.
        """
        self._given = sys.argv[1:] if args is None else list(args)
        found, unknown = super().parse_known_args(self._given, namespace)
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}")
        return found, unknown

    def error(self, message: str) -> NoReturn:
        """Say what is wrong and where help is; a misspelt option is told before what it made argparse miss.

        Raises:
            UsageError: always.
        """
        said = self._unknown_option() or message + self._dash_hint(message)
        raise UsageError(f"{said}; `{self.prog} --help` shows what there is")

    def print_help(self, file: Any = None) -> None:
        """As argparse does, but for an error of the output, which it keeps to itself.

        Raises:
            OSError: it cannot be written.
        """
        output = sys.stdout if file is None else file
        output.write(self.format_help())
        output.flush()

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        """As argparse does, in words: with the nearest choice, and without the repr of enums."""
        if action.choices is None or value in action.choices:
            return
        names = [str(choice) for choice in action.choices]
        hint = did_you_mean(str(value), names)
        raise argparse.ArgumentError(action, f"{value!r} is unknown{hint or '; it is one of ' + ', '.join(names)}")

    def _unknown_option(self) -> str | None:
        known = self._option_string_actions
        has_commands = any(isinstance(action.choices, dict) for action in self._actions)
        given = iter(self._given)
        for argument in given:
            if argument == "--" or (has_commands and not argument.startswith("-")):
                break  # what follows a command is not for this parser
            name, equals, _ = argument.partition("=")
            if name in known and known[name].nargs is None and not equals:
                next(given, None)  # its value
            elif name.startswith("--") and " " not in argument and name not in known:
                return f"there is no option {name}{did_you_mean(name, known)}"
        return None

    def _dash_hint(self, message: str) -> str:
        """``--since -7d`` looks like two options to argparse."""
        options = re.match(r"argument (\S+): expected one argument", message)
        if options is None:
            return ""
        for name in options[1].split("/"):
            for argument, value in zip(self._given, self._given[1:], strict=False):
                if argument == name and value.startswith("-"):
                    return f"; a value that begins with a dash is written {name}={value}"
        return ""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """``; did you mean X?``, or nothing where nothing is near."""
    near = nearest_name(name, known)
    return f"; did you mean {near}?" if near else ""


def add_command(
    commands: Any,
    name: str,
    run: Run,
    summary: str,
    *,
    description: str | None = None,
    formats: Sequence[str] = FORMATS,
) -> Parser:
    """A command's parser, with the global flags, under ``commands`` (what ``add_subparsers`` returned)."""
    parser: Parser = commands.add_parser(
        name,
        help=summary,
        description=description or f"{summary[0].upper()}{summary[1:]}.",
        formatter_class=HELP_FORMAT,
    )
    add_globals(parser, default=argparse.SUPPRESS, formats=formats)
    parser.set_defaults(run=run)
    return parser


HELP_FORMAT = argparse.RawDescriptionHelpFormatter


def add_globals(parser: argparse.ArgumentParser, *, default: str | None, formats: Sequence[str] = FORMATS) -> None:
    """The flags every command takes."""
    group = parser.add_argument_group("global options")
    group.add_argument("--root", metavar="DIR", default=default, help="the store's directory (default: $MEMSTORE_ROOT)")
    group.add_argument("--config", metavar="FILE", default=default, help="settings in TOML, YAML or JSON")
    group.add_argument(
        "-o", "--output", choices=formats, default=default, help="table on a terminal, ndjson into a pipe, unless given"
    )
    group.add_argument(
        "--durability",
        choices=DURABILITIES,
        default=default,
        help="fsync survives a power cut (default); os survives a killed process only",
    )
    group.add_argument(
        "--debug",
        action="store_true",
        default=False if default is None else default,
        help="show the traceback of an error",
    )


def add_filters(parser: argparse.ArgumentParser) -> None:
    """The flags that choose records."""
    group = parser.add_argument_group("which records")
    group.add_argument(
        "--since", metavar="TIME", help="from here on: 2025-01-15, 2025-01-15T14:30:00Z, or an age: 7d, 12h, 15min"
    )
    group.add_argument("--until", metavar="TIME", help="up to here, exclusive")
    group.add_argument(
        "--type", dest="memory_type", action="append", type=str.upper, choices=[*MemoryType], help="repeat for several"
    )
    group.add_argument(
        "--importance", action="append", type=str.upper, choices=[*Importance], help="exactly; repeat for several"
    )
    group.add_argument("--min-importance", type=str.upper, choices=[*Importance], help="at least")
    group.add_argument("--tag", dest="tags", action="append", metavar="TAG", help="any of these; repeat for several")
    group.add_argument("--all-tags", action="store_true", help="all of the given tags, not any")
    group.add_argument("--session", metavar="ID", help="context.session_id is this")
    add_context(group, "the context has this value")


def add_context(group: Any, summary: str) -> None:
    """``--context KEY=VALUE`` or ``KEY:=JSON``."""
    group.add_argument(
        "--context",
        action="append",
        metavar="KEY=VALUE",
        help=f"{summary}; KEY:=JSON for what is no text; repeat for several",
    )


def filters(args: argparse.Namespace) -> dict[str, Any]:
    """What ``add_filters`` read, as the store's keyword arguments; absent flags are left out."""
    found = {
        "since": args.since,
        "until": args.until,
        "memory_type": args.memory_type,
        "importance": args.importance,
        "min_importance": args.min_importance,
        "tags_all" if args.all_tags else "tags": args.tags,
        "session": args.session,
        "context": _context_filter(args.context) or None,
    }
    if args.all_tags and not args.tags:
        raise UsageError("--all-tags goes with --tag: name the tags")
    return {name: value for name, value in found.items() if value is not None}


def _context_filter(pairs: Sequence[str] | None) -> dict[str, Any]:
    try:
        return context_pairs(pairs)
    except InvalidRecordError as error:  # there is no record: the command is wrong
        raise UsageError(str(error)) from error


def context_pairs(pairs: Sequence[str] | None, *, flag: str = "--context") -> dict[str, Any]:
    """``["a=b", "n:=3"]`` as ``{"a": "b", "n": 3}``.

    ``=`` is always text, so that ``user_id=007`` stays what it is; ``:=`` is JSON.

    Raises:
        UsageError: neither of the two.
        InvalidRecordError: what follows ``:=`` is no JSON.
    """
    found: dict[str, Any] = {}
    for pair in pairs or ():
        key, equals, value = pair.partition("=")
        if not equals or not key.removesuffix(":"):
            raise UsageError(f"{flag} {pair!r} is not KEY=VALUE (text) or KEY:=JSON")
        if key.endswith(":"):
            found[key[:-1]] = json_value(value, f"{flag} {key[:-1]}")
        else:
            found[key] = value
    return found


def json_value(text: str, flag: str) -> Any:
    """The JSON of a flag.

    Raises:
        InvalidRecordError: it is none.
    """
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        quoted = json.dumps(text[:40], ensure_ascii=False)
        hint = "" if text.lstrip()[:1] in ("{", "[", '"') else f"; text is written with quotes: '{quoted}'"
        raise InvalidRecordError(f"{flag} is not JSON ({error}){hint}") from error


def positive(text: str) -> int:
    """A count of at least 1.

    Raises:
        ArgumentTypeError: none.
    """
    try:
        value = int(text)
    except ValueError:
        value = 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of at least 1")
    return value
