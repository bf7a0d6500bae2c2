"""A lane's lines: header, commits, and the footer of a sealed one (docs/FORMAT.md, "Lanes").

::

    {"lane":{...}}                         once
    {"commit":{at, bytes, slices}}         each commit: one line, then `bytes` bytes of record lines
    {"slice":[...]}                        footer of a sealed lane: every slice, sorted by agent, day, offset
    {"seal":{...}}                         the last line; tells where the footer starts
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from memstore.format.checked import encode_checked, verified_body
from memstore.format.version import FORMAT_VERSION

COMMIT_START = b'{"commit":'
FOOTER_START = b'{"slice":'
SEAL_START = b'{"seal":'
SEAL_LINE_BYTES_MAX = 64 * 1024
"""How far from the end a seal line may start: it is short but for its list of damaged ranges."""
DAMAGED_RANGES_MAX = 1000
"""Ranges listed in a seal; further ones are joined with the last, so that the line stays under its limit."""


class Slice(NamedTuple):
    """Contiguous, sorted lines of one agent and one UTC day inside a commit.

    ``offset`` and ``length`` are bytes: from the start of the commit's body in a commit line, from the start of the
    file in a footer and in memory. ``t_min`` and ``t_max`` are microseconds, both inclusive.
    """

    agent: str
    day: str
    offset: int
    length: int
    records: int
    t_min: int
    t_max: int
    xxh3: str


class LaneHeader(msgspec.Struct, frozen=True, kw_only=True):
    """First line of a lane.

    Attributes:
        version: format version.
        store: id of the store it belongs to.
        writer: writer number of the process that made it.
        at: microseconds.
        durability: ``fsync`` or ``os``; after a power cut a lane of ``os`` may have holes.
    """

    version: int
    store: str
    writer: int
    at: int
    durability: str


class Commit(msgspec.Struct, frozen=True, kw_only=True):
    """One group of records made durable together; ``bytes`` of record lines follow its line."""

    at: int
    bytes: int
    slices: list[Slice]


class Seal(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Last line of a sealed lane.

    Attributes:
        at: when it was sealed, microseconds.
        footer: offset of the first ``slice`` line.
        commits: how many.
        records: how many.
        slices: how many footer lines.
        agents: how many have a slice.
        damaged: ``[offset, length]`` ranges between commits that do not verify.
    """

    at: int
    footer: int
    commits: int
    records: int
    slices: int
    agents: int
    damaged: list[tuple[int, int]] = []


class _LaneLine(msgspec.Struct):
    lane: LaneHeader


class _CommitLine(msgspec.Struct):
    commit: Commit


class _SliceLine(msgspec.Struct):
    slice: Slice


class _SealLine(msgspec.Struct):
    seal: Seal


_lane_decoder = msgspec.json.Decoder(_LaneLine)
_commit_decoder = msgspec.json.Decoder(_CommitLine)
_slice_decoder = msgspec.json.Decoder(_SliceLine)
_seal_decoder = msgspec.json.Decoder(_SealLine)


def encode_header(*, store: str, writer: int, at: int, durability: str) -> bytes:
    """The first line."""
    return encode_checked(
        "lane", {"version": FORMAT_VERSION, "store": store, "writer": writer, "at": at, "durability": durability}
    )


def encode_commit(*, at: int, body_bytes: int, slices: list[Slice]) -> bytes:
    """The line in front of a commit's body; slice offsets are relative to the body."""
    return encode_checked("commit", {"at": at, "bytes": body_bytes, "slices": slices})


def encode_slice(item: Slice) -> bytes:
    """A footer line; its offset is absolute."""
    return encode_checked("slice", item)


def encode_seal(seal: Seal) -> bytes:
    """The last line."""
    return encode_checked("seal", seal)


def decode_header(line: bytes) -> LaneHeader | None:
    """The header of a first line without its line break, or None where it does not verify."""
    body = verified_body(line)
    return None if body is None else _lane_decoder.decode(body).lane


def decode_commit(line: bytes) -> Commit | None:
    """The commit of a line without its line break, or None where it is none or does not verify."""
    if not line.startswith(COMMIT_START):
        return None
    body = verified_body(line)
    return None if body is None else _commit_decoder.decode(body).commit


def decode_slice(line: bytes) -> Slice | None:
    """The slice of a footer line without its line break, or None where it is none or does not verify."""
    if not line.startswith(FOOTER_START):
        return None
    body = verified_body(line)
    return None if body is None else _slice_decoder.decode(body).slice


def decode_seal(line: bytes) -> Seal | None:
    """The seal of a last line without its line break, or None where it is none or does not verify."""
    if not line.startswith(SEAL_START):
        return None
    body = verified_body(line)
    return None if body is None else _seal_decoder.decode(body).seal
