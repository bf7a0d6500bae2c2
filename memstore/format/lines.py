"""The layout of a record's line, as far as the engine looks into it: the id that comes first, and the time inside it.

::

    {"memory_id":"bdi_agent_001_20250115_143000_123456<16
    hex>","timestamp_utc":"2025-01-15T14:30:00.123456Z","agent_id":...} `----- agent prefix -------'`---- id stamp
    ------'

Because every line of an agent starts with the same bytes, lines compare as bytes in time order, a time is found by
position, and a time bound is a byte string to bisect with.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from functools import lru_cache

import orjson

from memstore.timestamps import day_start_us, iso_and_id_stamp

ID_STAMP_CHARS = 22
_ID_KEY = b'{"memory_id":"'


@lru_cache(maxsize=16384)
def agent_prefix(agent_id: str) -> bytes:
    """What every line of the agent starts with, up to its id stamp."""
    return _ID_KEY + orjson.dumps(agent_id)[1:-1] + b"_"


@lru_cache(maxsize=16384)
def _second_us(stamp: bytes) -> int:
    """Microseconds of ``YYYYMMDD_HHMMSS``."""
    text = stamp.decode("ascii")
    return day_start_us(text[:8]) + (int(text[9:11]) * 3600 + int(text[11:13]) * 60 + int(text[13:15])) * 1_000_000


def encode_line(agent_id: str, iso: str, id_stamp: str, suffix: str, body: bytes) -> bytes:
    """The line of a record, line break included.

    Args:
        agent_id: whose it is.
        iso: 27 characters, ``2025-01-15T14:30:00.123456Z``.
        id_stamp: the same time as in the id.
        suffix: 16 hex digits of the id.
        body: every other field as a JSON object (`memstore.draft.Draft.body`).
    """
    return b'%b%b%b","timestamp_utc":"%b",%b\n' % (
        agent_prefix(agent_id),
        id_stamp.encode(),
        suffix.encode(),
        iso.encode(),
        body[1:],
    )


def id_needle(memory_id: str) -> bytes:
    """What the line of this record starts with."""
    return b"%b%b" % (_ID_KEY, orjson.dumps(memory_id)[1:])


def line_time_us(line: bytes, prefix_bytes: int) -> int:
    """Time of a line, given the length of its agent's prefix.

    Raises:
        ValueError: the line does not have this layout.
    """
    second = line[prefix_bytes : prefix_bytes + 15]
    return _second_us(second) + int(line[prefix_bytes + 16 : prefix_bytes + ID_STAMP_CHARS])


def lines_span_us(lines: Sequence[bytes], prefix_bytes: int) -> tuple[int, int]:
    """Times of the first and the last of some sorted lines; at least one."""
    first, last = lines[0], lines[-1]
    t_min = line_time_us(first, prefix_bytes)
    stamp = slice(prefix_bytes, prefix_bytes + ID_STAMP_CHARS)
    # A batch of one clock reading is common, and comparing costs a tenth of reading a time.
    return t_min, t_min if last[stamp] == first[stamp] else line_time_us(last, prefix_bytes)


def split_lines(data: bytes) -> list[bytes]:
    """The lines, each with its line break; four times as fast as ``split``, and even than ``count``."""
    return io.BytesIO(data).readlines()


def bare_lines(data: bytes) -> list[bytes]:
    """The lines without their line breaks, of bytes that are empty or end in one; twice as fast as ``split``."""
    return [line[:-1] for line in io.BytesIO(data).readlines()]


def time_bound(prefix: bytes, time_us: int) -> bytes:
    """A byte string that sorts before every line of the agent at or after the time, and after every earlier one."""
    return prefix + _stamp(time_us)


@lru_cache(maxsize=4096)
def _stamp(time_us: int) -> bytes:
    """Reads ask for the bounds of the same days and pieces again and again."""
    return iso_and_id_stamp(time_us)[1].encode()
