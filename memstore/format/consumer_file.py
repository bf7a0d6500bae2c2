"""consumers/NAME.json: how far one consumer of the lanes is (docs/FORMAT.md, "Consumers"). One checked line.

A consumer is whoever derives something from what is appended (the search index, a backup): a lane is unlinked only when
every consumer has passed it, or has it noted here that it missed the lane and must look elsewhere for what was in it.
"""

from __future__ import annotations

from typing import Any

import msgspec

from memstore.errors import CorruptionError
from memstore.format.checked import encode_checked, verified_body


class ConsumerFile(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Content of a consumer's file.

    Attributes:
        name: the consumer's.
        at: when it was registered, microseconds.
        lanes: token of each lane that it has begun, and up to which byte it has consumed it.
        missed: months (``YYYYMM`` of record time) that hold records of lanes which went without it, sorted.
        missed_at: when the youngest commit of such a lane was made at the latest, microseconds; 0 where there is none.
        state: what else the consumer keeps; its own.
    """

    name: str
    at: int
    lanes: dict[str, int] = {}
    missed: list[str] = []
    missed_at: int = 0
    state: dict[str, Any] = {}


class _ConsumerLine(msgspec.Struct):
    consumer: ConsumerFile


_decoder = msgspec.json.Decoder(_ConsumerLine)


def encode_consumer_file(content: ConsumerFile) -> bytes:
    """The whole file."""
    return encode_checked("consumer", content)


def decode_consumer_file(data: bytes, path: str) -> ConsumerFile:
    """The content of the whole file.

    Raises:
        CorruptionError: it does not verify.
    """
    body = verified_body(data.rstrip(b"\n"))
    try:
        if body is None:
            raise msgspec.DecodeError("its checksum does not agree")
        return _decoder.decode(body).consumer
    except msgspec.DecodeError as error:
        raise CorruptionError(path, offset_bytes=0, length_bytes=len(data), reason=str(error)) from error
