"""Percentiles that can be added up: logarithmic buckets, after DDSketch (Masson, Rim, Lee, VLDB 2019).

A value's bucket is the whole part of its logarithm to a base just above 1, so that the middle of a bucket is within 1
% of every value in it. Counts of the same bucket from several partitions are simply added.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterable, Mapping

RELATIVE_ERROR = 0.01
_GAMMA = (1 + RELATIVE_ERROR) / (1 - RELATIVE_ERROR)
_LOG_GAMMA = math.log(_GAMMA)
_SMALLEST = 1e-9
"""What is nearer to zero counts as zero."""
_OFFSET = 100_000
"""Above every bucket's number, so that signs can be told apart."""


def bucket_of(value: float) -> int:
    """The bucket of a finite number: 0 for zero, positive or negative by its sign."""
    if value >= _SMALLEST:
        return math.ceil(math.log(value) / _LOG_GAMMA) + _OFFSET
    return -bucket_of(-value) if value <= -_SMALLEST else 0


def value_of(bucket: int) -> float:
    """The number that stands for a bucket."""
    if bucket == 0:
        return 0.0
    size = 2 * math.exp((abs(bucket) - _OFFSET) * _LOG_GAMMA) / (1 + _GAMMA)
    return size if bucket > 0 else -size


PackedCounts = bytes
"""Buckets and counts by turns, 16 bytes of a pair, for many groups' sake; a dict takes six times as much."""


def packed(counts: Mapping[int, int], more: PackedCounts | None = None) -> PackedCounts:
    """Counts of buckets, and those that were packed before, added up."""
    added = unpacked(more)
    for bucket, count in counts.items():
        added[bucket] = added.get(bucket, 0) + count
    return array("q", [number for pair in added.items() for number in pair]).tobytes()


def unpacked(counts: PackedCounts | None) -> dict[int, int]:
    """What was `packed`."""
    numbers = array("q", counts or b"")
    return dict(zip(numbers[::2], numbers[1::2], strict=True))


def percentiles(counts: Mapping[int, int], wanted: Iterable[float]) -> list[float | None]:
    """Values below which so many percent of all lie, each within 1 %; None for all where there is nothing.

    Args:
        counts: how many values each bucket has.
        wanted: percents, 0 to 100.
    """
    ordered = sorted(counts.items())
    total = sum(counts.values())
    found: list[float | None] = []
    for percent in wanted:
        rank = percent / 100 * (total - 1)
        seen = 0
        value: float | None = None
        for bucket, count in ordered:
            seen += count
            if seen > rank:
                value = value_of(bucket)
                break
        found.append(value)
    return found
