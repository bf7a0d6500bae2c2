"""The rows of a query as table, json, ndjson or csv, as they come: an answer of any size takes bounded memory."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal
from typing import Any

import orjson

from memstore.cli.output import Output
from memstore.cli.render import csv_line, print_table
from memstore.legible import safe_text
from memstore.sql.query import Answer, AnswerColumn

_JSON_TYPE = "JSON"
_PLAIN_TYPES = frozenset({"VARCHAR", "STRING", "BOOLEAN", "INTEGER", "SMALLINT", "TINYINT", "BIGINT"})
"""DuckDB's types whose values are JSON as they are; STRING is what older ones call VARCHAR."""
_PLAN_COLUMNS = ["explain_key", "explain_value"]
_INT64 = range(-(2**63), 2**64)
_CELL_CHARS_MIN = 4
_CELL_SCAN_CHARS = 2000
"""Text behind this is never seen in a table."""
_TABLE_PAGE_ROWS = 200

_Row = tuple[Any, ...]


def print_answer(out: Output, answer: Answer) -> None:
    """Print it; the first rows are out before the last are read."""
    match out.format:
        case "json":
            separator = b"["
            for line in _json_rows(answer):
                out.write_bytes(separator + line)
                separator = b",\n"
            out.write_bytes(b"]\n" if separator != b"[" else b"[]\n")
        case "ndjson":
            for line in _json_rows(answer):
                out.write_bytes(line + b"\n")
        case "csv":
            out.write_text(csv_line([column.name for column in answer.columns]))
            for row in answer:
                out.write_text(csv_line([_text(value) for value in row]))
        case _ if [column.name for column in answer.columns] == _PLAN_COLUMNS:
            for _, plan in answer:  # a drawing
                out.write_text("".join(f"{safe_text(line)}\n" for line in str(plan).splitlines()))
        case _:
            _print_tables(out, answer)
    out.flush()


# --- json -----------------------------------------------------------------------------------------


def _json_rows(answer: Answer) -> Iterator[bytes]:
    names = [column.name for column in answer.columns]
    converters = [_converter(column) for column in answer.columns]
    for row in answer:
        pairs = zip(names, row, converters, strict=True)
        yield orjson.dumps({name: value if convert is None else convert(value) for name, value, convert in pairs})


def _converter(column: AnswerColumn) -> Callable[[Any], Any] | None:
    """What makes a column's values such as orjson takes; None where they are so already."""
    if column.type in _PLAIN_TYPES:
        return None
    return _fragment if column.type == _JSON_TYPE else _plain


def _fragment(value: str | None) -> Any:
    """JSON as it is, on one line: a break in it stands between its values, for in a text it would be escaped."""
    return None if value is None else orjson.Fragment(value.replace("\n", " ").replace("\r", " "))


def _plain(value: Any) -> Any:
    """A value as JSON says it: figures exactly, times in ISO 8601, bytes in hex, everything else as its text."""
    if value is None:
        return None
    for kind, convert in _CONVERSIONS.items():
        if isinstance(value, kind):
            return convert(value)
    return str(value)


_CONVERSIONS: dict[type, Callable[[Any], Any]] = {
    str: lambda value: value,
    bool: lambda value: value,  # before int, which it is too
    int: lambda value: value if value in _INT64 else orjson.Fragment(str(value)),
    float: lambda value: value if math.isfinite(value) else str(value),
    Decimal: lambda value: orjson.Fragment(f"{value:f}") if value.is_finite() else str(value),
    dt.datetime: lambda value: value.isoformat(),
    dt.date: lambda value: value.isoformat(),
    dt.time: lambda value: value.isoformat(),
    bytes: lambda value: value.hex(),
    dict: lambda value: {_text(key): _plain(each) for key, each in value.items()},
    list: lambda value: list(map(_plain, value)),
    tuple: lambda value: list(map(_plain, value)),
}


def _text(value: Any) -> str:
    """A value as text: as it is in JSON, without the quotes of a text; nothing for NULL."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    plain = _plain(value)
    return plain if isinstance(plain, str) else orjson.dumps(plain).decode()


# --- tables ---------------------------------------------------------------------------------------


def _print_tables(out: Output, answer: Answer) -> None:
    names = [column.name for column in answer.columns]
    figures = [_is_figure_type(column.type) for column in answer.columns]
    widths: list[int] = []
    page: list[list[str]] = []

    def show(*, last: bool) -> None:
        nonlocal widths, page
        first = not widths
        if first:  # decided once, so that later pages stand under the first
            widths = _widths(names, page, out.width_chars)
        if page or (first and last):
            cells = [
                [cell.rjust(width) if right else cell for cell, width, right in zip(row, widths, figures, strict=True)]
                for row in page
            ]
            print_table(out, names, cells, widths=widths, header=first)
            out.flush()
        page = []

    for row in answer:
        page.append([_cell(value) for value in row])
        if len(page) == _TABLE_PAGE_ROWS:
            show(last=False)
    show(last=True)


def _cell(value: Any) -> str:
    text = f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else _text(value)
    return safe_text(" ".join(text[:_CELL_SCAN_CHARS].split()))


def _is_figure_type(kind: str) -> bool:
    return kind.partition("(")[0] in {
        "NUMBER", "TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT",
        "UHUGEINT", "FLOAT", "DOUBLE", "DECIMAL",
    }  # fmt: skip


def _widths(names: Sequence[str], rows: Sequence[Sequence[str]], width_chars: int) -> list[int]:
    """What each column needs; where all together do not fit, the widest give way."""
    widths = [
        max(len(name), *(len(row[index]) for row in rows)) if rows else len(name) for index, name in enumerate(names)
    ]
    while sum(widths) + len(widths) > width_chars and max(widths) > _CELL_CHARS_MIN:
        widths[widths.index(max(widths))] -= 1
    return widths
