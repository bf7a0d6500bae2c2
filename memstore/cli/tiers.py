"""``memstore tiers``: how much lies in which tier, of whom, and how long the disk will do."""

from __future__ import annotations

import argparse
from typing import Any

from memstore.cli.arguments import add_command, positive
from memstore.cli.exit_codes import OK
from memstore.cli.opening import open_for_reading
from memstore.cli.output import Output
from memstore.cli.render import print_document, print_rich, print_rows, print_table
from memstore.cli.sizes import days, size

_AGENTS_DEFAULT = 10
_DESCRIPTION = """\
Files, records and bytes of each tier, by the heaviest agents too; how much room is left on the disk, and for how many
days at the growth of the last days. raw_bytes are the records' lines unpacked; ratio is bytes over raw_bytes."""


def add_parser(commands: Any) -> None:
    """Declare the command."""
    parser = add_command(
        commands, "tiers", run, "bytes, records, files and ratio by tier and agent", description=_DESCRIPTION
    )
    parser.add_argument(
        "--agents",
        dest="agents_max",
        type=positive,
        default=_AGENTS_DEFAULT,
        metavar="N",
        help=f"so many of the heaviest (default: {_AGENTS_DEFAULT})",
    )


def run(args: argparse.Namespace) -> int:
    """Print them."""
    with open_for_reading(args) as store:
        found = store.tiers()
    found["agents"] = sorted(found["agents"], key=lambda row: (-row["bytes"], row["agent"]))[: args.agents_max]
    out = Output.of(args)
    if out.format == "csv":
        print_rows(out, ("tier", "files", "records", "bytes", "raw_bytes", "ratio"), found["tiers"])
        return OK
    if out.format != "table":
        print_document(out, found)
        return OK
    print_table(
        out, ("tier", "files", "records", "bytes", "raw", "ratio"), [_tier_cells(row) for row in found["tiers"]]
    )
    if found["agents"]:
        print_rich(out, "")
        columns = ("agent", "files", "records", "hot", "warm", "cold", "trash", "bytes", "raw", "ratio")
        print_table(out, columns, [_agent_cells(row) for row in found["agents"]])
    print_rich(out, "", *_sentences(found))
    out.flush()
    return OK


def _tier_cells(row: dict[str, Any]) -> list[str]:
    return [
        row["tier"],
        f"{row['files']:,}",
        "" if row["records"] is None else f"{row['records']:,}",  # nobody has counted those that wait in lanes
        size(row["bytes"]),
        size(row["raw_bytes"]),
        percent(row["ratio"]),
    ]


def _agent_cells(row: dict[str, Any]) -> list[str]:
    parts = [size(row[f"{tier}_bytes"]) for tier in ("hot", "warm", "cold", "trash")]
    whole = [size(row["bytes"]), size(row["raw_bytes"]), percent(row["ratio"])]
    return [row["agent"], f"{row['files']:,}", f"{row['records']:,}", *parts, *whole]


def percent(ratio: float | None) -> str:
    """``3.1 %``, or nothing where there is nothing."""
    return "" if ratio is None else f"{ratio * 100:.1f} %"


def _sentences(found: dict[str, Any]) -> list[str]:
    repeats, growth = found["repeats"], found["growth"]
    told = []
    if repeats["records"]:
        told.append(
            f"repeats: {repeats['records']:,} records are stored as references, {size(repeats['saved_bytes'])} saved"
        )
    if growth is None:
        told.append("disk: it does not fill; nothing has arrived in the last days")
        return told
    free = f"disk: {size(growth['free_bytes'])} free"
    per_day, until_full = growth["bytes_per_day"], growth["days_until_full"]
    if until_full is None:
        told.append(f"{free}; it does not fill at the present growth of {size(per_day)} a day")
    else:
        told.append(f"{free}; full in {days(until_full)} at the present growth of {size(per_day)} a day")
    return told
