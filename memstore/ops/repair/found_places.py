"""Where parts of a store whose STORE.json is lost are found: below its root, and on volumes that people name."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence

from memstore.errors import CorruptionError, UsageError
from memstore.format.names import StorePaths, is_lane_name
from memstore.fs.storage import Storage
from memstore.ops.layout import Layout, entries_of
from memstore.wal.seal import read_header

_VOLUME = re.compile(r"memstore-([0-9a-f]{32})")
_SHARD = re.compile(r"shard_(\d{3,})")


class FoundPlaces:
    """Looks anew at each question.

    Args:
        storage: where the store lies.
        paths: its root.
        volumes: other volumes on which shards and an archive may lie.

    Raises:
        UsageError: one of them is not there.
    """

    def __init__(self, storage: Storage, paths: StorePaths, volumes: Sequence[str]) -> None:
        self._storage = storage
        self._paths = paths
        self._volumes = [os.path.abspath(volume) for volume in volumes]
        for volume in self._volumes:
            if storage.identify(volume) is None:
                raise UsageError(f"{volume} is not there; --volume takes a directory in which memstore-<id> lies")

    def shards(self, layout: Layout) -> dict[int, str]:
        """Directory of each shard that can be found, by its index."""
        found = dict(layout.shards)
        for _, path in self.on_volumes():
            for entry in entries_of(self._storage, path):
                match = _SHARD.fullmatch(entry.name)
                if match is not None and entry.is_directory:
                    found.setdefault(int(match[1]), os.path.join(path, entry.name))
        return found

    def on_volumes(self) -> Iterator[tuple[str, str]]:
        """Id and directory of what stores have on the other volumes."""
        for volume in self._volumes:
            for entry in entries_of(self._storage, volume):
                match = _VOLUME.fullmatch(entry.name)
                if match is not None:
                    yield match[1], os.path.join(volume, entry.name)

    def store_ids(self) -> Iterator[str]:
        """Ids that lanes and volumes give."""
        yield from (store_id for store_id, _ in self.on_volumes())
        for entry in entries_of(self._storage, self._paths.lanes):
            if is_lane_name(entry.name):
                file = self._storage.open_read(os.path.join(self._paths.lanes, entry.name))
                try:
                    yield read_header(file)[0].store
                except CorruptionError:
                    continue
                finally:
                    file.close()

    def archive(self) -> str | None:
        """Where cold files lie on another volume, if one of those that were named has them."""
        archives = [os.path.join(path, "archive") for _, path in self.on_volumes()]
        return next((path for path in archives if self._storage.identify(path) is not None), None)
