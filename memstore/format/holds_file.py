"""HOLDS.json: the legal holds of a store (docs/FORMAT.md, "HOLDS.json"). One checked line."""

from __future__ import annotations

import msgspec

from memstore.errors import CorruptionError
from memstore.format.checked import encode_checked, verified_body
from memstore.format.version import FORMAT_VERSION, check_version
from memstore.timestamps import YEAR_10000_US


class Hold(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Records that nobody may remove while it stands: those for which all that it says is true.

    Attributes:
        name: unique in the store.
        at: when it was made, microseconds.
        agent: an agent id or a pattern with ``*``, ``?`` and ``[...]``; None: every agent.
        ids: these records; empty: any.
        memory_types: records of these types; empty: any.
        since_us: records from this time on.
        until_us: records before this time.
        reason: for people.
    """

    name: str
    at: int
    agent: str | None = None
    ids: tuple[str, ...] = ()
    memory_types: tuple[str, ...] = ()
    since_us: int = 0
    until_us: int = YEAR_10000_US
    reason: str = ""


class _HoldsFile(msgspec.Struct):
    version: int
    holds: list[Hold] = msgspec.field(name="list")


class _HoldsLine(msgspec.Struct):
    holds: _HoldsFile


class _VersionOnly(msgspec.Struct):
    version: int


class _VersionLine(msgspec.Struct):
    holds: _VersionOnly


_decoder = msgspec.json.Decoder(_HoldsLine)
_version_decoder = msgspec.json.Decoder(_VersionLine)


def encode_holds_file(holds: list[Hold]) -> bytes:
    """The whole file."""
    return encode_checked("holds", _HoldsFile(FORMAT_VERSION, holds))


def decode_holds_file(data: bytes, path: str) -> list[Hold]:
    """The holds of the whole file.

    Raises:
        VersionError: written by a newer format.
        CorruptionError: it does not verify: which records are held is then unknown, and none may be removed.
    """
    body = verified_body(data.rstrip(b"\n"))
    try:
        if body is None:
            raise msgspec.DecodeError("its checksum does not agree")
        check_version(_version_decoder.decode(body).holds.version, path)
        return _decoder.decode(body).holds.holds
    except msgspec.DecodeError as error:
        raise CorruptionError(path, offset_bytes=0, length_bytes=len(data), reason=str(error)) from error
