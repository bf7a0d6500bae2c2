"""Bytes behind the committed length of a day file: of a merge at work or stopped, unless nothing else has them."""

from __future__ import annotations

import os

from memstore.engine.lane_set import LaneSet
from memstore.engine.leftovers import Leftovers
from memstore.errors import CorruptionError
from memstore.fs.storage import Storage
from memstore.manifest.cache import ManifestCache
from memstore.manifest.index import Manifest
from memstore.ops.agent_findings import AgentFindings
from memstore.ops.lanes_explain import is_explained
from memstore.wal.reader import LaneReader

UNEXPLAINED = (
    "bytes stand behind its last block that are no records, and more of them than a lane explains: reads refuse"
)
_NOT_COMMITTED = (
    "no line of the MANIFEST names these bytes: a merge is at work, or was stopped; lanes hold what is in them"
)


class SurplusCheck:
    """Judges what stands behind the ends of an agent's day files. Used by one thread.

    Args:
        storage: where they lie.
        lanes: every lane there is.
        readers: those that there were before the MANIFEST was read.
        found: where findings go.
    """

    def __init__(self, storage: Storage, lanes: LaneSet, readers: list[LaneReader], found: AgentFindings) -> None:
        self._storage = storage
        self._lanes = lanes
        self._found = found
        self._leftovers = Leftovers(
            storage, manifests=ManifestCache(storage, bytes_max=0), waiting=set, standing=lambda: readers
        )

    def check(self, manifest: Manifest, path: str, committed: int) -> None:
        """Tell what stands behind so many bytes of a day file.

        Lanes are listed again, after the file was measured: what a merge has written was in one by then.

        Raises:
            FileNotFoundError: it has gone.
            StorageError: it cannot be read.
        """
        file = self._storage.open_read(path)
        try:
            behind = file.identity().size_bytes - committed
            place = (committed, behind)
            self._leftovers.check_day_file(file, manifest.agent, committed, manifest)
            name, lanes = os.path.basename(path), self._lanes.refresh()
            if is_explained(lanes, manifest, name, committed=committed, behind=behind):
                self._found.find(
                    "day_file", _NOT_COMMITTED, place, path=path, severity="note", repair="`memstore drain`"
                )
            else:
                self._found.find("day_file", UNEXPLAINED, place, path=path, records=None, repair="set them aside")
        except CorruptionError as error:
            self._found.find(
                "day_file",
                error.reason,
                (error.offset_bytes, error.length_bytes),
                path=path,
                records=None,
                repair="keep what is whole of it",
            )
        finally:
            file.close()
