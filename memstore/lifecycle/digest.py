"""Lossy digests: long text of an old routine record is cut, and the record says so. Off unless a user turns it on.

What is cut: texts in ``content``, ``input.content`` and ``response.content``, at any depth; keys never are. What says
so: ``metadata.digest`` with when, how many bytes of text are gone, and the checksum of the line as it was. All else
stays, in its order, fields that this version does not know too. A record that JSON tools would not write back byte for
byte as it stands (a number beyond 64 bits, 1e400, white space) is left alone: what a digest would change about it
beside the text, nobody has agreed to.
"""

from __future__ import annotations

from typing import Any

import orjson

from memstore.codec.checksum import checksum
from memstore.timestamps import iso_text

_ELLIPSIS = "…"
_ELLIPSIS_BYTES = len(_ELLIPSIS.encode())
_UTF8_CHAR_BYTES_MAX = 4
DIGEST_FIELD = "digest"


def digest_line(line: bytes, *, at_us: int, text_bytes_max: int) -> bytes | None:
    """The record with its long texts cut to their first ``text_bytes_max`` bytes and an ellipsis.

    Which records are routine is for the caller to say; this looks at no type, importance or age.

    Args:
        line: the record's line, without its line break.
        at_us: the time that the digest gives as its own.
        text_bytes_max: bytes of UTF-8 that stay of each text, fewer where a character would be split. A text that
            the ellipsis would make no shorter stays whole.

    Returns:
        The new line, shorter than the old one; or None where the record stays as it is: no text is long enough, it is
        a digest already, or it would not survive (see above).
    """
    if len(line) <= text_bytes_max:
        return None
    try:
        record = orjson.loads(line)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(record, dict):
        return None
    metadata = record.get("metadata", {})
    if not isinstance(metadata, dict) or DIGEST_FIELD in metadata or not _comes_back(record, line):
        return None
    removed = _cut_field(record, "content", text_bytes_max)
    for part in (record.get("input"), record.get("response")):
        if isinstance(part, dict):
            removed += _cut_field(part, "content", text_bytes_max)
    if not removed:
        return None
    record["metadata"] = {
        **metadata,
        DIGEST_FIELD: {"at": iso_text(at_us), "bytes": removed, "xxh3": checksum(line)},
    }
    digest = orjson.dumps(record)
    return digest if len(digest) < len(line) else None


def _comes_back(record: dict[str, Any], line: bytes) -> bool:
    try:
        return orjson.dumps(record) == line
    except orjson.JSONEncodeError:  # it reads deeper nesting than it writes
        return False


def _cut_field(holder: dict[str, Any], name: str, text_bytes_max: int) -> int:
    """Cut all texts in one field, in place; gives the bytes of text that are gone. JSON nests deeper than calls may."""
    removed = 0
    pending: list[tuple[dict[str, Any] | list[Any], Any]] = [(holder, name)] if name in holder else []
    while pending:
        parent, place = pending.pop()
        value = parent[place]
        if isinstance(value, str):
            parent[place], gone = _cut(value, text_bytes_max)
            removed += gone
        elif isinstance(value, dict):
            pending.extend((value, key) for key in value)
        elif isinstance(value, list):
            pending.extend((value, index) for index in range(len(value)))
    return removed


def _cut(text: str, text_bytes_max: int) -> tuple[str, int]:
    """A text cut, and how many bytes of it are gone."""
    if len(text) * _UTF8_CHAR_BYTES_MAX <= text_bytes_max:
        return text, 0
    data = text.encode()
    if len(data) <= text_bytes_max + _ELLIPSIS_BYTES:
        return text, 0
    kept = data[:text_bytes_max].decode(errors="ignore")
    return kept + _ELLIPSIS, len(data) - len(kept.encode())
