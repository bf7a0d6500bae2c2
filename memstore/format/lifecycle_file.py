"""LIFECYCLE.json: the clocks as maintenance last found them (docs/FORMAT.md, "LIFECYCLE.json"). One checked line."""

from __future__ import annotations

import msgspec

from memstore.errors import CorruptionError
from memstore.format.checked import encode_checked, verified_body


class ClockNote(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Two clocks read at the same moment, and the last time that wall time was looked at.

    Attributes:
        wall_us: wall time when the note was begun: at the first look of a boot, or at a jump.
        boot_s: seconds since boot at that moment.
        boot_id: of which boot; empty where the platform does not say.
        last_us: wall time at the last look.
        doubt: why the clock is not trusted, or empty where it is.
    """

    wall_us: int
    boot_s: float
    boot_id: str
    last_us: int
    doubt: str = ""


class _LifecycleFile(msgspec.Struct):
    clock: ClockNote


class _LifecycleLine(msgspec.Struct):
    lifecycle: _LifecycleFile


_decoder = msgspec.json.Decoder(_LifecycleLine)


def encode_lifecycle_file(clock: ClockNote) -> bytes:
    """The whole file."""
    return encode_checked("lifecycle", _LifecycleFile(clock))


def decode_lifecycle_file(data: bytes, path: str) -> ClockNote:
    """The note of the whole file.

    Raises:
        CorruptionError: it does not verify.
    """
    body = verified_body(data.rstrip(b"\n"))
    try:
        if body is None:
            raise msgspec.DecodeError("its checksum does not agree")
        return _decoder.decode(body).lifecycle.clock
    except msgspec.DecodeError as error:
        raise CorruptionError(path, offset_bytes=0, length_bytes=len(data), reason=str(error)) from error
