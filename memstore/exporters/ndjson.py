"""Export as NDJSON: the stored lines, byte for byte."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, BinaryIO

from memstore.exporters.selection import Progress, selected_lines
from memstore.store import MemStore

_LINES_PER_WRITE = 256


def export_ndjson(
    store: MemStore,
    out: BinaryIO,
    *,
    agents: str | Iterable[str] | None = None,
    progress: Progress | None = None,
    **filters: Any,
) -> int:
    """Write records to a binary stream, one line each; agents in order of their ids, an agent's records oldest first.

    Args:
        store: where from.
        out: where to; not closed. Its own errors (a broken pipe) come through as they are.
        agents: whose records; None for everyone's.
        progress: called with (agents done, agents in all).
        **filters: ``memory_type``, ``importance``, ``min_importance``, ``tags``, ``tags_all``, ``since``, ``until``,
            ``session``, ``context``, ``on_damage``, as for ``AgentMemory.range``.

    Returns:
        How many records were written.

    Raises:
        NotFoundError: the store has no such agent.
        UsageError: an unknown filter or value of one.
        CorruptionError: damage was met, unless ``on_damage="skip"``.
    """
    records = 0
    pending: list[bytes] = []
    for line in selected_lines(store, agents, filters, progress):
        pending.append(line)
        if len(pending) >= _LINES_PER_WRITE:
            records += _write(out, pending)
    return records + _write(out, pending)


def _write(out: BinaryIO, pending: list[bytes]) -> int:
    written = len(pending)
    if pending:
        pending.append(b"")
        out.write(b"\n".join(pending))
        pending.clear()
    return written
