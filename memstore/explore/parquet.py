"""Hits as a Parquet file, through DuckDB: the same columns as in csv, times and numbers typed.

The hits go through a file of NDJSON beside other temporary files, so that any number of them takes bounded memory.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterable
from typing import Any

import msgspec
import orjson

from memstore.errors import StorageError, UsageError
from memstore.exporters.csv import JSON_COLUMNS, TEXT_COLUMNS
from memstore.search.result import SearchHit

_TYPES = {
    "timestamp_utc": "TIMESTAMP",
    "score": "DOUBLE",
    "tags": "VARCHAR[]",
    "success": "BOOLEAN",
    "confidence": "DOUBLE",
    "processing_time_ms": "DOUBLE",
}
COLUMNS = (*TEXT_COLUMNS, *JSON_COLUMNS, "success", "confidence", "processing_time_ms", "score", "highlights")
_COPY_BYTES = 1024 * 1024


def write_parquet(write: Callable[[bytes], object], hits: Iterable[SearchHit]) -> int:
    """Write a whole file; how many hits are in it.

    Raises:
        UsageError: DuckDB is not installed.
        StorageError: DuckDB cannot write it.
    """
    try:
        import duckdb  # noqa: PLC0415 - optional
    except ImportError as error:
        raise UsageError(
            "Parquet is written by DuckDB, which is not installed: pip install 'memstore[tool]'"
        ) from error
    count = 0
    with tempfile.TemporaryDirectory(prefix="memstore-") as directory:
        lines, target = os.path.join(directory, "hits.ndjson"), os.path.join(directory, "hits.parquet")
        with open(lines, "wb") as out:
            for hit in hits:
                out.write(orjson.dumps(_row(hit), option=orjson.OPT_APPEND_NEWLINE))
                count += 1
        columns = ", ".join(f"'{name}': '{_TYPES.get(name, 'VARCHAR')}'" for name in COLUMNS)
        question = (
            f"COPY (SELECT * FROM read_json(?, format = 'newline_delimited', columns = {{{columns}}}, "  # noqa: S608
            f"maximum_object_size = {max(os.path.getsize(lines), 1 << 24)})) TO '{_quoted(target)}' (FORMAT parquet)"
        )
        try:
            with duckdb.connect() as connection:
                connection.execute(question, [lines])
        except duckdb.Error as error:
            raise StorageError(f"DuckDB cannot write the Parquet file: {error}") from error
        with open(target, "rb") as done:
            while data := done.read(_COPY_BYTES):
                write(data)
    return count


def _quoted(text: str) -> str:
    return text.replace("'", "''")


def _row(hit: SearchHit) -> dict[str, Any]:
    """One hit: text and figures as they are, what is nested as JSON text."""
    record = msgspec.to_builtins(hit.record)
    response = record.get("response") or {}
    row: dict[str, Any] = {name: record.get(name) for name in TEXT_COLUMNS}
    row |= {name: orjson.dumps(record[name]).decode() for name in JSON_COLUMNS if name in record}
    row["tags"] = record.get("tags", [])
    row |= {name: response.get(name) for name in ("success", "confidence", "processing_time_ms")}
    row["score"] = hit.score
    row["highlights"] = " ".join(each.marked() for each in hit.highlights) or None
    return row
