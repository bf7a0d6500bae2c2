"""Put a single flipped bit right: every bit is tried, and the checksum says which it was.

A disk or memory that turned one bit is the commonest damage there is, and a checksum of 64 bits proves the answer: of
the half million candidates of a 64 KiB block a wrong one would agree by chance once in 10^13 blocks. So what comes back
is the very bytes that were written, not a guess. It costs some seconds for a large block, only where there is damage,
and only up to `SEARCH_BYTES_MAX`.
"""

from __future__ import annotations

import xxhash

from memstore.format.checked import verified_body

SEARCH_BYTES_MAX = 128 * 1024
"""The effort grows with the square of the length: about 10 s for 128 KiB, and 64 times that for 1 MiB."""
_TAIL_BYTES = 27
_CHECKSUM = slice(9, 25)
"""The checksum of a checked line, its key and the end of the object."""


def find_flip(data: bytes, xxh3: str) -> bytes | None:
    """The bytes that have this checksum and differ from ``data`` in one bit; None where there are none."""
    if len(data) > SEARCH_BYTES_MAX:
        return None
    try:
        wanted = int(xxh3, 16)
    except ValueError:
        return None
    digest = xxhash.xxh3_64_intdigest
    trial = bytearray(data)
    for place in range(len(trial)):
        was = trial[place]
        for bit in (1, 2, 4, 8, 16, 32, 64, 128):
            trial[place] = was ^ bit
            if digest(trial) == wanted:
                return bytes(trial)
        trial[place] = was
    return None


def find_flip_in_line(line: bytes) -> bytes | None:
    """The checked line that differs from ``line`` in one bit and verifies; None where there is none.

    Args:
        line: without its line break. The bit may be in its checksum, too.
    """
    body, tail = line[:-_TAIL_BYTES], line[-_TAIL_BYTES:]
    whole = _with_tail(body)
    if sum((a ^ b).bit_count() for a, b in zip(whole[-_TAIL_BYTES:], tail, strict=False)) == 1:
        return whole if verified_body(whole) is not None else None
    found = find_flip(body, tail[_CHECKSUM].decode("ascii", "replace"))
    if found is None or verified_body(found + tail) is None:
        return None
    return found + tail


def _with_tail(body: bytes) -> bytes:
    return b'%b,"xxh3":"%b"}' % (body, xxhash.xxh3_64_hexdigest(body).encode())
