r"""Export as CSV (RFC 4180, UTF-8, CRLF), with a header line of `COLUMNS`.

=================================================================== ==============================================
columns                                                             hold
=================================================================== ==============================================
memory_id, timestamp_utc, timestamp_local, agent_id, shard_id,      the text itself
source_id, memory_type, importance
input, response, content, context, tags, relationships, metadata    JSON text; text content has its quotes
other                                                               JSON object of fields this version does not
                                                                    know
=================================================================== ==============================================

A field that a record does not have is empty. Data is exact: a value that a spreadsheet would take for a formula
(``=``, ``+``, ``-``, ``@`` in front) is written as it is. Import such a file into a spreadsheet as text.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from typing import Any, BinaryIO

import orjson

from memstore.errors import StorageError
from memstore.exporters.selection import Progress, selected_lines
from memstore.store import MemStore

TEXT_COLUMNS = (
    "memory_id",
    "timestamp_utc",
    "timestamp_local",
    "agent_id",
    "shard_id",
    "source_id",
    "memory_type",
    "importance",
)
JSON_COLUMNS = ("input", "response", "content", "context", "tags", "relationships", "metadata")
COLUMNS = (*TEXT_COLUMNS, *JSON_COLUMNS, "other")
_KNOWN = frozenset(COLUMNS) - {"other"}
_ROWS_PER_WRITE = 256


def export_csv(
    store: MemStore,
    out: BinaryIO,
    *,
    agents: str | Iterable[str] | None = None,
    progress: Progress | None = None,
    **filters: Any,
) -> int:
    """Write records to a binary stream as CSV; in the order of `memstore.exporters.ndjson.export_ndjson`.

    Args:
        store: where from.
        out: where to; not closed. Its own errors come through as they are.
        agents: whose records; None for everyone's.
        progress: called with (agents done, agents in all).
        **filters: as for ``AgentMemory.range``.

    Returns:
        How many records were written, the header line aside.

    Raises:
        NotFoundError: the store has no such agent.
        UsageError: an unknown filter or value of one.
        CorruptionError: damage was met, unless ``on_damage="skip"``.
    """
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(COLUMNS)
    records = 0
    for line in selected_lines(store, agents, filters, progress):
        writer.writerow(csv_row(line))
        records += 1
        if records % _ROWS_PER_WRITE == 0:
            _write(out, text)
    _write(out, text)
    return records


def csv_row(line: bytes) -> list[str]:
    """The cells of a stored line, one for each of `COLUMNS`.

    Raises:
        StorageError: the line is no JSON.
    """
    try:
        record = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise StorageError(f"a stored line is no JSON ({error}): {line[:120]!r}") from error
    row = [record.get(name) or "" for name in TEXT_COLUMNS]
    row += [orjson.dumps(record[name]).decode() if name in record else "" for name in JSON_COLUMNS]
    other = {key: value for key, value in record.items() if key not in _KNOWN}
    row.append(orjson.dumps(other).decode() if other else "")
    return row


def _write(out: BinaryIO, text: io.StringIO) -> None:
    out.write(text.getvalue().encode())
    text.seek(0)
    text.truncate()
