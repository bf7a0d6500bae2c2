"""One record in full, with those about it, as a terminal shows it."""

from __future__ import annotations

import json
from typing import Any

import msgspec
from rich.text import Text

from memstore.explore.family import Family
from memstore.explore.hits_view import Look, record_line
from memstore.legible import safe_text
from memstore.record import MemoryRecord

_LINES_MAX = 60
"""Of one part; a machine's report may have thousands."""
Related = tuple[str, str]
"""A label to open by (``p``, ``c1``, ``b2``, ``a1``), and the memory id behind it."""


def record_lines(found: Family, look: Look) -> tuple[list[Text], list[Related]]:
    """The drawing, and by which labels other records can be opened."""
    record = found.record
    lines = [Text(safe_text(record.memory_id), style="bold")]
    lines.append(_facts(record))
    for name, value in _parts(record):
        lines += _part(name, value, look)
    related: list[Related] = []

    def listed(title: str, records: tuple[MemoryRecord, ...], labels: list[str]) -> None:
        lines.append(Text(title, style="bold"))
        for label, each in zip(labels, records, strict=True):
            lines.append(record_line(each, label, look))
            related.append((label, each.memory_id))

    if found.parent is not None:
        listed("parent", (found.parent,), ["p"])
    elif found.parent_id is not None:
        lines.append(Text(f"parent {safe_text(found.parent_id)} is not in this store", style="dim"))
    if found.children:
        listed("children", found.children, [f"c{number}" for number in range(1, len(found.children) + 1)])
    lines.append(Text(_reach(found), style="dim"))
    count = len(found.before)
    if found.before:
        listed("just before, same agent", found.before, [f"b{count - index}" for index in range(count)])
    if found.after:
        listed("just after", found.after, [f"a{number}" for number in range(1, len(found.after) + 1)])
    return lines, related


def _reach(found: Family) -> str:
    """What was looked at for children, so that nobody takes none found for none there."""
    none = "" if found.children else "no children "
    if found.reached_end:
        return f"{none or 'all children '}among this agent's later records ({found.looked_through:,} looked through)"
    return f"{none or 'more may follow: '}the next {found.looked_through:,} records of this agent were looked through"


def _facts(record: MemoryRecord) -> Text:
    facts = [
        record.timestamp_utc,
        f"agent {safe_text(record.agent_id)}",
        record.memory_type.value,
        record.importance.value,
    ]
    if record.tags:
        facts.append(f"tags {', '.join(map(safe_text, record.tags))}")
    if record.timestamp_local:
        facts.append(f"local time {safe_text(record.timestamp_local)}")
    if record.source_id:
        facts.append(f"source id {safe_text(record.source_id)}")
    return Text("  ".join(facts))


def _parts(record: MemoryRecord) -> list[tuple[str, Any]]:
    named = [
        ("input", _bare(record.input)),
        ("response", _bare(record.response)),
        ("content", record.content),
        ("context", record.context or None),
        ("related", None if record.relationships is None else record.relationships.related_memories or None),
        ("metadata", record.metadata or None),
    ]
    return [(name, value) for name, value in named if value is not None]


def _bare(part: Any) -> Any:
    """What a part holds; its content alone where there is nothing else."""
    if part is None:
        return None
    fields = msgspec.to_builtins(part)
    return fields["content"] if list(fields) == ["content"] else fields or None


def _part(name: str, value: Any, look: Look) -> list[Text]:
    text = value if isinstance(value, str) else json.dumps(value, indent=2, ensure_ascii=False, default=str)
    lines = [piece for line in text.split("\n") for piece in _cut(safe_text(line.rstrip("\r")), look.width_chars - 2)]
    shown = [Text(name, style="bold"), *(Text(f"  {line}") for line in lines[:_LINES_MAX])]
    if len(lines) > _LINES_MAX:
        shown.append(Text(f"  ... {len(lines) - _LINES_MAX:,} more lines: /save writes them all", style="dim"))
    return shown


def _cut(line: str, room: int) -> list[str]:
    """A long line in pieces."""
    room = max(room, 20)
    return [line[at : at + room] for at in range(0, len(line), room)] or [""]
