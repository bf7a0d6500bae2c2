"""Where a page ended, as text that the next call is given. Pure.

By time: the last hit's time and suffix; the next page begins behind it whatever was appended, packed or indexed
meanwhile. By relevance there is no such place, for scores shift as records come: the cursor names what has been shown,
and the next page is the best of the rest. So no page repeats a hit of another. Ages like ``7d`` count back from the
same moment on every page.
"""

from __future__ import annotations

import base64

import msgspec

from memstore.errors import UsageError
from memstore.timestamps import YEAR_10000_US

SHOWN_MAX = 1000
"""Hits by relevance that can be paged through; nobody looks at more, and by time there is no end."""


class Cursor(msgspec.Struct, frozen=True, array_like=True):
    """Decoded.

    Attributes:
        asked: fingerprint of the question that it belongs to.
        now_us: when the first page was asked for.
        place: by time: time and suffix of the last hit.
        shown: by relevance: 32 bits of the key of each hit so far.
    """

    asked: int
    now_us: int
    place: tuple[int, int] | None = None
    shown: bytes = b""

    def shown_keys(self) -> set[int]:
        """32 bits of the key of each hit so far."""
        return {int.from_bytes(self.shown[at : at + 4], "big") for at in range(0, len(self.shown), 4)}


_decoder = msgspec.msgpack.Decoder(Cursor)


def encode_cursor(cursor: Cursor) -> str:
    """As text without characters that a shell or a URL minds."""
    return base64.urlsafe_b64encode(msgspec.msgpack.encode(cursor)).decode().rstrip("=")


def decode_cursor(text: str) -> Cursor:
    """Raises: UsageError: it is no cursor."""
    try:
        data = base64.urlsafe_b64decode(text.encode("ascii") + b"=" * (-len(text) % 4))
        cursor = _decoder.decode(data)
    except (ValueError, UnicodeEncodeError, AttributeError, msgspec.DecodeError) as error:
        raise UsageError(f"{text!r:.60} is no cursor; pass the one of the page before") from error
    time_us, suffix = cursor.place or (0, 0)
    if not (0 <= cursor.now_us <= YEAR_10000_US and 0 <= time_us <= YEAR_10000_US and 0 <= suffix < 2**64):
        raise UsageError(f"{text!r:.60} is no cursor; pass the one of the page before")
    return cursor


def check_asked(cursor: Cursor, asked: int) -> None:
    """Raises: UsageError: the cursor belongs to another question."""
    if cursor.asked != asked:
        raise UsageError("the cursor belongs to another question; leave it out, or ask the same one again")
