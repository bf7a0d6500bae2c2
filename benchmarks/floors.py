"""What the machine gives when nothing but the inevitable is done; results are also stated as a ratio to their floor."""

from __future__ import annotations

import os
from collections.abc import Iterable
from time import perf_counter

import msgspec
import orjson

from benchmarks.workloads import Memory

FLOOR_BATCH = 4000
"""Records that are encoded, joined, written and fdatasynced at a time."""
_NEWLINE = b"\n"
_decode = msgspec.json.Decoder().decode


def write_floor(path: str, batches: Iterable[list[Memory]]) -> tuple[float, int]:
    """Encode, join, write and fdatasync each batch, and nothing else.

    Returns:
        Seconds and bytes.
    """
    size = 0
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o644)
    try:
        started = perf_counter()
        for batch in batches:
            data = _NEWLINE.join([orjson.dumps(memory.stored) for memory in batch]) + _NEWLINE
            written = os.write(descriptor, data)
            if written != len(data):
                raise OSError(f"{path}: the disk took {written} of {len(data)} bytes")
            os.fdatasync(descriptor)
            size += written
        return perf_counter() - started, size
    finally:
        os.close(descriptor)


def fdatasync_us(path: str, *, rounds: int = 200) -> list[float]:
    """Microseconds that writing one record and syncing it takes, each time."""
    data = b"x" * 779 + b"\n"
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o644)
    taken: list[float] = []
    try:
        for _ in range(rounds):
            started = perf_counter()
            os.write(descriptor, data)
            os.fdatasync(descriptor)
            taken.append((perf_counter() - started) * 1e6)
    finally:
        os.close(descriptor)
    return taken


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
