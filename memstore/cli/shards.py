"""``memstore shards``: list them, add one, bind an agent to one."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from typing import Any

from memstore.cli.arguments import add_command
from memstore.cli.opening import note, open_for_reading, open_for_writing
from memstore.cli.output import Output
from memstore.cli.progress import progress_bar
from memstore.cli.render import print_document, print_rich, print_rows
from memstore.config import GIB, ShardingSettings
from memstore.lifecycle.growth import plan_growth

_HEAVIEST_SHOWN = 2
_COLUMNS = ("name", "agents", "bytes", "bytes_share", "pinned", "misplaced", "heaviest", "path")


def add_parser(commands: Any) -> None:
    """Declare the command."""
    shards = add_command(commands, "shards", run_list, "list the shards; add one; pin an agent to one")
    kinds = shards.add_subparsers(metavar="ACTION", title="actions (without one: list)")
    add_command(kinds, "list", run_list, "list the shards")
    add = add_command(kinds, "add", run_add, "add a shard and move its part of the agents there")
    add.add_argument("--volume", metavar="DIR", help="a directory on another disk; default: the store's own")
    pin = add_command(kinds, "pin", run_pin, "bind an agent to a shard, and move it there")
    pin.add_argument("agent_id", metavar="AGENT")
    pin.add_argument("shard", metavar="SHARD", help="such as shard_001")
    unpin = add_command(kinds, "unpin", run_unpin, "let the ring decide on an agent again")
    unpin.add_argument("agent_id", metavar="AGENT")


def run_list(args: argparse.Namespace) -> int:
    """Print the shards, how full they are, and what maintenance would move."""
    with open_for_reading(args) as store:
        sharding = store.settings.storage.sharding
        rows = [_with_share(row, sharding) for row in store.shards()]
        planned = [action.sentence for action in plan_growth(rows, store.settings)]
    out = Output.of(args)
    if out.format != "table":
        print_rows(out, _COLUMNS, rows)
        for sentence in planned:
            note(sentence)
        return 0
    shown = [
        {**row, "heaviest": _heaviest(row.get("heaviest")), "bytes_share": f"{row['bytes_share']:.1%}"} for row in rows
    ]
    print_rows(out, _COLUMNS, shown)
    print_rich(out, "", *_fullness(rows, sharding), *(planned or ["nothing would move"]))
    out.flush()
    return 0


def _with_share(row: dict[str, Any], sharding: ShardingSettings) -> dict[str, Any]:
    return {**row, "bytes_share": round(row["bytes"] / (sharding.max_shard_size_gb * GIB), 6)}


def _fullness(rows: Sequence[dict[str, Any]], sharding: ShardingSettings) -> list[str]:
    mean = sum(row["agents"] for row in rows) / max(len(rows), 1)
    return [
        f"bytes_share is of storage.sharding.max_shard_size_gb = {sharding.max_shard_size_gb:g}",
        f"{mean:,.1f} agents a shard; storage.sharding.agents_per_shard = {sharding.agents_per_shard:,}",
    ]


def _heaviest(agents: Any) -> str:
    return ", ".join(f"{agent['agent']} ({agent['bytes']:,} B)" for agent in (agents or ())[:_HEAVIEST_SHOWN])


def run_add(args: argparse.Namespace) -> int:
    """Add a shard; prints what moved."""
    volume = None if args.volume is None else os.path.abspath(args.volume)
    with open_for_writing(args, create=False) as store, progress_bar("moving agents") as report:
        done = store.add_shard(volume, progress=report)
    print_document(Output.of(args), done)
    return 0


def run_pin(args: argparse.Namespace) -> int:
    """Pin; prints what moved."""
    with open_for_writing(args, create=False) as store:
        done = store.pin(args.agent_id, args.shard)
    print_document(Output.of(args), done)
    return 0


def run_unpin(args: argparse.Namespace) -> int:
    """Unpin; prints what moved."""
    with open_for_writing(args, create=False) as store:
        done = store.pin(args.agent_id, None)
    print_document(Output.of(args), done)
    return 0
