"""Writing: encode, write, fdatasync, and nothing else."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from time import perf_counter

import orjson

from benchmarks.workloads import LINE_BYTES, Memory

FLOOR_BATCH = 4000
"""Records that are encoded, joined, written and synced at a time."""
_NEWLINE = b"\n"


def write_batches(path: str, batches: Iterable[list[Memory]], *, sync: bool = True) -> float:
    """Encode, join, write and, unless told otherwise, fdatasync each batch; seconds."""
    with _new_file(path) as descriptor:
        started = perf_counter()
        for batch in batches:
            data = _NEWLINE.join([orjson.dumps(memory.stored) for memory in batch]) + _NEWLINE
            _write(descriptor, data, path)
            if sync:
                os.fdatasync(descriptor)
        return perf_counter() - started


def write_each(path: str, records: Iterable[Memory]) -> list[float]:
    """The same with each record alone; microseconds of each."""
    taken: list[float] = []
    with _new_file(path) as descriptor:
        for memory in records:
            started = perf_counter()
            _write(descriptor, orjson.dumps(memory.stored) + _NEWLINE, path)
            os.fdatasync(descriptor)
            taken.append((perf_counter() - started) * 1e6)
    return taken


def fdatasync_us(path: str, *, rounds: int = 200) -> list[float]:
    """Microseconds that writing the bytes of one record and syncing them takes, each time."""
    data = b"x" * (LINE_BYTES - 1) + _NEWLINE
    taken: list[float] = []
    with _new_file(path) as descriptor:
        for _ in range(rounds):
            started = perf_counter()
            _write(descriptor, data, path)
            os.fdatasync(descriptor)
            taken.append((perf_counter() - started) * 1e6)
    return taken


def create_us(directory: str, *, rounds: int = 200) -> list[float]:
    """Microseconds that making an empty file takes, each time; they stay."""
    taken: list[float] = []
    for number in range(rounds):
        started = perf_counter()
        os.close(os.open(os.path.join(directory, str(number)), os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC))
        taken.append((perf_counter() - started) * 1e6)
    return taken


@contextmanager
def _new_file(path: str) -> Iterator[int]:
    """A descriptor of an empty file that is removed at the end."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC, 0o644)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
        os.unlink(path)


def _write(descriptor: int, data: bytes, path: str) -> None:
    written = os.write(descriptor, data)
    if written != len(data):
        raise OSError(f"{path}: the disk took {written} of {len(data)} bytes")
