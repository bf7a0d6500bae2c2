"""``memstore search``, also ``tools/search.py``: the analysts' tool, once or as a conversation."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from memstore.cli.arguments import FORMATS, add_command, add_filters, filters
from memstore.cli.destination import whole_file
from memstore.cli.exit_codes import OK
from memstore.cli.opening import note, note_unknown_agents, open_for_searching, root_of
from memstore.cli.output import Output
from memstore.cli.progress import progress_bar
from memstore.errors import LockedError, ReadOnlyError, UsageError

if TYPE_CHECKING:
    from memstore.explore.asking import Asking, Pages
    from memstore.store import MemStore

_LIMIT_DEFAULT = 10
_FORMATS = (*FORMATS, "parquet", "html")
_DESCRIPTION = """\
Find records by what is in them, whatever tier they lie in, and what was appended a moment ago.

  memstore search "timeout AND market" --agent 'bdi_*' --since 7d --type ERROR --facets type,agent
  memstore search 'agent:planner (slow OR late) ms:>1000' --sort newest -n 50 -o csv
  memstore search --by type --metric 'p99(ms)' --interval day --since 30d
  memstore search "timeout" --to timeouts.html        page for people; .ndjson .json .csv .parquet too
  memstore search "error" --follow                    new matches as they are appended
  memstore search                                     on a terminal: interactive

Words are alternatives, the best matches first; AND OR NOT, "phrases", prefix*, word~1, field:value, ms:>1000,
after:7d. What cannot be parsed is searched as words, and a note says so. `memstore search --fields` lists them."""


def add_parser(commands: Any) -> None:
    """Declare the command."""
    parser = add_command(
        commands, "search", run, "find records by what is in them", description=_DESCRIPTION, formats=_FORMATS
    )
    parser.add_argument("query", nargs="?", metavar="QUERY", help="what to look for; none on a terminal: interactive")
    parser.add_argument(
        "--agent",
        dest="agents",
        action="append",
        metavar="ID",
        help="of this agent, * and ? allowed; repeat for several",
    )
    add_filters(parser)
    parser.add_argument("--success", choices=["yes", "no"], help="whether the response was one")
    group = parser.add_argument_group("what is printed")
    group.add_argument("--sort", choices=["relevance", "newest", "oldest"], default="relevance")
    group.add_argument(
        "-n",
        "--limit",
        type=count_or_all,
        metavar="N|all",
        help=f"how many hits (default: {_LIMIT_DEFAULT}; --to: all)",
    )
    group.add_argument("--cursor", metavar="TEXT", help="go on where a page ended, as the note behind it says")
    group.add_argument("--no-highlight", action="store_true", help="do not look for the passages in which words occur")
    group.add_argument(
        "--facets", type=names, metavar="F,F", help="count values: type,importance,agent,tag,session,..."
    )
    group.add_argument("--to", metavar="FILE", help="write to a new file; its ending says the format unless -o does")
    group.add_argument("--force", action="store_true", help="with --to: replace the file if it is there")
    group.add_argument("--python", action="store_true", help="print the Python that gives the same, and stop")
    group.add_argument("--fields", action="store_true", help="list the fields of the query language, and stop")
    group = parser.add_argument_group("instead of a list of hits")
    group.add_argument("-i", "--interactive", action="store_true", help="begin a conversation with this question")
    group.add_argument(
        "-f", "--follow", action="store_true", help="show new matches as they are appended, until Ctrl-C"
    )
    group.add_argument("--similar", metavar="ID", help="records that share this record's most telling words")
    group.add_argument("--by", type=names, metavar="F,F", help="count in groups of these fields")
    group.add_argument(
        "--metric", dest="metrics", action="extend", type=names, metavar="M",
        help="a figure of each group: avg(ms) p99(ms) sum(bytes) min max count; repeat for several",
    )  # fmt: skip
    group.add_argument("--interval", metavar="WIDTH", help="groups in time: hour, day, week, 15min, 6h")


def count_or_all(text: str) -> int:
    """A number, or ``all`` as -1.

    Raises:
        ArgumentTypeError: neither.
    """
    if text == "all":
        return _ALL
    if not text.isascii() or not text.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r} is neither a number nor all")
    return int(text)


_ALL = -1


def names(text: str) -> list[str]:
    """``type,agent`` as a list."""
    return [name for name in (part.strip() for part in text.split(",")) if name]


def run(args: argparse.Namespace) -> int:
    """Do what the flags ask for."""
    if args.fields:
        return _print_fields(args)
    _check(args)
    if args.python:
        return _print_python(args)
    if args.follow:
        from memstore.cli.search_follow import follow

        return follow(args, asking_of(args))
    if _is_interactive(args):
        from memstore.cli.search_screen import converse

        with open_for_searching(args) as store:
            prepare(store)
            return converse(args, store, asking_of(args))
    out = Output.of(args)
    form = _format(args, out)
    with open_for_searching(args) as store:
        prepare(store)
        if is_aggregate(args):
            return _aggregate(args, store, out, form)
        return _hits(args, store, out, form)


def is_aggregate(args: argparse.Namespace) -> bool:
    """Whether groups are asked for."""
    return bool(args.by or args.metrics or args.interval)


def _is_interactive(args: argparse.Namespace) -> bool:
    if args.interactive:
        if not (sys.stdin.isatty() and sys.stdout.isatty()):
            raise UsageError("a conversation needs a terminal; give a query and leave -i out")
        return True
    asked = args.query is not None or args.similar or is_aggregate(args) or args.cursor or args.to or args.output
    return not asked and sys.stdin.isatty() and sys.stdout.isatty()


def _check(args: argparse.Namespace) -> None:
    """Raises: UsageError: flags that mean nothing together."""
    modes = {
        "--similar": args.similar is not None,
        "--by (with --metric and --interval)": is_aggregate(args),
        "--follow": args.follow,
        "--interactive": args.interactive,
    }
    chosen = [name for name, given in modes.items() if given]
    if len(chosen) > 1:
        raise UsageError(f"these are different things: choose one of {'; '.join(chosen)}")
    useless = {
        "--cursor": args.cursor is not None,
        "--sort": args.sort != "relevance",
        "--facets": args.facets is not None,
        "--limit": args.limit is not None and not (args.similar or args.follow or args.interactive),
    }
    for name in (name for name, given in useless.items() if given and chosen and chosen != ["--interactive"]):
        raise UsageError(f"{name} has no effect with {chosen[0]}: leave one of them out")
    if args.similar is not None and args.query:
        raise UsageError("--similar takes no query: its words are those of the record")
    if args.force and args.to is None:
        raise UsageError("--force goes with --to: name the file")
    if args.limit == 0 and not args.follow:
        raise UsageError("--limit is 1 or more, or all")


def asking_of(args: argparse.Namespace) -> Asking:
    """The question that the flags ask."""
    from memstore.explore.asking import Asking

    limit = _LIMIT_DEFAULT if args.limit in (None, _ALL) else max(args.limit, 1)
    return Asking(
        args.query or "",
        filters_of(args),
        args.sort,
        limit,
        tuple(args.facets or ()),
        highlight=not args.no_highlight,
    )


def filters_of(args: argparse.Namespace) -> dict[str, Any]:
    """What must hold beside the text."""
    found = filters(args)
    if args.agents:
        found = {"agent": args.agents[0] if len(args.agents) == 1 else args.agents, **found}
    if args.success is not None:
        found["success"] = args.success == "yes"
    return found


def prepare(store: MemStore) -> None:
    """Where there is no index yet, make it now and show how far it is: the first search would wait for it unseen."""
    if not sys.stderr.isatty() or store.index_status()["ready"]:
        return
    with (
        progress_bar("building the search index, once") as report,
        contextlib.suppress(LockedError, ReadOnlyError),  # somebody else builds it; or nobody may
    ):
        store.index(progress=report)


# -- hits


def _hits(args: argparse.Namespace, store: MemStore, out: Output, form: str) -> int:
    from memstore.explore.asking import Answered, Walk
    from memstore.explore.files import About, write_hits

    asking = asking_of(args)
    pages: Pages
    if args.similar is not None:
        pages = Answered(store.similar(args.similar, limit=asking.limit, **asking.filters))
        about = About(f"like {args.similar}", asking.filters, lambda _: None)
    else:
        pages = Walk(store, asking, _limit(args), args.cursor)
        about = About.of(store, asking)
    if form == "table":
        from memstore.cli.search_screen import print_hits

        with _notes_of(pages):
            print_hits(out, pages, asking, everything=_limit(args) is None)
    else:
        with _notes_of(pages), _target(args, out) as write:
            written = write_hits(write, form, pages, about)
        if args.to is not None:
            note(f"{written.hits:,} of {written.total:,} records are in {args.to}")
        elif written.hits < written.total:
            more = f"; the next: --cursor {written.cursor}" if written.cursor else ""
            note(f"{written.hits:,} of {written.total:,} records{more}")
        if pages.ended_early:
            note("by relevance no more can be read; --sort newest or oldest has no end")
        if form not in ("json", "html") and pages.first is not None:
            _note_facets(pages.first.facets)
    if pages.first is not None and not pages.first.total and args.agents:
        note_unknown_agents(store, [agent for agent in args.agents if not set(agent) & set("*?")])
    return OK


def _limit(args: argparse.Namespace) -> int | None:
    if args.limit is None:
        return None if args.to is not None else _LIMIT_DEFAULT
    return None if args.limit == _ALL else int(args.limit)


@contextlib.contextmanager
def _notes_of(pages: Pages) -> Iterator[None]:
    """What was not understood, and what the index could not answer: behind the hits, on standard error."""
    yield
    if pages.first is not None:
        for said in (*pages.first.hints, *pages.first.notes):
            note(said)


def _note_facets(facets: dict[str, Any]) -> None:
    for name, counts in facets.items():
        note(f"{name}: {', '.join(f'{each.value} {each.count:,}' for each in counts) or 'none'}")


@contextlib.contextmanager
def _target(args: argparse.Namespace, out: Output) -> Iterator[Any]:
    """Where bytes go: a file that appears whole or not at all, or standard output."""
    if args.to is not None:
        with whole_file(args.to, force=args.force) as file:
            yield file.write
        return
    yield out.write_bytes
    out.flush()


def _format(args: argparse.Namespace, out: Output) -> str:
    """The format that ``-o``, the file's ending or the terminal asks for.

    Raises:
        UsageError: it cannot be had here.
    """
    form = out.format
    if args.to is not None and not out.chosen:
        from memstore.explore.files import format_of

        form = format_of(args.to)
    if args.to is not None and form == "table":
        raise UsageError("a table is for the screen: leave -o out, and the file's ending says the format")
    if form in ("parquet", "html") and is_aggregate(args):
        raise UsageError(f"groups are written as table, json, ndjson or csv, not as {form}")
    if form == "parquet" and args.to is None and out.is_terminal:
        raise UsageError("Parquet is not for the screen: name a file with --to")
    return form


# -- groups


def _aggregate(args: argparse.Namespace, store: MemStore, out: Output, form: str) -> int:
    from memstore.cli.render import print_rows

    found = store.aggregate(
        args.query or "", by=args.by or (), metrics=args.metrics or (), interval=args.interval, **filters_of(args)
    )
    rows = [row.as_dict() for row in found]
    columns = list(rows[0]) if rows else []
    if args.to is not None:
        with whole_file(args.to, force=args.force) as file:
            print_rows(out.into(file, form), columns, rows)
        note(f"{len(rows):,} groups of {found.total:,} records are in {args.to}")
    elif form == "table":
        from memstore.cli.search_screen import print_groups

        print_groups(out, columns, rows, found.total, found.seconds)
    else:
        print_rows(out, columns, rows)
    for said in (*found.hints, *found.notes):
        note(said)
    return OK


# -- about the question


def _print_python(args: argparse.Namespace) -> int:
    from memstore.explore.python_call import python_call

    root, asking = os.path.abspath(root_of(args)), asking_of(args)
    out = Output.of(args)
    method, first, given = "search", asking.query, asking.arguments()
    if args.similar is not None:
        method, first, given = "similar", args.similar, {**asking.filters, **_limit_argument(asking)}
    elif is_aggregate(args):
        figures = {"by": args.by, "metrics": args.metrics, "interval": args.interval}
        method, given = "aggregate", {**{name: value for name, value in figures.items() if value}, **asking.filters}
    elif args.cursor is not None:
        given["cursor"] = args.cursor
    out.write_text(python_call(root, method, first, given, settings=args.config) + "\n")
    out.flush()
    return OK


def _limit_argument(asking: Asking) -> dict[str, int]:
    return {} if asking.limit == _LIMIT_DEFAULT else {"limit": asking.limit}


def _print_fields(args: argparse.Namespace) -> int:
    from memstore.search.query import FIELDS_HELP

    out = Output.of(args)
    fields: Sequence[str] = FIELDS_HELP.split(", ")
    out.write_text("".join(f"{name}\n" for name in fields))
    out.flush()
    return OK
