"""What a demo found: as one document, and as tables for people."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator, Sequence
from typing import Any

from memstore.cli.output import Output
from memstore.cli.render import print_rich
from memstore.demo.generator import Plan
from memstore.demo.survey import Findings, percentile_s
from memstore.demo.writer import Report
from memstore.format.names import tier_of
from memstore.record import Importance, MemoryType

_BUSIEST = 8
_BAR_CHARS = 32
_FILES_SHOWN = 3


def summary(plan: Plan, reports: Sequence[Report], findings: Findings, *, root: str, durability: str) -> dict[str, Any]:
    """Everything worth telling; times in seconds, sizes in bytes."""
    span_s = max(report.finished_s for report in reports) - min(report.started_s for report in reports)
    records = findings.records_of.total()
    bytes_in = findings.bytes_of.total()
    singles = [latency for report in reports for latency in report.single_latencies_s]
    ballast = os.path.join(root, "ballast")
    ballast_bytes = os.path.getsize(ballast) if os.path.exists(ballast) else 0
    latencies = {"append (one record)": singles} if singles else {}
    latencies |= findings.latencies_s
    return {
        "root": root,
        "machine": _machine(),
        "seed": plan.seed,
        "agents": len(findings.records_of),
        "days": plan.days,
        "records": records,
        "records_checked": records,
        "durability": durability,
        "processes": len(reports),
        "write_s": span_s,
        "append_share": sum(report.append_s for report in reports) / (span_s * len(reports)),
        "records_per_s": records / span_s,
        "bytes_in": bytes_in,
        "bytes_in_per_s": bytes_in / span_s,
        "bytes_on_disk": disk_bytes(root) - ballast_bytes,
        "ballast_bytes": ballast_bytes,
        "drain_s": findings.drain_s,
        "maintain_s": findings.maintain_s,
        "moves": findings.moves,
        "tiers": [tier for tier in findings.tiers if tier["tier"] in _TIER_AGES],
        "scan_records_per_s": records / findings.scan_s,
        "scan_bytes_per_s": bytes_in / findings.scan_s,
        "latency_s": {
            name: {
                "calls": len(values),
                "p50": percentile_s(values, 50),
                "p99": percentile_s(values, 99),
                "max": max(values),
            }
            for name, values in latencies.items()
        },
        "kinds": {
            kind.value: {level.value: findings.kinds[kind.value, level.value] for level in Importance}
            for kind in MemoryType
        },
        "busiest": [
            {"agent_id": agent_id, "records": findings.records_of[agent_id], "bytes": size_bytes}
            for agent_id, size_bytes in findings.bytes_of.most_common(_BUSIEST)
        ],
        "found": findings.found,
    }


_TIER_AGES = {
    "hot": "the last 7 days, plain NDJSON",
    "warm": "older, frames of 256 KiB",
    "cold": "months that ended 30 days ago, frames of 1 MiB",
}


def _tiers(found: dict[str, Any]) -> Any:
    table = _table("tier", "files", "records", "bytes in", "on disk", "is", "what it holds")
    for tier in found["tiers"]:
        ratio = "" if tier["ratio"] is None else f"{tier['ratio']:.1%}"
        table.add_row(
            tier["tier"],
            f"{tier['files']:,}",
            f"{tier['records']:,}",
            megabytes(tier["raw_bytes"]),
            megabytes(tier["bytes"]),
            ratio,
            _TIER_AGES[tier["tier"]],
        )
    return table


def _machine() -> str:
    python = platform.python_version()
    return f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, Python {python}"


def disk_bytes(root: str) -> int:
    """Bytes of all files under a directory."""
    return sum(os.path.getsize(os.path.join(place, name)) for place, _, names in os.walk(root) for name in names)


def print_summary(out: Output, found: dict[str, Any], *, command: str | None) -> None:
    """The tables; ``command`` is how to ask the store, or None where it will be gone."""
    print_rich(
        out,
        _title(f"memstore demo: {found['records']:,} memories of {found['agents']:,} agents over {found['days']} days"),
        _speed(found),
        _title("How long a call takes"),
        _latencies(found),
        _title("The three tiers"),
        _tiers(found),
        _title("What the agents remember"),
        _kinds(found),
        _title("The busiest agents, by bytes"),
        _busiest(found, "█" if out.is_unicode else "#"),
        _title("Asked with filters"),
        *(f"  {question}: {count:,}" for question, count in found["found"].items()),
        _title("Where it lies"),
        *_tree(found["root"]),
        _title("What to try next"),
        *_next(found, command),
    )


def _title(text: str) -> Any:
    from rich.text import Text

    return Text(f"\n{text}", style="bold")


def _table(*columns: str) -> Any:
    from rich.table import Table

    table = Table(box=None, padding=(0, 1, 0, 2), header_style="dim")
    for index, column in enumerate(columns):
        table.add_column(column, justify="left" if index == 0 else "right", no_wrap=True)
    return table


def _speed(found: dict[str, Any]) -> Any:
    from rich.table import Table

    durable = found["durability"] == "fsync"
    meaning = "on disk when append returns" if durable else "survives a killed process, not a power cut"
    written = f"{found['records_per_s']:,.0f} records/s ({megabytes(found['bytes_in_per_s'])}/s)"
    read = f"{found['scan_records_per_s']:,.0f} records/s ({megabytes(found['scan_bytes_per_s'])}/s)"
    reserve = megabytes(found["ballast_bytes"])
    table = Table(box=None, show_header=False, padding=(0, 1, 0, 2))
    for row in (
        ("machine", found["machine"]),
        ("written", f"{written} by {found['processes']} processes in {found['write_s']:.1f} s"),
        ("", f"{found['append_share']:.0%} of that in appends, the rest making memories up"),
        ("durability", f"{found['durability']}: {meaning}"),
        ("merged", f"in {found['drain_s']:.1f} s at the end, the rest on the way"),
        (
            "packed",
            f"in {found['maintain_s']:.1f} s, {found['moves']:,} moves; then everything was read again: the same",
        ),
        ("read back", f"{read}, checksums verified"),
        ("checked", f"all {found['records_checked']:,} acknowledged records are there, none twice"),
        ("bytes in", megabytes(found["bytes_in"])),
        ("bytes on disk", f"{megabytes(found['bytes_on_disk'])}, and {reserve} kept in reserve for a full disk"),
    ):
        table.add_row(*row)
    return table


def _latencies(found: dict[str, Any]) -> Any:
    table = _table("", "calls", "median", "p99", "max")
    for name, values in found["latency_s"].items():
        table.add_row(name, f"{values['calls']:,}", *(duration(values[key]) for key in ("p50", "p99", "max")))
    return table


def _kinds(found: dict[str, Any]) -> Any:
    table = _table("type", *(level.value for level in Importance), "all")
    for kind, levels in found["kinds"].items():
        table.add_row(kind, *(f"{count:,}" for count in levels.values()), f"{sum(levels.values()):,}")
    return table


def _busiest(found: dict[str, Any], mark: str) -> Any:
    from rich.text import Text

    table = _table("agent", "records", "bytes")
    table.add_column("", justify="left", no_wrap=True)
    most = max(agent["bytes"] for agent in found["busiest"])
    for agent in found["busiest"]:
        bar = mark * max(round(agent["bytes"] / most * _BAR_CHARS), 1)
        table.add_row(agent["agent_id"], f"{agent['records']:,}", megabytes(agent["bytes"]), Text(bar, style="cyan"))
    return table


def _tree(root: str) -> Iterator[str]:
    """A few lines that show the shape of the directory."""
    yield f"  {root}/"
    for name in sorted(os.listdir(root)):
        path = os.path.join(root, name)
        if not os.path.isdir(path):
            yield f"    {name:<32} {megabytes(os.path.getsize(path)):>10}"
        elif name == "lanes":
            lanes = len(os.listdir(path))
            state = "not merged yet" if lanes else "all are merged"
            yield f"    {'lanes/':<32} {lanes:>4} files  logs of writers; {state}"
        elif name != "memory":
            yield f"    {name}/"
    shards = os.path.join(root, "memory", "shards")
    if not os.path.isdir(shards):
        return
    shown = False
    for shard in sorted(os.listdir(shards)):
        path = os.path.join(shards, shard)
        agents = sorted(entry.name for entry in os.scandir(path) if entry.is_dir())
        yield f"    {f'memory/shards/{shard}/':<32} {len(agents):>4} agents {megabytes(disk_bytes(path)):>9}"
        if agents and not shown:
            shown = True
            yield from _agent_tree(os.path.join(path, agents[0]), agents[0])
    archive = os.path.join(root, "memory", "archive")
    if os.path.isdir(archive):
        yield f"    {'memory/archive/':<32} {len(os.listdir(archive)):>4} agents {megabytes(disk_bytes(archive)):>9}"


_FILE_KINDS = {"hot": "one day, plain NDJSON", "warm": "several days, frames of zstd"}


def _agent_tree(path: str, name: str) -> Iterator[str]:
    yield f"      {name}/"
    files = sorted(os.listdir(path), key=lambda file: (file != "MANIFEST", file))
    for file in files[:_FILES_SHOWN]:
        what = _FILE_KINDS.get(tier_of(file) or "", "the agent's index and history")
        yield f"        {file:<32} {megabytes(os.path.getsize(os.path.join(path, file))):>10}  {what}"
    if len(files) > _FILES_SHOWN:
        yield f"        ... {len(files) - _FILES_SHOWN} more files"


def _next(found: dict[str, Any], command: str | None) -> Iterator[str]:
    if command is None:
        yield "  The store is removed now. Keep one to look around in:"
        yield "  memstore demo --root demo-store"
        command = "memstore --root demo-store"
    agent = found["busiest"][-1]["agent_id"]
    for line in (
        f"recent --agent {agent}",
        f"range --agent {agent} --since 7d --type ERROR --min-importance HIGH",
        "stats",
        "shards",
        f"export csv {agent}.csv --agent {agent} --since 30d",
        f'append --agent {agent} --input "What did we learn?" --response "Files are enough."',
    ):
        yield f"  {command} {line}"


def megabytes(size_bytes: float) -> str:
    """``1.2 MB``, ``340 kB``, ``12 B``: decimal, as disks are sold."""
    if size_bytes >= 1e6:
        return f"{size_bytes / 1e6:,.1f} MB"
    return f"{size_bytes / 1e3:,.1f} kB" if size_bytes >= 1e3 else f"{size_bytes:.0f} B"


def duration(seconds: float) -> str:
    """``1.20 s``, ``3.4 ms``, ``12 µs``."""
    if seconds >= 1:
        return f"{seconds:.2f} s"
    return f"{seconds * 1e3:.1f} ms" if seconds >= 1e-3 else f"{seconds * 1e6:.1f} µs"
