"""The layout of a repeat: a line that stands for a record whose content an earlier line of the file has already.

::

    {"memory_id":"...","timestamp_utc":"...","agent_id":"bot",...,"source_id":"a1",...}             the original
    {"memory_id":"...","timestamp_utc":"...","repeat_of":"<memory_id of the original>","source_id":"b2"}    a repeat
    `-------------- head -----------------'`---------------- what it says ---------------------------'

A repeat says what is its own: id, time, and the text of its top-level fields ``source_id`` and ``timestamp_local``
where it has them, in this order and in the very bytes of the record. All else is the original's. It is a line of its
own in its own place, so lines are counted and sorted as ever, and a join on ``repeat_of`` gives back the content.

**Why no wrong record can come of it.** A repeat is written only after it has been expanded against its original by
the function that readers use, and only where that gave the record's line, byte for byte. Whatever found the two lines
to be alike (a hash, a search that was fooled) may be wrong: then the bytes differ and the record stays whole. What
the check of bytes would not see is a nested ``source_id`` that a repeat shows as its own, for those who join in SQL;
so a field is taken for a top-level one only on proof. Compact JSON has the bytes ``,"source_id":"`` nowhere but at a
key: inside a text its first quote would have a backslash before it. And the key stands at the top if no bracket
opens before it, or if what stands before it is, with a brace at each end, a whole JSON object: inside anything
nested a bracket would be left open.
"""

from __future__ import annotations

import re

import msgspec
import xxhash

from memstore.format.lines import ID_STAMP_CHARS

_ID_KEY = b'{"memory_id":"'
_ID_START = len(_ID_KEY)
_ID_CHARS = ID_STAMP_CHARS + 16
"""What follows the agent prefix in an id: its stamp and 16 hex digits."""
_TIME_KEY = b'","timestamp_utc":"'
_HEAD_CHARS = _ID_CHARS + len(_TIME_KEY) + 27 + 1
_REPEAT_KEY = b',"repeat_of":"'
SOURCE_KEY = b',"source_id":"'
LOCAL_KEY = b',"timestamp_local":"'
"""In a line, these bytes are keys whose value is a text, of whatever object."""
REPEAT_FIELD = b'"repeat_of"'
"""Bytes without which a line has no field of that name."""
_CLOSE = ord("}")
_CANDIDATES_MAX = 4
"""How many keys of one name are tried before a record is taken to have none at the top: each try parses what stands
before it, and a list of a thousand objects that have a ``source_id`` each must not cost a thousand."""

_text = re.compile(rb'(?:[^"\\]|\\.)*+"', re.DOTALL)


class _Anything(msgspec.Struct):
    """Any JSON object: decoding to it checks the form and builds nothing."""


class _RepeatField(msgspec.Struct):
    repeat_of: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


_check_object = msgspec.json.Decoder(_Anything).decode
_decode_repeat_field = msgspec.json.Decoder(_RepeatField).decode


class LineParts(msgspec.Struct, frozen=True, gc=False):
    """A record's line, taken apart: joined, ``parts`` are the line.

    Attributes:
        parts: the head; then, in turn, what any repeat of it has too and what is the record's own.
        source_at: which part is the text of ``source_id``; 0 where it has none.
        local_at: which part is the text of ``timestamp_local``; 0 where it has none.
    """

    parts: list[bytes]
    source_at: int
    local_at: int

    @property
    def common(self) -> bytes:
        """What two records must share for one to be a repeat of the other."""
        return b"".join(self.parts[1::2])


def is_repeat(line: bytes, prefix_bytes: int) -> bool:
    """Whether a line of a file that has repeats is one; ``prefix_bytes`` is the length of the agent's prefix."""
    return line.startswith(_REPEAT_KEY, prefix_bytes + _HEAD_CHARS)


def looks_like_repeat(line: bytes) -> bool:
    """Whether a record has a field ``repeat_of`` of its own, so that no line of its file may be collapsed.

    A reader would only be fooled by one right behind the time; people who join on ``repeat_of``, by any.
    """
    if REPEAT_FIELD not in line:
        return False
    try:
        return _decode_repeat_field(line).repeat_of is not msgspec.UNSET
    except (msgspec.DecodeError, RecursionError):
        return True


def original_id(line: bytes, prefix_bytes: int) -> bytes:
    """The ``memory_id`` of a repeat's original, JSON-escaped, as its own line has it.

    Raises:
        ValueError: the line is no repeat.
    """
    return _original_id(line, prefix_bytes)[0]


def original_needle(line: bytes, prefix_bytes: int) -> bytes:
    """What the line of a repeat's original starts with, and no other line of the agent.

    Raises:
        ValueError: the line is no repeat.
    """
    return b'%b%b"' % (_ID_KEY, _original_id(line, prefix_bytes)[0])


def line_needle(line: bytes, prefix_bytes: int) -> bytes:
    """What this line starts with, and no other line of the agent."""
    return line[: prefix_bytes + _ID_CHARS + 1]


def take_apart(line: bytes, prefix_bytes: int) -> LineParts | None:
    """The parts of a record's line without its line break; None for a repeat and for a line of another layout."""
    start = prefix_bytes + _HEAD_CHARS
    if not line.startswith(_TIME_KEY, prefix_bytes + _ID_CHARS) or not line.startswith(b'",', start - 1):
        return None
    if line.startswith(_REPEAT_KEY, start):
        return None
    return _split_at(line, prefix_bytes, _find_text(line, start, SOURCE_KEY), _find_text(line, start, LOCAL_KEY))


def content_key(line: bytes, prefix_bytes: int) -> tuple[bytes, LineParts] | None:
    """16 bytes that a record and its repeats share, and the line's parts; None where `take_apart` gives None.

    Two records that share them are probably alike; `encode_parts` makes sure.
    """
    parts = take_apart(line, prefix_bytes)
    return None if parts is None else (hash_content(parts.common), parts)


def hash_content(content: bytes) -> bytes:
    """16 bytes of what a record and its repeats share (`LineParts.common`)."""
    return xxhash.xxh3_128_digest(content)


def body_start(prefix_bytes: int) -> int:
    """Where a line goes on behind its id and time."""
    return prefix_bytes + _HEAD_CHARS


def encode_repeat(line: bytes, original_line: bytes, prefix_bytes: int) -> bytes | None:
    """The repeat that stands for a record.

    Args:
        line: the record's line, without its line break.
        original_line: an earlier record's line, likewise.
        prefix_bytes: length of the agent's prefix.

    Returns:
        The repeat's line without line break, or None where it would not come back byte for byte or is not shorter.
    """
    parts, original = take_apart(line, prefix_bytes), take_apart(original_line, prefix_bytes)
    return None if parts is None or original is None else encode_parts(line, parts, original, prefix_bytes)


def encode_parts(line: bytes, parts: LineParts, original: LineParts, prefix_bytes: int) -> bytes | None:
    """`encode_repeat` of lines that have been taken apart."""
    head, original_head = parts.parts[0], original.parts[0]
    said = [head, _REPEAT_KEY, original_head[_ID_START : prefix_bytes + _ID_CHARS], b'"']
    if parts.source_at:
        said += (SOURCE_KEY, parts.parts[parts.source_at], b'"')
    if parts.local_at:
        said += (LOCAL_KEY, parts.parts[parts.local_at], b'"')
    said.append(b"}")
    repeat = b"".join(said)
    if len(repeat) >= len(line):
        return None
    try:
        return repeat if expand_parts(repeat, original, prefix_bytes) == line else None
    except ValueError:
        return None


def expand_repeat(line: bytes, original_line: bytes, prefix_bytes: int) -> bytes:
    """The line of the record that a repeat stands for; no line break in any of the three.

    Raises:
        ValueError: the line is no repeat, or not one of this original.
    """
    original = take_apart(original_line, prefix_bytes)
    if original is None:
        raise ValueError(f"an original must be a whole record, not {original_line[:200]!r}")
    return expand_parts(line, original, prefix_bytes)


def expand_parts(line: bytes, original: LineParts, prefix_bytes: int) -> bytes:
    """`expand_repeat` with an original that has been taken apart.

    Raises:
        ValueError: the line is no repeat, or not one of this original.
    """
    found, at = _original_id(line, prefix_bytes)
    parts = original.parts.copy()
    if not parts[0].startswith(found, _ID_START):
        raise ValueError(f"{found!r} is not the id of the original, {parts[0]!r}")
    parts[0] = line[: prefix_bytes + _HEAD_CHARS]
    for key, place in ((SOURCE_KEY, original.source_at), (LOCAL_KEY, original.local_at)):
        if line.startswith(key, at):
            end = _text_end(line, at + len(key))
            if not place or end < 0:
                raise ValueError(f"a repeat has a field that its original does not have: {line[:400]!r}")
            parts[place] = line[at + len(key) : end]
            at = end + 1
    if len(line) != at + 1 or line[at] != _CLOSE:
        raise ValueError(f"a repeat says more than it may: {line[:400]!r}")
    return b"".join(parts)


def _split_at(line: bytes, prefix_bytes: int, source: tuple[int, int], local: tuple[int, int]) -> LineParts:
    """The parts of a line in which the texts of the two fields go from where to where; ``(-1, -1)`` for none."""
    start = prefix_bytes + _HEAD_CHARS
    parts = [line[:start]]
    source_at = local_at = 0
    if 0 <= local[0] < source[0]:
        local_at, source_at = 2, 4
    elif source[0] >= 0:
        source_at, local_at = 2, 4 if local[0] >= 0 else 0
    elif local[0] >= 0:
        local_at = 2
    for begin, end in (local, source) if local[0] < source[0] else (source, local):
        if begin >= 0:
            parts += (line[start:begin], line[begin:end])
            start = end
    parts.append(line[start:])
    return LineParts(parts, source_at, local_at)


def _original_id(line: bytes, prefix_bytes: int) -> tuple[bytes, int]:
    """A repeat's original and where the line goes on behind it."""
    start = prefix_bytes + _HEAD_CHARS
    if not line.startswith(_REPEAT_KEY, start):
        raise ValueError(f"no repeat: {line[:400]!r}")
    start += len(_REPEAT_KEY)
    end = start + prefix_bytes + _ID_CHARS - _ID_START  # ids of one agent have one length
    if not line.startswith(b'"', end) or not line.startswith(line[_ID_START:prefix_bytes], start):
        raise ValueError(f"a repeat of something that is no record of its agent: {line[:400]!r}")
    return line[start:end], end + 1


def _find_text(line: bytes, start: int, key: bytes) -> tuple[int, int]:
    """Where the text of a top-level field begins and ends; ``(-1, -1)`` where it has none that can be proved."""
    place = line.find(key, start)
    tries = 0
    while place >= 0 and tries < _CANDIDATES_MAX:
        if _is_top_level(line, start, place):
            begin = place + len(key)
            end = _text_end(line, begin)
            return (begin, end) if end >= 0 else (-1, -1)
        tries += 1
        place = line.find(key, place + 1)
    return -1, -1


def _is_top_level(line: bytes, start: int, place: int) -> bool:
    if line.find(b"{", start, place) < 0 and line.find(b"[", start, place) < 0:
        return True
    try:
        _check_object(b"{%b}" % line[start + 1 : place])
    except (msgspec.DecodeError, RecursionError):
        return False
    return True


def _text_end(line: bytes, start: int) -> int:
    """Where the quote stands that ends a JSON text; -1 where none does."""
    end = line.find(b'"', start)
    if line.find(b"\\", start, end) < 0:
        return end
    match = _text.match(line, start)
    return -1 if match is None else match.end() - 1
