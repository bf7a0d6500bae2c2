"""``memstore index``: how far the search index is, bring it up to date, build it anew."""

from __future__ import annotations

import argparse
import re
from typing import Any

from memstore.cli.arguments import add_command
from memstore.cli.exit_codes import INTERRUPTED, OK
from memstore.cli.opening import note, open_for_reading, open_for_writing
from memstore.cli.output import Output
from memstore.cli.progress import progress_bar
from memstore.cli.render import print_document, print_rich, print_rows, print_table
from memstore.cli.signals import StopSignals
from memstore.cli.sizes import size
from memstore.errors import UsageError

_MONTH = re.compile(r"(\d{4})-?(0[1-9]|1[0-2])")
_REBUILD = """\
Build the search index anew, all of it or some months (202501 or 2025-01), with a progress bar. Searches go on
meanwhile; what has to be built is scanned until it is. Can be stopped; `memstore index update` goes on from there."""


def add_parser(commands: Any) -> None:
    """Declare the command."""
    parent = add_command(commands, "index", run_none, "the search index: status, update, rebuild")
    kinds = parent.add_subparsers(metavar="WHAT", title="what")
    add_command(kinds, "status", run_status, "how much is indexed, and what is not yet")
    add_command(kinds, "update", run_update, "index what is not indexed yet; searches do so by themselves")
    parser = add_command(kinds, "rebuild", run_rebuild, "build it anew", description=_REBUILD)
    parser.add_argument("months", nargs="*", type=_month, metavar="MONTH", help="202501; none: all")


def _month(text: str) -> str:
    match = _MONTH.fullmatch(text)
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no month; it is written 202501 or 2025-01")
    return match[1] + match[2]


def run_none(_: argparse.Namespace) -> int:
    """Refuse: something is to be said of it.

    Raises:
        UsageError: always.
    """
    raise UsageError("what about the index? `memstore index status`, `update` or `rebuild`")


def run_status(args: argparse.Namespace) -> int:
    """Print how far it is."""
    with open_for_reading(args) as store:
        found = store.index_status()
    out = Output.of(args)
    stale = set(found["stale"])
    rows = [{**each, "stale": each["month"] in stale} for each in found["partitions"]]
    rows += [
        {"month": month, "records": None, "bytes": None, "stale": True, "lacks": None}
        for month in sorted(stale - {row["month"] for row in rows})
    ]
    if out.format == "csv":
        print_rows(out, ("month", "records", "bytes", "stale", "lacks"), rows)
        return OK
    if out.format != "table":
        print_document(out, found)
        return OK
    if rows:
        print_table(out, ("month", "records", "bytes", ""), [_cells(row) for row in sorted(rows, key=_by_month)])
    print_rich(out, *_sentences(found))
    out.flush()
    return OK


def _by_month(row: dict[str, Any]) -> str:
    return str(row["month"])


def _cells(row: dict[str, Any]) -> list[str]:
    month, records, size_bytes = row["month"], row["records"], row["bytes"]
    return [
        f"{month[:4]}-{month[4:]}",
        "" if records is None else f"{records:,}",
        "" if size_bytes is None else size(size_bytes),
        _state(row),
    ]


def _state(row: dict[str, Any]) -> str:
    if row["stale"]:
        return "to be built anew"
    return f"{row['lacks']:,} damaged left out" if row["lacks"] else ""


def _sentences(found: dict[str, Any]) -> list[str]:
    if not found["ready"]:
        return ["there is no search index yet: the first search builds it, or `memstore index update`"]
    told = [f"{found['records']:,} records in {size(found['bytes'])}, language {found['language']}"]
    if found["context_keys"]:
        told.append(f"fields of context beside the usual ones: {', '.join(found['context_keys'])}")
    behind = found["behind_bytes"]
    told.append(f"{size(behind)} not indexed yet: searches scan it" if behind else "nothing waits to be indexed")
    if found["stale"]:
        count = len(found["stale"])
        told.append(f"{count} month{'' if count == 1 else 's'} to be built: searches scan them until then")
    if found["lacks"]:
        many = found["lacks"] != 1
        told.append(
            f"{found['lacks']:,} damaged piece{'s' if many else ''} of the store left out: "
            f"`memstore check --full` names {'them' if many else 'it'}"
        )
    if found["in_doubt"]:
        told.append("what was forgotten lately is looked up one by one until the next update")
    return told


def run_update(args: argparse.Namespace) -> int:
    """Index what is not indexed yet."""
    return _index(args, False, "indexing")


def run_rebuild(args: argparse.Namespace) -> int:
    """Build it anew."""
    return _index(args, args.months or True, "building the search index")


def _index(args: argparse.Namespace, rebuild: bool | list[str], label: str) -> int:  # noqa: FBT001 - as `index` takes it
    """Index, and say what was done; stopped by a signal between two batches."""
    with StopSignals() as signals, open_for_writing(args, create=False) as store, progress_bar(label) as report:
        found = store.index(rebuild=rebuild, progress=report, stop=lambda: signals.reason is not None)
    print_document(Output.of(args), found)
    if signals.reason is not None and not found["finished"]:
        note("stopped; `memstore index update` goes on from here, and searches scan what is missing")
        return INTERRUPTED
    return OK
