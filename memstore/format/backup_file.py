"""The lists of a backup: REPOSITORY.json, a point's BACKUP.json, the LANES.json of the lanes that it found.

::

    {"repository":{version, store, at}}
    {"backup":{version, store, at, previous, epoch, lanes, gap}}    first line of BACKUP.json
    {"agent":{agent, directory, mark, records, files}}              one for each agent
    {"file":[path, size, xxh3, mark]}                               what belongs to no agent, lanes included
    {"end":{agents, files, bytes, records}}                         last: without it the list is not whole
    {"lanes":{at, previous, gap, lanes:[[file, size, xxh3, mark, end], ...]}}      LANES.json

All of them are checked lines (docs/FORMAT.md, "Backup repository").
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import msgspec

from memstore.errors import CorruptionError, VersionError
from memstore.format.checked import encode_checked, verified_body
from memstore.format.version import FORMAT_VERSION, check_version

BACKUP_VERSION = 1
"""Of repositories, points and lists; the stores in them have versions of their own."""
T = TypeVar("T")


class RepositoryFile(msgspec.Struct, frozen=True, kw_only=True):
    """Content of REPOSITORY.json: the id of the one store whose backups lie here, and when it was made."""

    version: int = BACKUP_VERSION
    store: str
    at: int


class BackedUpFile(NamedTuple):
    """One file of a point.

    Attributes:
        path: below the point.
        size: bytes.
        xxh3: checksum of all of them.
        mark: what the store knew of the content when it was copied: of equal marks the content is equal, so that the
            next point needs no copy. Empty: it says nothing, and is copied again.
    """

    path: str
    size: int
    xxh3: str
    mark: str


class BackedUpAgent(msgspec.Struct, frozen=True, kw_only=True):
    """One agent of a point.

    Attributes:
        agent: the true agent id; the name of the directory where its MANIFEST does not say.
        directory: the agent's, below the point.
        mark: of its MANIFEST: of equal marks all that it says is equal.
        records: how many its files hold that no tombstone hides; what is in lanes only is not counted here.
        files: the MANIFEST and all files that it names.
    """

    agent: str
    directory: str
    mark: str
    records: int
    files: list[BackedUpFile]


class Gap(msgspec.Struct, frozen=True, kw_only=True):
    """Commits between two points that are in no archived lane: the store could not keep their lanes long enough.

    They are in the later point itself, if they were not removed meanwhile; a moment between the two can only be
    restored without them.

    Attributes:
        until: the youngest of these commits is not younger, microseconds; 0: nobody knows what is missing.
        months: months (``YYYYMM`` of record time) of the records in them.
    """

    until: int
    months: list[str]


class BackupHead(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """First line of BACKUP.json.

    Attributes:
        version: of the list.
        format: of the store.
        store: its id.
        at: when the point was taken, microseconds.
        previous: name of the point before it; None where there was none.
        epoch: of the store's placement.
        lanes: token of each lane there was, and up to which byte its commits are in this point: in its lanes, or, of
            one that was merged whole, in its files.
        gap: what the archive lacks between the point before and this one.
        damaged: files that were damaged in the store already, and are here as they were.
    """

    version: int
    format: int
    store: str
    at: int
    previous: str | None = None
    epoch: int = 0
    lanes: dict[str, int] = {}
    gap: Gap | None = None
    damaged: list[str] = []


class BackupEnd(msgspec.Struct, frozen=True, kw_only=True):
    """Last line of BACKUP.json: what the lines before it add up to; ``lane_records`` are in lanes only."""

    agents: int
    files: int
    bytes: int
    records: int
    lane_records: int


class ArchivedLane(NamedTuple):
    """A lane as a point found it: cut behind its last whole commit, which ends at ``end``."""

    file: str
    size: int
    xxh3: str
    mark: str
    end: int


class LanesFile(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Content of LANES.json: ``at``, ``previous`` and ``gap`` are the point's."""

    version: int
    at: int
    previous: str | None = None
    gap: Gap | None = None
    lanes: list[ArchivedLane] = []


@dataclass(frozen=True, slots=True)
class BackupList:
    """A whole BACKUP.json."""

    head: BackupHead
    agents: list[BackedUpAgent]
    files: list[BackedUpFile]
    end: BackupEnd

    def all_files(self) -> list[BackedUpFile]:
        """Every file of the point, the list aside."""
        return [*self.files, *(file for agent in self.agents for file in agent.files)]


class _Line(msgspec.Struct):
    backup: BackupHead | None = None
    agent: BackedUpAgent | None = None
    file: BackedUpFile | None = None
    end: BackupEnd | None = None


class _RepositoryLine(msgspec.Struct):
    repository: RepositoryFile


class _LanesLine(msgspec.Struct):
    lanes: LanesFile


class _VersionOnly(msgspec.Struct):
    version: int = 0


_decoder = msgspec.json.Decoder(_Line)
_repository_decoder = msgspec.json.Decoder(_RepositoryLine)
_lanes_decoder = msgspec.json.Decoder(_LanesLine)
_versions_decoder = msgspec.json.Decoder(dict[str, _VersionOnly])


def new_head(
    *, store: str, at: int, previous: str | None, epoch: int, lanes: dict[str, int], gap: Gap | None, damaged: list[str]
) -> BackupHead:
    """The first line of a point that is taken now."""
    return BackupHead(
        version=BACKUP_VERSION,
        format=FORMAT_VERSION,
        store=store,
        at=at,
        previous=previous,
        epoch=epoch,
        lanes=lanes,
        gap=gap,
        damaged=damaged,
    )


def encode_repository_file(content: RepositoryFile) -> bytes:
    """The whole file."""
    return encode_checked("repository", content)


def decode_repository_file(data: bytes, path: str) -> RepositoryFile:
    """The content of the whole file.

    Raises:
        VersionError: written by a newer memstore.
        CorruptionError: it does not verify.
    """
    return _decode_one(data, path, _repository_decoder).repository


def encode_lanes_file(content: LanesFile) -> bytes:
    """The whole file."""
    return encode_checked("lanes", content)


def decode_lanes_file(data: bytes, path: str) -> LanesFile:
    """The content of the whole file; raises as `decode_repository_file`."""
    return _decode_one(data, path, _lanes_decoder).lanes


def encode_backup_list(content: BackupList) -> bytes:
    """The whole file."""
    return b"".join(
        [
            encode_checked("backup", content.head),
            *(encode_checked("agent", agent) for agent in content.agents),
            *(encode_checked("file", file) for file in content.files),
            encode_checked("end", content.end),
        ]
    )


def decode_backup_list(data: bytes, path: str) -> BackupList:
    """The content of the whole file; raises as `decode_repository_file`."""
    head: BackupHead | None = None
    agents: list[BackedUpAgent] = []
    files: list[BackedUpFile] = []
    offset = 0
    for line in data.splitlines():
        body = verified_body(line)
        if body is None:
            raise CorruptionError(path, offset_bytes=offset, length_bytes=len(line), reason="the line does not verify")
        if head is None:
            _check_version(body, path)
        try:
            decoded = _decoder.decode(body)
        except msgspec.DecodeError as error:
            raise CorruptionError(path, offset_bytes=offset, length_bytes=len(line), reason=str(error)) from error
        if decoded.backup is not None:
            check_version(decoded.backup.format, path)
            head = decoded.backup
        elif decoded.agent is not None:
            agents.append(decoded.agent)
        elif decoded.file is not None:
            files.append(decoded.file)
        elif decoded.end is not None and head is not None:
            return BackupList(head, agents, files, decoded.end)
        offset += len(line) + 1
    raise CorruptionError(path, offset_bytes=offset, length_bytes=0, reason="its end is missing")


def decode_backup_head(line: bytes, path: str) -> BackupHead:
    """The first line alone, without its line break; raises as `decode_repository_file`."""
    body = verified_body(line)
    head = None
    if body is not None:
        _check_version(body, path)
        head = _decoder.decode(body).backup
    if head is None:
        raise CorruptionError(path, offset_bytes=0, length_bytes=len(line), reason="the first line does not verify")
    check_version(head.format, path)
    return head


def _check_version(body: bytes, path: str) -> None:
    """Refuse what a newer memstore wrote, before anything else is looked at."""
    version = next(iter(_versions_decoder.decode(body).values())).version
    if version > BACKUP_VERSION:
        raise VersionError(
            f"{path}: a backup of version {version}; this memstore reads up to {BACKUP_VERSION}: upgrade memstore"
        )


def _decode_one(data: bytes, path: str, decoder: msgspec.json.Decoder[T]) -> T:
    body = verified_body(data.rstrip(b"\n"))
    try:
        if body is None:
            raise msgspec.DecodeError("its checksum does not agree")
        _check_version(body, path)
        return decoder.decode(body)
    except msgspec.DecodeError as error:
        raise CorruptionError(path, offset_bytes=0, length_bytes=len(data), reason=str(error)) from error
