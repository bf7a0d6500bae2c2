"""No id of an agent stands in two places: told in bounded memory, by looking only where pieces overlap in time.

Ids begin with their time, and inside a run lines are in order, so an id can stand twice only in pieces of different
runs that overlap in time. A sweep over all pieces finds those; most stores have few. Their ids are then compared by
hash, cluster by cluster of pieces that hang together in time; a cluster of more records than may be held at once is
gone through several times, each time for another share of the hashes. Two ids whose hashes agree are compared in full.
"""

from __future__ import annotations

import heapq
import operator
from collections.abc import Iterator, Sequence

import xxhash

from memstore.format.lines import split_lines
from memstore.ops.reading_files import IdPiece, IdRun, OnBytes

IDS_AT_ONCE = 1_000_000
"""Hashes held at a time: some 90 MB."""
_t_min = operator.attrgetter("t_min")
_priority = operator.attrgetter("priority")


def twice(
    runs: Sequence[IdRun], *, needle_bytes: int, on_bytes: OnBytes, ids_at_once: int = IDS_AT_ONCE
) -> Iterator[tuple[IdPiece, IdPiece, bytes]]:
    """Each id that stands in two pieces: the two, and what the lines begin with.

    Args:
        runs: of one agent.
        needle_bytes: how long the beginning of a line is that no other has.
        on_bytes: told of what is read.
        ids_at_once: how many ids may be compared at a time.

    Raises:
        FileNotFoundError: a file has moved.
        StorageError: it cannot be read.
    """
    for found in _clusters(_overlapping(runs)):
        cluster = sorted(found, key=_priority)
        shares = -(-sum(piece.records for piece in cluster) // ids_at_once)
        for share in range(shares):
            yield from _compare(cluster, share, shares, needle_bytes, on_bytes)


def _overlapping(runs: Sequence[IdRun]) -> list[IdPiece]:
    """Pieces that overlap one of another run in time, by the time they begin."""
    ordered = sorted(
        ((piece.t_min, number, index) for number, run in enumerate(runs) for index, piece in enumerate(run.pieces))
    )
    found: list[IdPiece] = []
    active: list[tuple[int, int, int]] = []
    lone: dict[tuple[int, int], IdPiece] = {}
    by_run: dict[int, int] = {}
    for t_min, number, index in ordered:
        while active and active[0][0] < t_min:
            _, gone, gone_index = heapq.heappop(active)
            by_run[gone] -= 1
            if not by_run[gone]:
                del by_run[gone]
            lone.pop((gone, gone_index), None)
        piece = runs[number].pieces[index]
        if len(by_run) > (number in by_run):  # another run goes on
            found.append(piece)
            if lone:  # those of other runs that were alone so far; ones of this run wait on
                others = [key for key in lone if key[0] != number]
                found += [lone.pop(key) for key in others]
        else:
            lone[number, index] = piece
        heapq.heappush(active, (piece.t_max, number, index))
        by_run[number] = by_run.get(number, 0) + 1
    return sorted(found, key=_t_min)


def _clusters(pieces: Sequence[IdPiece]) -> Iterator[list[IdPiece]]:
    """Pieces that hang together in time."""
    cluster: list[IdPiece] = []
    t_max = 0
    for piece in pieces:
        if cluster and piece.t_min > t_max:
            yield cluster
            cluster = []
        t_max = piece.t_max if not cluster else max(t_max, piece.t_max)
        cluster.append(piece)
    if cluster:
        yield cluster


def _compare(
    cluster: Sequence[IdPiece], share: int, shares: int, needle_bytes: int, on_bytes: OnBytes
) -> Iterator[tuple[IdPiece, IdPiece, bytes]]:
    seen: dict[int, int] = {}
    digest = xxhash.xxh3_64_intdigest
    for number, piece in enumerate(cluster):
        on_bytes(piece.length)
        for line in split_lines(piece.load()):
            needle = line[:needle_bytes]
            hashed = digest(needle)
            if hashed % shares != share:
                continue
            other = seen.setdefault(hashed, number)
            if other != number and _has(cluster[other], needle):
                yield cluster[other], piece, needle


def _has(piece: IdPiece, needle: bytes) -> bool:
    return any(line.startswith(needle) for line in split_lines(piece.load()))
