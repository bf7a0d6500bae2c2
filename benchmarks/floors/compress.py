"""Packing: zstd alone, from memory to memory; and the limit of what any layout can reach."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from time import perf_counter

import zstandard

_LEVEL_SOLID = 19
_WINDOW_LOG_LONG = 27
"""What ``zstd --long`` takes when it is not told."""


def zstd_alone(files: Sequence[bytes], *, level: int, frame_bytes: int) -> float:
    """Seconds of compressing lines in one thread, in frames of whole lines, each file for itself."""
    compressor = zstandard.ZstdCompressor(level=level, write_checksum=True)
    began = perf_counter()
    for data in files:
        for frame in frames(data, frame_bytes):
            compressor.compress(frame)
    return perf_counter() - began


def solid_bytes(files: Sequence[bytes]) -> int:
    """Bytes of all of it as one frame, as ``zstd -19 --long`` packs it."""
    size = sum(map(len, files))
    parameters = zstandard.ZstdCompressionParameters.from_level(
        _LEVEL_SOLID, window_log=_WINDOW_LOG_LONG, enable_ldm=True, source_size=size
    )
    packer = zstandard.ZstdCompressor(compression_params=parameters).compressobj(size=size)
    return sum(len(packer.compress(data)) for data in files) + len(packer.flush())


def frames(data: bytes, size: int) -> Iterator[bytes]:
    """Cut at line ends, each piece at most ``size`` bytes where a line allows it."""
    start = 0
    while start < len(data):
        end = len(data)
        if end - start > size:
            end = (data.rfind(b"\n", start, start + size) + 1) or data.index(b"\n", start) + 1
        yield data[start:end]
        start = end
