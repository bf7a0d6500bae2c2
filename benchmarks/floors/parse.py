"""Parsing: read, unpack where packed, decode, and check nothing."""

from __future__ import annotations

import os
from collections.abc import Sequence

import msgspec

from memstore.codec.zstd import decompress
from memstore.manifest.index import BlockRef, FrameRef
from memstore.record import decode_records

_decode = msgspec.json.Decoder().decode


def read_and_parse(root: str) -> tuple[int, int, int]:
    """Walk a tree in name order, read every file and parse it as JSON.

    Returns:
        Files, bytes, and how many did not parse.
    """
    files = size = refused = 0
    waiting = [root]
    while waiting:
        with os.scandir(waiting.pop()) as found:
            entries = sorted(found, key=lambda entry: entry.name)
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                waiting.append(entry.path)
                continue
            descriptor = os.open(entry.path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                data = os.read(descriptor, 1 << 20)
            finally:
                os.close(descriptor)
            files += 1
            size += len(data)
            try:
                _decode(data)
            except (msgspec.MsgspecError, UnicodeDecodeError):
                refused += 1
    return files, size, refused


def forget_files(root: str) -> None:
    """Have the kernel drop the contents of a tree's files from the page cache; their names stay known to it."""
    for directory, _, names in os.walk(root):
        for name in names:
            descriptor = os.open(os.path.join(directory, name), os.O_RDONLY | os.O_CLOEXEC)
            try:
                if hasattr(os, "posix_fadvise"):
                    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            finally:
                os.close(descriptor)


def unpack_and_parse(pieces: Sequence[tuple[str, BlockRef | FrameRef]]) -> int:
    """Read each block or frame of a store's files, unpack it and decode its records; how many records that were."""
    records = 0
    descriptors: dict[str, int] = {}
    for path, ref in pieces:
        if path not in descriptors:
            for descriptor in descriptors.values():
                os.close(descriptor)
            descriptors = {path: os.open(path, os.O_RDONLY | os.O_CLOEXEC)}
        data = os.pread(descriptors[path], ref.length, ref.offset)
        if isinstance(ref, FrameRef):
            data = decompress(data, raw_length=ref.frame.raw_length)
        lines = data.split(b"\n")
        lines.pop()
        records += len(decode_records(lines))
    for descriptor in descriptors.values():
        os.close(descriptor)
    return records
