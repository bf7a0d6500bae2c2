"""Resident memory, and bytes handed to the disk, while something runs."""

from __future__ import annotations

import ctypes
import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

_RESET_PEAK = b"5"
"""Written to clear_refs, it makes the kernel count the peak of resident memory from now on (Linux 4.0)."""


@dataclass(frozen=True, slots=True)
class Weight:
    """What a workload took beside time.

    Attributes:
        resident_mib: peak of resident memory; 0 where it cannot be had.
        before_mib: of it there before: the records to be written, and what earlier workloads left behind.
        written_per_byte: bytes that the disk was made to write, for each byte of records; None where the kernel does
            not tell, or nothing was stored.
    """

    resident_mib: float = 0.0
    before_mib: float = 0.0
    written_per_byte: float | None = None


class Meter:
    """Adds up over the rounds of one workload, and leaves out what is done between them (floors, peers).

    What is read off this process has the benchmark's own records in it, and what is written by all its threads and by
    ended children. The kernel counts a page when it becomes dirty: a page that is synced after each record counts each
    time, as it does for the disk.

    """

    def __init__(self) -> None:
        self._resident_mib = 0.0
        self._before_mib = 0.0
        self._written: int | None = 0 if written_bytes() is not None else None

    @contextmanager
    def running(self) -> Iterator[None]:
        """What happens inside counts."""
        before = written_bytes()
        reset_peak()
        resident = _status_kib("VmRSS:") / 1024
        yield
        peak = peak_mib()
        if peak > self._resident_mib:
            self._resident_mib, self._before_mib = peak, resident
        self._add(before)

    @contextmanager
    def of_children(self) -> Iterator[None]:
        """Bytes written inside count; memory is what the children say of themselves (`children_had`)."""
        before = written_bytes()
        yield
        self._add(before)

    def children_had(self, peaks_mib: list[float]) -> None:
        """Memory of processes that ran at the same time: together."""
        self._resident_mib = max(self._resident_mib, sum(peaks_mib))

    def weight(self, stored_bytes: int) -> Weight:
        """All of it so far.

        Args:
            stored_bytes: of records, in all rounds together.
        """
        per_byte = None if self._written is None or not stored_bytes else self._written / stored_bytes
        return Weight(self._resident_mib, self._before_mib, per_byte)

    def _add(self, before: int | None) -> None:
        now = written_bytes()
        if self._written is not None and before is not None and now is not None:
            self._written += now - before


def written_bytes() -> int | None:
    """Bytes this process and its ended children have made the disk write; None where the kernel does not tell."""
    try:
        with open("/proc/self/io", encoding="ascii") as lines:
            return next(int(line.split()[1]) for line in lines if line.startswith("write_bytes:"))
    except (OSError, StopIteration):
        return None


def give_memory_back() -> None:
    """What earlier workloads have left free, to the system, so that the next one is not charged with it."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def reset_peak() -> None:
    """Begin to look for the peak again, where that can be done."""
    try:
        descriptor = os.open("/proc/self/clear_refs", os.O_WRONLY)
    except OSError:
        return
    try:
        os.write(descriptor, _RESET_PEAK)
    except OSError:
        return
    finally:
        os.close(descriptor)


def peak_mib() -> float:
    """Peak resident memory since it was reset, or since this program began: 0 where it cannot be had.

    ``ru_maxrss`` is no use: it begins with what the parent had when it forked.
    """
    return _status_kib("VmHWM:") / 1024


def private_mib() -> float:
    """Resident memory that is not a file's: pages of an index can be dropped at any time."""
    return _status_kib("RssAnon:") / 1024


def _status_kib(name: str) -> int:
    try:
        with open("/proc/self/status", encoding="ascii") as lines:
            return next(int(line.split()[1]) for line in lines if line.startswith(name))
    except (OSError, StopIteration):
        return 0
