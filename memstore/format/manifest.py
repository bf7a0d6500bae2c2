"""A MANIFEST's lines: an agent's append-only index and history (docs/FORMAT.md, "MANIFEST").

::

    {"manifest":{version, agent, at}}                             once, first: the true agent id
    {"merge":{id, at, lanes, run_bytes, chunks:[{file, offset, blocks}]}}    each merge of lanes into day files
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec
import orjson

from memstore.errors import StorageError
from memstore.format.checked import encode_checked, verified_body
from memstore.format.version import FORMAT_VERSION, check_version

BLOCK_BYTES_MAX = 64 * 1024
"""A block is closed before the line that would pass this; one longer line is a block of its own. A read of one record
costs one block: 64 KiB is 10 µs from the page cache, and 20 bytes of index per block are then 0.03 % of the data."""


RUN_BYTES = 8 * 1024 * 1024
"""How many bytes of slices a merge sorts at once where its line does not say."""


class Block(NamedTuple):
    """Part of a chunk: ``length`` bytes, ``records`` lines, times in microseconds (inclusive), checksum."""

    length: int
    records: int
    t_min: int
    t_max: int
    xxh3: str


class Chunk(msgspec.Struct, frozen=True):
    """What one merge appended to one day file, from ``offset`` on, as blocks that follow each other."""

    file: str
    offset: int
    blocks: list[Block]

    @property
    def length_bytes(self) -> int:
        """Bytes of all its blocks."""
        return sum(block.length for block in self.blocks)


class Merge(msgspec.Struct, frozen=True, kw_only=True):
    """One merge line: ``lanes`` are the tokens of the lanes whose slices of this agent it copied.

    ``run_bytes`` is how many bytes of slices it sorted at once: whoever repeats the merge, with whatever settings,
    must get the same bytes. Left out of the line where it is `RUN_BYTES`.
    """

    id: str
    at: int
    lanes: list[str]
    run_bytes: int = RUN_BYTES
    chunks: list[Chunk]


class ManifestHeader(msgspec.Struct, frozen=True, kw_only=True):
    """First line: whose MANIFEST it is."""

    version: int
    agent: str
    at: int


class ManifestLine(msgspec.Struct, frozen=True):
    """One decoded line: exactly one attribute is set, or none for a kind this version does not know."""

    manifest: ManifestHeader | None = None
    merge: Merge | None = None


_decoder = msgspec.json.Decoder(ManifestLine)


def encode_manifest_header(*, agent: str, at: int) -> bytes:
    """The first line."""
    return encode_checked("manifest", {"version": FORMAT_VERSION, "agent": agent, "at": at})


def encode_merge(
    *, merge_id: str, at: int, lanes: list[str], chunks: list[tuple[str, int, list[Block]]], run_bytes: int = RUN_BYTES
) -> bytes:
    """A merge line; ``chunks`` are ``(file, offset, blocks)``."""
    return encode_checked(
        "merge",
        {
            "id": merge_id,
            "at": at,
            "lanes": lanes,
            **({} if run_bytes == RUN_BYTES else {"run_bytes": run_bytes}),
            "chunks": [{"file": file, "offset": offset, "blocks": blocks} for file, offset, blocks in chunks],
        },
    )


def decode_manifest_line(line: bytes, path: str) -> ManifestLine | None:
    """The line's content, or None where it does not verify. ``line`` has no line break.

    Raises:
        VersionError: the MANIFEST was written by a newer format.
        StorageError: the line verifies but is no line of this version.
    """
    body = verified_body(line)
    if body is None:
        return None
    try:
        decoded = _decoder.decode(body)
    except msgspec.DecodeError as error:
        raise StorageError(f"{path}: a line of unknown form, written by a newer memstore? {error}") from error
    if decoded.manifest is not None:
        check_version(decoded.manifest.version, path)
    elif decoded.merge is None:
        raise StorageError(f"{path}: a line of unknown kind {next(iter(orjson.loads(body)))!r}; upgrade memstore")
    return decoded
