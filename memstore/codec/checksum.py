"""Detects damage: xxh3-64 of bytes, written as 16 hex digits.

Not cryptographic: it finds flipped bits and torn writes, not an adversary. In JSON as text, because a 64-bit number
does not survive ``jq`` and JavaScript.
"""

from __future__ import annotations

import xxhash

CHECKSUM_CHARS = 16


def checksum(data: bytes | memoryview) -> str:
    """xxh3-64 (seed 0) of the bytes as 16 lower-case hex digits."""
    return xxhash.xxh3_64_hexdigest(data)


class RunningChecksum:
    """The checksum of bytes that come in pieces. Not thread-safe."""

    def __init__(self) -> None:
        self._digest = xxhash.xxh3_64()

    def update(self, data: bytes) -> None:
        """Take in the next piece."""
        self._digest.update(data)

    def text(self) -> str:
        """What `checksum` says of all pieces so far, joined."""
        return self._digest.hexdigest()
