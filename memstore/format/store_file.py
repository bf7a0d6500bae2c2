"""STORE.json: what a store is and where its agents lie (docs/FORMAT.md, "STORE.json"). One checked line."""

from __future__ import annotations

from typing import Literal

import msgspec

from memstore.errors import CorruptionError
from memstore.format.checked import encode_checked, verified_body
from memstore.format.version import FORMAT_VERSION, check_version


class ShardEntry(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One shard.

    Attributes:
        index: its number: its name and its points on the ring come from it.
        path: its directory on another volume (absolute), or None below the root.
    """

    index: int
    path: str | None = None


class Placement(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Which agents lie where: the ring of these shards, overruled by pins (agent to shard index)."""

    shards: list[int]
    pins: dict[str, int] = {}


ReplicaState = Literal["ok", "joining", "behind"]


class ReplicaEntry(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The store's second copy, as the store itself sees it.

    Attributes:
        path: root of the copy (absolute).
        state: ``ok``: it holds every acknowledged record. ``joining``: lanes are written to it, and what was there
            before is being copied. ``behind``: nothing is written to it, and it may lack records.
        since: when it came to that state, microseconds.
        turn: goes up with every change of the state, so that whoever finishes something knows whether it still counts.
        why: what made it fall behind, for people.
    """

    path: str
    state: ReplicaState
    since: int
    turn: int = 1
    why: str = ""


class CopyEntry(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Only in a second copy: it is not the store, and is written by the store's processes alone.

    Attributes:
        of: root of the store that it is a copy of, when it was last seen there.
        last_commit: time of the youngest commit among what its files have taken over, microseconds; its lanes may hold
            younger ones.
        complete: whether the copying that began it has ever come to an end.
    """

    of: str
    last_commit: int = 0
    complete: bool = False


class StoreFile(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Content of STORE.json.

    Attributes:
        version: format version.
        id: 128 random bits in hex.
        created: microseconds.
        epoch: goes up with every change of placement.
        next_writer: the writer number that will be given out next.
        shards: every shard there is.
        placement: where agents belong.
        previous: where they belonged before; there only while agents are being moved.
        archive: where cold files lie (absolute), or None below the root. Set once, before the first cold file.
        replica: the second copy, where there is one.
        copy_of: set where this is the second copy itself.
    """

    version: int = FORMAT_VERSION
    id: str
    created: int
    epoch: int
    next_writer: int
    shards: list[ShardEntry]
    placement: Placement
    previous: Placement | None = None
    archive: str | None = None
    replica: ReplicaEntry | None = None
    copy_of: CopyEntry | None = None


class _StoreLine(msgspec.Struct):
    store: StoreFile


class _VersionOnly(msgspec.Struct):
    version: int


class _VersionLine(msgspec.Struct):
    store: _VersionOnly


_decoder = msgspec.json.Decoder(_StoreLine)
_version_decoder = msgspec.json.Decoder(_VersionLine)


def encode_store_file(content: StoreFile) -> bytes:
    """The whole file."""
    # omit_defaults would leave the version out, and the version is what an older reader needs first.
    return encode_checked("store", {"version": content.version, **msgspec.to_builtins(content)})


def decode_store_file(data: bytes, path: str) -> StoreFile:
    """The content of the whole file.

    Raises:
        VersionError: written by a newer format.
        CorruptionError: it does not verify.
    """
    body = verified_body(data.rstrip(b"\n"))
    try:
        if body is None:
            raise msgspec.DecodeError("its checksum does not agree")
        check_version(_version_decoder.decode(body).store.version, path)
        return _decoder.decode(body).store
    except msgspec.DecodeError as error:
        raise CorruptionError(path, offset_bytes=0, length_bytes=len(data), reason=str(error)) from error
