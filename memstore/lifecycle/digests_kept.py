"""What a MANIFEST says of the digests in a packed file, said of the one that takes its place."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from memstore.format.manifest import PackedFile


def as_digested(packed: PackedFile, old: PackedFile | None) -> PackedFile:
    """A packed file that has lost records; how many of them were digests, nobody counted.

    Args:
        packed: what takes the place.
        old: of this; None for a day file, in which there are none.
    """
    if old is None:
        return packed
    return msgspec.structs.replace(packed, digests=min(old.digests, packed.records), digested_until=old.digested_until)


def with_digests(
    packed: PackedFile, sources: Sequence[PackedFile | None], *, made: int, until_us: int | None
) -> PackedFile:
    """A packed file of all records of others.

    Args:
        packed: what takes their place.
        sources: those; None for a day file, in which there are none.
        made: how many digests were made on the way.
        until_us: records up to this time were looked at for it; None where none were.
    """
    before_us = min((0 if each is None else each.digested_until for each in sources), default=0)
    digests = made + sum(each.digests for each in sources if each is not None)
    return msgspec.structs.replace(packed, digests=digests, digested_until=before_us if until_us is None else until_us)
