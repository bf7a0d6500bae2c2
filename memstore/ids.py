"""Mint and read memory ids; agent ids to directory names.

A memory id routes itself (DESIGN 4)::

    {agent_id}_{YYYYMMDD}_{HHMMSS}_{ffffff}{16 hex digits}
               `------ one clock reading, UTC -----'

The 16 hex digits are what makes it unique. Minted here: 31 bits of writer number and 32 bits of sequence, so the
first bit is 0; uniqueness never rests on the clock. Derived from a record that came from elsewhere: the first bit is
1 and 63 bits are the hash of its agent and source id, so that importing it twice gives the same id. The tail is
fixed-width and is read from the end, because an agent id may hold underscores; so lines of one agent that are sorted
as bytes are sorted by time.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

import xxhash

from memstore.errors import InvalidRecordError, UsageError
from memstore.timestamps import id_stamp_to_us, iso_and_id_stamp

AGENT_ID_BYTES_MAX = 200
WRITER_NUMBER_MAX = 2**31 - 1
SEQUENCE_BITS = 32
SEQUENCE_MAX = 2**SEQUENCE_BITS - 1
SUFFIX_CHARS = 16
"""Hex digits behind the microseconds: writer number and sequence, or a hash of the id elsewhere."""
ID_TAIL_CHARS = 39
"""``_YYYYMMDD_HHMMSS_`` (17) and the suffix of 6 + 16."""

_TAIL = re.compile(r"_(\d{8}_\d{6})_(\d{6})([0-9a-f]{16})")
_PLAIN_DIRECTORY = re.compile(r"[a-z0-9][a-z0-9_-]{0,79}")
_UNSAFE_CHARS = re.compile(r"[^a-z0-9_-]+")
_DIRECTORY_PREFIX_CHARS = 40
_HASHED_DIRECTORY = re.compile(r".*~[0-9a-f]{32}")
# Windows device names: a store is plain files and people copy them to other machines.
_RESERVED_NAMES = frozenset({"con", "prn", "aux", "nul", *(f"{d}{n}" for d in ("com", "lpt") for n in range(10))})


@dataclass(frozen=True, slots=True)
class IdParts:
    """What a memory id says of its record."""

    agent_id: str
    time_us: int
    day: str
    """UTC day, ``YYYYMMDD``."""


def check_agent_id(agent_id: object) -> str:
    """The agent id, if it can be one.

    Raises:
        InvalidRecordError: empty, over 200 bytes of UTF-8, not text, or holding control characters.
    """
    if not isinstance(agent_id, str):
        raise InvalidRecordError(f"agent_id must be text, not {type(agent_id).__name__}")
    if not agent_id:
        raise InvalidRecordError("agent_id is empty")
    try:
        length = len(agent_id.encode())
    except UnicodeEncodeError as error:
        raise InvalidRecordError("agent_id holds a lone surrogate and is no valid text") from error
    if length > AGENT_ID_BYTES_MAX:
        raise InvalidRecordError(f"agent_id is {length} bytes of UTF-8; the limit is {AGENT_ID_BYTES_MAX}")
    if any(char < " " or char == "\x7f" for char in agent_id):
        raise InvalidRecordError("agent_id holds a control character (NUL, newline, ...)")
    return agent_id


def minted_number(writer_number: int, sequence: int) -> int:
    """The 64 bits of a record minted by this store; both numbers fit (31 and 32 bits)."""
    return writer_number << SEQUENCE_BITS | sequence


def number_suffix(number: int) -> str:
    """The 16 hex digits at the end of an id."""
    return f"{number:016x}"


def derived_suffix(agent_id: str, source_id: str) -> str:
    """16 hex digits of a record that came from elsewhere; the same for the same agent and source id."""
    digest = xxhash.xxh3_64_intdigest(f"{agent_id}\0{source_id}".encode())
    return f"{digest | 1 << 63:016x}"


def derived_id(agent_id: str, source_id: str, time_us: int) -> str:
    """The memory id of a record that came from elsewhere."""
    return f"{agent_id}_{iso_and_id_stamp(time_us)[1]}{derived_suffix(agent_id, source_id)}"


def is_derived_id(memory_id: str) -> bool:
    """Whether the record came from elsewhere, so that it would get the same id if it came again."""
    return memory_id[-SUFFIX_CHARS] >= "8"  # the first bit of the suffix


def writer_of_id(memory_id: str) -> int:
    """The writer number in an id that is not derived."""
    return int(memory_id[-SUFFIX_CHARS:], 16) >> 32


def parse_id(memory_id: object) -> IdParts:
    """Read a memory id.

    Raises:
        UsageError: not an id of this form.
    """
    if not isinstance(memory_id, str):
        raise UsageError(f"a memory id is text, not {type(memory_id).__name__}")
    match = _TAIL.fullmatch(memory_id, max(len(memory_id) - ID_TAIL_CHARS, 0))
    if match is None or len(memory_id) <= ID_TAIL_CHARS:
        raise UsageError(
            f"{memory_id!r} is not a memory id of this store: those end in _YYYYMMDD_HHMMSS_ and 22 hex digits. "
            "A record from elsewhere keeps its own id as source_id."
        )
    try:
        time_us = id_stamp_to_us(f"{match[1]}_{match[2]}")
    except ValueError as error:
        raise UsageError(f"{memory_id!r} is not a memory id of this store: {error}") from error
    return IdParts(memory_id[:-ID_TAIL_CHARS], time_us, match[1][:8])


@lru_cache(maxsize=16384)
def agent_directory(agent_id: str) -> str:
    """The directory name of an agent.

    A plain id (lower case ASCII letters, digits, ``_``, ``-``, up to 80) is its own name. Any other becomes a
    readable prefix, ``~`` and 128 bits of its hash, which no plain id can look like: so two ids never share a
    directory, not on a case-blind file system either, and none can be ``..`` or a device name. The true id stands in
    the MANIFEST's first line.
    """
    if _PLAIN_DIRECTORY.fullmatch(agent_id) and agent_id not in _RESERVED_NAMES:
        return agent_id
    prefix = _UNSAFE_CHARS.sub("-", agent_id.lower())[:_DIRECTORY_PREFIX_CHARS].strip("-")
    return f"{prefix or 'agent'}~{xxhash.xxh3_128_hexdigest(agent_id.encode())}"


def directory_agent(directory: str) -> str | None:
    """The agent id of a directory name, or None where only the MANIFEST's first line can say."""
    if _HASHED_DIRECTORY.fullmatch(directory):
        return None
    return directory
