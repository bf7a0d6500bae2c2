"""``memstore append``: one record from flags, or NDJSON from standard input.

What standard input has at hand becomes one batch, up to a limit: a slow producer's lines are durable at once, a fast
one's share their syncs. Ids are printed when their batch is durable, so that the output is the acknowledgement.
"""

from __future__ import annotations

import argparse
import codecs
import json
import sys
from collections.abc import Iterator
from typing import IO, Any

import msgspec

from memstore.cli.arguments import add_command, add_context, context_pairs, json_value
from memstore.cli.opening import note, open_for_writing
from memstore.cli.output import Output
from memstore.cli.render import csv_line
from memstore.errors import InvalidRecordError, MemstoreError, UsageError
from memstore.ids import check_agent_id
from memstore.record import Importance, MemoryType
from memstore.store import MemStore

_BATCH_RECORDS_MAX = 1000
_READ_BYTES = 1024 * 1024
"""What one read takes at most; a pipe gives 64 KiB."""
_LINE_BYTES_MAX = 64 * 1024 * 1024
"""No record is longer; a stream without line breaks ends here instead of filling the memory."""
_FIELD_FLAGS = {
    "memory_type": "--type",
    "importance": "--importance",
    "input": "--input",
    "response": "--response",
    "content": "--content",
    "tags": "--tag",
    "session": "--session",
    "context": "--context",
    "parent": "--parent",
    "metadata": "--metadata",
    "timestamp": "--timestamp",
    "source_id": "--source-id",
}
_DESCRIPTION = """\
Append one record from flags, or one record a line from standard input.

With a flag that fills a field one record is appended. Without (or with -) standard input is read as NDJSON: each line
an object with agent_id (or --agent for those that have none) and the record's fields. Lines are stored in batches
that are all or nothing; the ids are printed when they are durable."""


def add_parser(commands: Any) -> None:
    """Declare the command."""
    parser = add_command(
        commands, "append", run, "append a record, or NDJSON from standard input", description=_DESCRIPTION
    )
    parser.add_argument("source", nargs="?", type=_dash, metavar="-", help="read NDJSON from standard input")
    parser.add_argument("--agent", metavar="ID", help="whose memory it is")
    parser.add_argument(
        "--type", dest="memory_type", type=str.upper, choices=[*MemoryType], help="default: INTERACTION"
    )
    parser.add_argument("--importance", type=str.upper, choices=[*Importance], help="default: MEDIUM")
    parser.add_argument("--input", metavar="TEXT", help="what the agent was asked")
    parser.add_argument("--response", metavar="TEXT", help="what it answered")
    parser.add_argument("--content", metavar="JSON", help="free JSON; text in quotes: '\"...\"'")
    parser.add_argument("--tag", dest="tags", action="append", metavar="TAG", help="repeat for several")
    parser.add_argument("--session", metavar="ID", help="context.session_id")
    add_context(parser, "a key of the context")
    parser.add_argument("--parent", metavar="MEMORY_ID", help="relationships.parent_memory_id")
    parser.add_argument("--metadata", metavar="JSON", help="a JSON object")
    parser.add_argument("--timestamp", metavar="TIME", help="ISO 8601 (UTC unless it has a zone); default: now")
    parser.add_argument("--source-id", metavar="ID", help="its id elsewhere: appending it twice stores it once")


def _dash(text: str) -> str:
    if text != "-":
        raise argparse.ArgumentTypeError(f"{text!r} is no flag's value: text goes to --input, JSON to --content")
    return text


def run(args: argparse.Namespace) -> int:
    """Append; prints the ids."""
    given = {name: value for name in _FIELD_FLAGS if (value := getattr(args, name)) is not None}
    out = Output.of(args)
    if args.agent is not None:
        check_agent_id(args.agent)  # before a store is made for it
    if given and args.source is None:
        if args.agent is None:
            raise UsageError("append needs --agent ID: whose memory is it?")
        fields = _fields(given)
        with open_for_writing(args, create=True) as store:
            memory_id = store.append(agent_id=args.agent, **fields)
        _print_ids(out, [memory_id], first=True)
        return 0
    if given:
        flags = ", ".join(_FIELD_FLAGS[name] for name in given)
        raise UsageError(
            f"append - reads whole records from standard input; {flags} would fill one: leave out one of the two"
        )
    if args.source is None and sys.stdin.isatty():
        raise UsageError(
            "nothing to append: give --input, --response or --content, or NDJSON on standard input (append -)"
        )
    with open_for_writing(args, create=True) as store:
        _append_lines(store, sys.stdin.buffer, args.agent, out)
    return 0


def _fields(given: dict[str, Any]) -> dict[str, Any]:
    for name, value in given.items():
        for text in [value] if isinstance(value, str) else value:
            if not text.isascii() and any("\ud800" <= char <= "\udfff" for char in text):
                raise InvalidRecordError(f"{_FIELD_FLAGS[name]} is not valid UTF-8: {text[:40]!r}")
    if "source_id" in given and "timestamp" not in given:
        raise UsageError("--source-id needs --timestamp: the id of the record is made of both")
    fields = dict(given)
    for name in ("content", "metadata"):
        if name in fields:
            fields[name] = json_value(fields[name], f"--{name}")
    if "context" in fields:
        fields["context"] = context_pairs(fields["context"])
    return fields


def _append_lines(store: MemStore, stream: IO[bytes], agent_id: str | None, out: Output) -> None:
    stored, stored_to_line = 0, 0
    for batch in _batches(stream):
        numbers = [number for number, _ in batch]
        try:
            records = [_parse(line, number, agent_id) for number, line in batch]
            ids = store.append_many(records)
        except MemstoreError as error:
            kept = f"lines 1 to {stored_to_line} are stored, no later one" if stored_to_line else "no line is stored"
            again = "the rest" if stored_to_line else "it"
            if not isinstance(error, InvalidRecordError):
                note(f"standard input: {kept}")
                raise
            number = numbers[error.index] if error.index is not None else None
            reason = str(error) if number is None else f"line {number}: {error.reason}"
            raise InvalidRecordError(f"standard input, {reason} ({kept}; mend it and send {again} again)") from error
        _print_ids(out, ids, first=stored == 0)
        stored += len(ids)
        stored_to_line = numbers[-1]
    note(f"{stored:,} record{'' if stored == 1 else 's'} stored")


def _parse(line: bytes, number: int, agent_id: str | None) -> dict[str, Any]:
    try:
        record = msgspec.json.decode(line)  # unlike orjson it does not turn a huge integer into a float
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise InvalidRecordError(f"line {number}: is not JSON: {error}") from error
    if not isinstance(record, dict):
        raise InvalidRecordError(
            f"line {number}: is a JSON {type(record).__name__}, not an object with the fields of a record"
        )
    if agent_id is not None:
        record.setdefault("agent_id", agent_id)
    elif "agent_id" not in record:
        raise InvalidRecordError(f"line {number}: has no agent_id, and there is no --agent")
    return record


def _batches(stream: IO[bytes]) -> Iterator[list[tuple[int, bytes]]]:
    """Numbered lines, as many as are at hand, up to ``_BATCH_RECORDS_MAX``; blank lines are counted and left out."""
    number = 0
    for lines in _lines_at_hand(stream):
        batch: list[tuple[int, bytes]] = []
        for line in lines:
            number += 1
            if line.strip():
                batch.append((number, line))
            if len(batch) == _BATCH_RECORDS_MAX:
                yield batch
                batch = []
        if batch:
            yield batch


def _lines_at_hand(stream: IO[bytes]) -> Iterator[list[bytes]]:
    """Whole lines as reads bring them; the last may lack its line break."""
    pieces: list[bytes] = []
    held_bytes = 0
    first = True
    while data := stream.read1(_READ_BYTES):  # type: ignore[attr-defined] # every buffered reader has it
        if first:
            data, first = data.removeprefix(codecs.BOM_UTF8), False
        head, newline, tail = data.rpartition(b"\n")
        if newline:
            pieces.append(head)
            yield b"".join(pieces).split(b"\n")
            pieces, held_bytes = [], 0
        pieces.append(tail)
        held_bytes += len(tail)
        if held_bytes > _LINE_BYTES_MAX:
            raise InvalidRecordError(f"standard input: a line is longer than {_LINE_BYTES_MAX} bytes: is it NDJSON?")
    rest = b"".join(pieces)
    if rest:
        yield [rest]


def _print_ids(out: Output, ids: list[str], *, first: bool) -> None:
    """Bare ids, so that ``id=$(memstore append ...)`` works; as JSON or csv only where that was asked for."""
    form = out.format if out.chosen else "table"
    if form == "csv" and first:
        out.write_text(csv_line(["memory_id"]))
    for memory_id in ids:
        if form in ("json", "ndjson"):
            out.write_text(json.dumps({"memory_id": memory_id}, ensure_ascii=False) + "\n")
        else:
            out.write_text(csv_line([memory_id]) if form == "csv" else f"{memory_id}\n")
    out.flush()
