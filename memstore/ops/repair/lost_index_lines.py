"""Whether an index has lost lines of which nothing is left, cut off at the end of one: files may say so."""

from __future__ import annotations

import os
from collections.abc import Callable

from memstore.format.names import parse_day_file_name, tier_of
from memstore.fs.storage import Storage
from memstore.manifest.index import Manifest
from memstore.ops.agent_place import AgentPlace


def has_lost_lines(
    storage: Storage, place: AgentPlace, manifest: Manifest, *, holds_unknown: Callable[[str, int], bool]
) -> bool:
    """Whether files are there that only a line can have made, and none names them.

    Args:
        storage: where they lie.
        place: the agent's directories.
        manifest: what is left of its index.
        holds_unknown: whether the day file of this name has records behind so many bytes that no lane has.

    Raises:
        StorageError: the disk refuses.
    """
    there = {name for _, name in place.files()}
    listed = {*manifest.day_files, *manifest.packed, *manifest.trash}
    unlisted = {name for name in there - listed if tier_of(name) in ("warm", "cold")} - manifest.dropped.keys()
    if unlisted and not listed <= there:
        return True  # a move whose line is lost: what it took is gone, what it made is there
    for name in sorted(place.names[place.directory]):
        if parse_day_file_name(name) is None or name in manifest.dropped:
            continue
        committed = manifest.day_files.get(name, 0)
        identity = storage.identify(os.path.join(place.directory, name))
        if identity is not None and identity.size_bytes > committed and holds_unknown(name, committed):
            return True
    return False
