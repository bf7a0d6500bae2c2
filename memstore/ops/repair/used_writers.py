"""Which writer numbers were given out: none may be given out twice, though STORE.json, which counted them, is lost."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from itertools import chain

from memstore.format.names import StorePaths, is_lane_name, tier_of
from memstore.fs.storage import Storage
from memstore.fs.trees import files_below
from memstore.ids import WRITER_NUMBER_MAX
from memstore.ops.layout import entries_of
from memstore.ops.repair.record_texts import record_texts

WRITERS_SKIPPED = 1000
"""Numbers of processes that took one and left no trace of it."""
_MINTED_ID = re.compile(rb'\{"memory_id":"(?:[^"\\\n]|\\.){1,1300}?_\d{8}_\d{6}_\d{6}([0-7][0-9a-f]{7})[0-9a-f]{8}"')
"""A minted id at the beginning of a line; the group is its writer number."""
_ID_OVERLAP_BYTES = 2048


def next_writer(storage: Storage, paths: StorePaths, volumes: Iterable[str]) -> int:
    """Above every writer number that was given out, as far as lanes' names and ids of records show it.

    Args:
        storage: where the store lies.
        paths: its root.
        volumes: directories of stores on other volumes.

    Raises:
        StorageError: the disk refuses.
    """
    highest = 0
    for entry in entries_of(storage, paths.lanes):
        if is_lane_name(entry.name):
            highest = max(highest, int(entry.name[:8], 16))
    of_store = (path for path in files_below(storage, paths.root) if not path.startswith(paths.quarantine + os.sep))
    of_volumes = (path for volume in volumes for path in files_below(storage, volume))
    for path in chain(of_store, of_volumes):
        highest = max(highest, *_writers_in(storage, path), 0)
    return min(highest + 1 + WRITERS_SKIPPED, WRITER_NUMBER_MAX)


def _writers_in(storage: Storage, path: str) -> Iterator[int]:
    name = os.path.basename(path)
    if tier_of(name) is None and not is_lane_name(name):
        return
    rest = b""
    for data in record_texts(storage, path):
        text = rest + data
        yield max((int(match, 16) for match in _MINTED_ID.findall(text)), default=0)
        rest = text[-_ID_OVERLAP_BYTES:]
