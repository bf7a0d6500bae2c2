"""What the index says of itself: the ``state`` of its consumer file (docs/FORMAT.md, "Search index"). Pure.

A month of record time is *sound* where its partition, or the lack of one, holds just what was consumed of it; it is
*stale* where it has to be built anew. Only what this says counts: a directory that it does not name is nobody's.
"""

from __future__ import annotations

from typing import Any

import msgspec

from memstore.format.consumer_file import ConsumerFile

CONSUMER = "search"
"""The index's name among the consumers of the lanes."""


class PartitionEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One month's partition.

    Attributes:
        directory: its name below ``memory/cache/search``.
        files: size and xxh3 of each file that does not change, and of ``meta.json``, as of the last commit.
        records: documents in it.
        deleted: whether documents have been deleted from it, whose words may still be in its files.
        opstamp: tantivy's number of the last commit that counts; merges leave it as it is.
        ahead: whether it may hold records behind the watermark, for it was made of what the store had later.
        lacks: how many damaged pieces of the store were left out when it was made, at least.
    """

    directory: str
    files: dict[str, tuple[int, str]]
    records: int
    deleted: bool = False
    opstamp: int = 0
    ahead: bool = False
    lacks: int = 0


class IndexState(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The whole.

    Attributes:
        shape: fingerprint of fields and language; another one means that everything is stale.
        listed: whether the store's months have been listed since the index was registered; until then all are stale.
        partitions: by month, ``YYYYMM``.
        stale: months to be built anew.
        tips: months of the last commit that was consumed of a lane still being written, by token: should that commit be
            cut off again, for its sync failed, they are stale.
        forgotten: up to which byte of FORGOTTEN everything is carried out.
        next_version: goes into the next directory's name; no name comes back.
        erasures: how many times records were erased; what was built meanwhile does not count.
        unlisted: how many damaged pieces were met when the months were listed: what only they tell of is nowhere.
    """

    shape: str = ""
    listed: bool = False
    partitions: dict[str, PartitionEntry] = {}
    stale: list[str] = []
    tips: dict[str, list[str]] = {}
    forgotten: int = 0
    next_version: int = 1
    erasures: int = 0
    unlisted: int = 0


def state_of(content: ConsumerFile) -> IndexState:
    """What a consumer file says of the index.

    Raises:
        msgspec.ValidationError: it says something else.
    """
    return msgspec.convert(content.state, IndexState)


def with_state(content: ConsumerFile, state: IndexState, **changes: Any) -> ConsumerFile:
    """The consumer file with another state."""
    return msgspec.structs.replace(content, state=msgspec.to_builtins(state), **changes)


def stale_months(content: ConsumerFile, state: IndexState) -> frozenset[str]:
    """Months that the index cannot answer for."""
    return frozenset(state.stale).union(content.missed)


def partition_directory(month: str, version: int) -> str:
    """``202501.3``."""
    return f"{month}.{version}"
