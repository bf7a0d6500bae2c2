"""A MANIFEST's lines: an agent's append-only index and history (docs/FORMAT.md, "MANIFEST").

::

    {"manifest":{version, agent, at, id}}                         once, first: the true agent id
    {"state":{...}}                                               where it was compacted: all that its lines had said
    {"merge":{id, at, lanes, run_bytes, chunks:[{file, offset, blocks}]}}    each merge of lanes into day files
    {"move":{at, reason, from, to, trash, purged}}            files that others take the place of
    {"hide":{at, ids}}  {"show":{at, ids}}                        tombstones, and what takes them back
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


class Frame(NamedTuple):
    """One zstd frame of a packed file.

    Attributes:
        length: bytes of the frame itself.
        raw_length: bytes of the lines in it.
        records: how many lines.
        t_min: first time, microseconds.
        t_max: last time, inclusive.
        ingested: when the youngest of its lines reached a day file, microseconds.
        xxh3: checksum of the frame's own bytes.
    """

    length: int
    raw_length: int
    records: int
    t_min: int
    t_max: int
    ingested: int
    xxh3: str


class KindCount(NamedTuple):
    """How many records of one type and importance a packed file holds, and from when to when."""

    memory_type: str
    importance: str
    records: int
    t_min: int
    t_max: int


class PackedFile(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A warm or cold file: frames that follow each other from offset 0, and a seek table behind them.

    Attributes:
        file: its name; the name says whether it is warm or cold.
        size: bytes of the whole file, seek table included.
        xxh3: checksum over all lines as they come out of `zstdcat` (`xxhsum -H3` of it).
        frames: in order; their lines are sorted through the whole file.
        kinds: records by type and importance; they add up to ``records``.
        own: how many records set ``metadata.retention_days`` themselves, and the earliest and the latest time at
            which one of those periods ends (microseconds); None where no record does.
        judged: the checksum of the rules and holds by which every record of it was judged last, and the time before
            which none of them expires by these (microseconds); None where it was not.
        repeats: lines that stand for a record that repeats another one's content.
        saved: bytes that those lines would have taken, less what they take.
        digests: records whose long text was replaced by a digest.
        digested_until: all routine records up to this time (microseconds) have been looked at for digests.
    """

    file: str
    size: int
    xxh3: str
    frames: list[Frame]
    kinds: list[KindCount]
    own: tuple[int, int, int] | None = None
    judged: tuple[str, int] | None = None
    repeats: int = 0
    saved: int = 0
    digests: int = 0
    digested_until: int = 0

    @property
    def records(self) -> int:
        """Lines in all of its frames."""
        return sum(frame.records for frame in self.frames)

    @property
    def raw_bytes(self) -> int:
        """Bytes of its lines, unpacked."""
        return sum(frame.raw_length for frame in self.frames)

    @property
    def t_min(self) -> int:
        """Time of its first record."""
        return self.frames[0].t_min

    @property
    def t_max(self) -> int:
        """Time of its last record."""
        return self.frames[-1].t_max

    @property
    def ingested(self) -> int:
        """When the youngest of its records reached a day file."""
        return max(frame.ingested for frame in self.frames)


class TrashedFile(msgspec.Struct, frozen=True, kw_only=True):
    """A file whose records are hidden and come back with an undelete until ``purge_at`` (microseconds).

    Attributes:
        packed: what it holds.
        at: when it was put there.
        purge_at: from when on it may be removed for good.
        reason: why, for people.
    """

    packed: PackedFile
    at: int
    purge_at: int
    reason: str


class Move(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One move line: from now on ``to`` stands for the files ``from``.

    Attributes:
        at: when.
        reason: ``warm``, ``cold``, ``fold``, ``retention``, ``purge``, ``undelete``, ``digest``: for people.
        sources: names of day files and packed files (live or in the trash) that count no longer.
        to: packed files that count from now on.
        trash: packed files whose records are hidden from now on.
        purged: ids whose tombstones have been carried out: their lines were in ``sources`` and are nowhere now.
    """

    at: int
    reason: str
    sources: list[str] = msgspec.field(name="from")
    to: list[PackedFile] = []
    trash: list[TrashedFile] = []
    purged: list[str] = []


class Hide(msgspec.Struct, frozen=True, kw_only=True):
    """Tombstones: these records are hidden, and go for good when their file is next rewritten."""

    at: int
    ids: list[str]


class State(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """All that the lines of a MANIFEST had said when it was compacted.

    Attributes:
        at: when.
        next_version: no file of the agent has had this number, or a higher one.
        lanes: tokens of lanes that were merged within the last hour: a reader may still have listed them.
        days: the day files, each with the blocks of all of its merges.
        ingested: by day file, when its youngest lines were merged.
        packed: warm and cold files.
        trash: files that an undelete brings back.
        hidden: ids with a tombstone that has not been carried out.
        purged: ids whose tombstones have been carried out and that must not be imported again.
        dropped: names of files that count no longer and may still be there, with the time they were dropped.
        of: in a second copy: the first line of the store's MANIFEST, without its line break, and its length when it
            said just this.
    """

    at: int
    next_version: int
    lanes: list[str] = []
    days: list[Chunk] = []
    ingested: dict[str, int] = {}
    packed: list[PackedFile] = []
    trash: list[TrashedFile] = []
    hidden: list[str] = []
    purged: list[str] = []
    dropped: dict[str, int] = {}
    of: tuple[str, int] | None = None


class ManifestHeader(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """First line: whose MANIFEST it is, and (since version 2) which of its compactions, by a random id."""

    version: int
    agent: str
    at: int
    id: str = ""


class ManifestLine(msgspec.Struct, frozen=True):
    """One decoded line: exactly one attribute is set, or none for a kind this version does not know."""

    manifest: ManifestHeader | None = None
    merge: Merge | None = None
    state: State | None = None
    move: Move | None = None
    hide: Hide | None = None
    show: Hide | None = None


_decoder = msgspec.json.Decoder(ManifestLine)
_UNKNOWN = ManifestLine()


def encode_manifest_header(*, agent: str, at: int, compaction_id: str = "") -> bytes:
    """The first line; ``compaction_id`` where the MANIFEST takes the place of an older one."""
    return encode_checked("manifest", ManifestHeader(version=FORMAT_VERSION, agent=agent, at=at, id=compaction_id))


def encode_state(state: State) -> bytes:
    """The second line of a compacted MANIFEST."""
    return encode_checked("state", state)


def encode_move(move: Move) -> bytes:
    """A move line."""
    return encode_checked("move", move)


def encode_hide(*, at: int, ids: list[str]) -> bytes:
    """A line of tombstones."""
    return encode_checked("hide", Hide(at=at, ids=ids))


def encode_show(*, at: int, ids: list[str]) -> bytes:
    """A line that takes tombstones back."""
    return encode_checked("show", Hide(at=at, ids=ids))


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
    elif decoded == _UNKNOWN:
        raise StorageError(f"{path}: a line of unknown kind {next(iter(orjson.loads(body)))!r}; upgrade memstore")
    return decoded
