"""Records, rows and documents as table, json, ndjson or csv.

Records come as stored lines and leave as them: ``ndjson`` and ``json`` hand out the very bytes. Only a table, which is
for eyes, decodes, shortens and escapes: what a stored record holds must never steer a terminal. Tables of records
stream in pages of fixed column widths, so that memory stays bounded whatever the range.
"""

from __future__ import annotations

import csv
import io
import itertools
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import msgspec
import orjson

from memstore.cli.output import Output
from memstore.exporters.csv import COLUMNS, JSON_COLUMNS, TEXT_COLUMNS
from memstore.legible import safe_text, short_text
from memstore.record import MemoryRecord, decode_record

_PAGE_RECORDS = 200
_AGENT_CHARS_MAX = 24
_TEXT_CHARS_MIN = 20
_IMPORTANCE_STYLES = {"CRITICAL": "bold red", "HIGH": "yellow", "LOW": "dim"}
_TYPE_STYLES = {"ERROR": "red"}


# --- records --------------------------------------------------------------------------------------


def print_records(out: Output, lines: Iterable[bytes]) -> int:
    """Print stored lines.

    Returns:
        How many there were.
    """
    counted = _Counted(lines)
    match out.format:
        case "ndjson":
            for line in counted:
                out.write_bytes(line + b"\n")
        case "json":
            separator = b"["
            for line in counted:
                out.write_bytes(separator + line)
                separator = b",\n"
            out.write_bytes(b"[]\n" if counted.count == 0 else b"]\n")
        case "csv":
            out.write_text(csv_line(COLUMNS))
            for line in counted:
                out.write_text(csv_line(_record_cells(line)))
        case _:
            _print_record_table(out, counted)
    out.flush()
    return counted.count


class _Counted:
    """An iterable that knows how much of it has passed."""

    def __init__(self, lines: Iterable[bytes]) -> None:
        self._lines = lines
        self.count = 0

    def __iter__(self) -> Iterator[bytes]:
        for line in self._lines:
            self.count += 1
            yield line


def _record_cells(line: bytes) -> list[str]:
    """As `memstore.exporters.csv` writes them: text as it is, free JSON as JSON, what is unknown in ``other``."""
    fields = orjson.loads(line)
    cells = [_cell(fields.pop(name, None)) for name in TEXT_COLUMNS]
    cells += [orjson.dumps(fields.pop(name)).decode() if name in fields else "" for name in JSON_COLUMNS]
    return [*cells, orjson.dumps(fields).decode() if fields else ""]


def _print_record_table(out: Output, lines: Iterable[bytes]) -> None:
    agent_chars = 0
    for page in iter_pages(map(decode_record, lines), _PAGE_RECORDS):
        first = not agent_chars
        if first:  # widths are decided once, from the first page, so that later pages stand under it
            agent_chars = min(max(len(safe_text(record.agent_id)) for record in page), _AGENT_CHARS_MAX)
        used = 19 + agent_chars + 12 + 10 + 4
        widths = (19, max(agent_chars, 5), 12, 10, max(out.width_chars - used, _TEXT_CHARS_MIN))
        rows = [
            (
                record.timestamp_utc[:19].replace("T", " "),
                record.agent_id,
                record.memory_type.value,
                record.importance.value,
                short_text(record),
            )
            for record in page
        ]
        print_table(out, ("time (UTC)", "agent", "type", "importance", "text"), rows, widths=widths, header=first)
        out.flush()


def iter_pages(records: Iterable[MemoryRecord], size: int) -> Iterator[list[MemoryRecord]]:
    """Lists of up to ``size``."""
    iterator = iter(records)
    while page := list(itertools.islice(iterator, size)):
        yield page


# --- rows and documents ---------------------------------------------------------------------------


def print_rows(out: Output, columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> None:
    """Print a list of things that have the same columns; ``json`` and ``ndjson`` print all that a row holds."""
    match out.format:
        case "json":
            out.write_bytes(_json(list(rows), pretty=True))
        case "ndjson":
            for row in rows:
                out.write_bytes(_json(row))
        case "csv":
            out.write_text(csv_line(columns))
            for row in rows:
                out.write_text(csv_line([_cell(row.get(column)) for column in columns]))
        case _:
            print_table(out, columns, [[_shown(row.get(column)) for column in columns] for row in rows])
    out.flush()


def print_document(out: Output, document: Mapping[str, Any]) -> None:
    """Print one object: json as it is, ndjson on one line, csv and table as dotted keys and their values."""
    match out.format:
        case "json":
            out.write_bytes(_json(document, pretty=True))
        case "ndjson":
            out.write_bytes(_json(document))
        case "csv":
            out.write_text(csv_line(("key", "value")))
            for key, value in _dotted(document):
                out.write_text(csv_line((key, _cell(value))))
        case _:
            print_table(out, ("key", "value"), [(key, _shown(value)) for key, value in _dotted(document)])
    out.flush()


def _dotted(document: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in document.items():
        if isinstance(value, Mapping) and value:
            yield from _dotted(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _json(value: Any, *, pretty: bool = False) -> bytes:
    options = orjson.OPT_APPEND_NEWLINE | orjson.OPT_NON_STR_KEYS | (orjson.OPT_INDENT_2 if pretty else 0)
    try:
        return orjson.dumps(value, default=msgspec.to_builtins, option=options)
    except TypeError:  # the path of a store may be no valid text; the escape of a lone surrogate says which bytes
        return (json.dumps(msgspec.to_builtins(value), indent=2 if pretty else None) + "\n").encode()


def _cell(value: Any) -> str:
    """A value in a csv: text as it is, nothing for None, JSON for the rest."""
    if value is None:
        return ""
    return value if isinstance(value, str) else _json(value).decode().rstrip("\n")


def _shown(value: Any) -> str:
    """A value in a table."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return (
            ", ".join(map(_shown, value)) if isinstance(value, (list, tuple)) and not _nested(value) else _cell(value)
        )
    return f"{value:,}" if isinstance(value, int) else f"{value:,.6g}"


def _nested(value: Iterable[Any]) -> bool:
    return any(isinstance(item, (Mapping, list, tuple)) for item in value)


def csv_line(cells: Sequence[str]) -> str:
    """One line of csv as RFC 4180 wants it: CRLF at its end."""
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\r\n").writerow(cells)
    return buffer.getvalue()


# --- tables ---------------------------------------------------------------------------------------


def print_table(
    out: Output,
    columns: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    widths: Sequence[int] | None = None,
    header: bool = True,
) -> None:
    """A table without frames; columns of figures stand to the right; with ``widths`` cells are cut to them."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), show_header=header, header_style="bold")
    cells = [[safe_text(cell) for cell in row] for row in rows]
    for index, column in enumerate(columns):
        figures = widths is None and bool(cells) and all(_is_figure(row[index]) for row in cells)
        table.add_column(
            column,
            justify="right" if figures else "left",
            width=None if widths is None else widths[index],
            no_wrap=widths is not None,
            overflow="fold" if widths is None else "ellipsis",
        )
    for row in cells:
        table.add_row(*(Text(cell, style=_IMPORTANCE_STYLES.get(cell) or _TYPE_STYLES.get(cell) or "") for cell in row))
    print_rich(out, table)


def _is_figure(text: str) -> bool:
    return text[:1].isdigit() and not set(text) - set("0123456789,.e+-")


def print_rich(out: Output, *renderables: Any) -> None:
    """What rich draws, without the trailing blanks it pads with; colours only on a terminal."""
    from rich.console import Console

    buffer = io.StringIO()
    console = Console(
        file=buffer,
        force_terminal=out.is_terminal,
        width=out.width_chars,
        highlight=False,
        markup=False,
        emoji=False,
        legacy_windows=False,
    )
    for renderable in renderables:
        console.print(renderable, soft_wrap=isinstance(renderable, str))  # a command to copy is never broken
    out.write_text("".join(f"{line.rstrip()}\n" for line in buffer.getvalue().splitlines()))
