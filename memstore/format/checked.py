r"""Checked lines: one JSON object with one kind, its value, and a checksum over itself.

::

    {"commit":{...},"xxh3":"0123456789abcdef"}\\n
    `------ checksummed -----'

Everything memstore writes about records (lane headers and footers, MANIFEST lines, STORE.json) is a checked line, so
that all of it stays readable with ``cat`` and none of it can be damaged in silence.
"""

from __future__ import annotations

from typing import Any

import msgspec
import orjson

from memstore.codec.checksum import CHECKSUM_CHARS, checksum

_INFIX = b',"xxh3":"'
_TAIL_BYTES = len(_INFIX) + CHECKSUM_CHARS + len(b'"}')
"""What follows the checksummed part, the line break aside."""


def encode_checked(kind: str, value: object) -> bytes:
    """The line, line break included."""
    body = msgspec.json.encode({kind: value})[:-1]
    return b'%b,"xxh3":"%b"}\n' % (body, checksum(body).encode())


def verified_body(line: bytes) -> bytes | None:
    """The JSON object without its checksum, or None where the line does not verify. ``line`` has no line break."""
    body = line[:-_TAIL_BYTES]
    if line[-_TAIL_BYTES:] != b'%b%b"}' % (_INFIX, checksum(body).encode()):
        return None
    return body + b"}"


def states_the_same(damaged: bytes, line: bytes) -> bool:
    """Whether a line that does not verify was one that does, by the checksum that it states. Without line breaks."""
    return len(damaged) == len(line) and damaged[-_TAIL_BYTES:] == line[-_TAIL_BYTES:]


def may_be_the_same(damaged: bytes, line: bytes) -> bool:
    """Whether a line that does not verify has the body, or the checksum, of one that does. Without line breaks."""
    return states_the_same(damaged, line) or (
        len(damaged) == len(line) and damaged[:-_TAIL_BYTES] == line[:-_TAIL_BYTES]
    )


def decode_checked(line: bytes) -> tuple[str, Any] | None:
    """``(kind, value)``, or None where the line does not verify. ``line`` has no line break."""
    body = verified_body(line)
    if body is None:
        return None
    ((kind, value),) = orjson.loads(body).items()
    return kind, value
