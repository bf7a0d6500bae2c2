"""What a merge that was stopped left in an agent's directory, and whether it may be cut.

Bytes behind the committed length of a day file, and a MANIFEST line that is torn: harmless if every record in them
stands in a lane that is still there, damage if not. All lanes are asked, not those alone that are merged now: the
merge that was stopped may have taken others.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable

import orjson

from memstore.codec.checksum import checksum
from memstore.engine.unmerged_lanes import unmerged_lanes, waiting_bytes_by_day
from memstore.errors import CorruptionError
from memstore.format.lines import agent_prefix
from memstore.fs.parts import parts_of
from memstore.fs.storage import Storage, StorageFile
from memstore.fs.verified import read_listed
from memstore.manifest.cache import ManifestCache
from memstore.manifest.index import Manifest
from memstore.wal.reader import LaneReader

UNKNOWN_RECORDS = "it holds records that neither its MANIFEST nor a lane knows"


class Leftovers:
    """Used by one thread, under the merge lock and the agent's shard lock.

    Args:
        storage: where everything lies.
        manifests: MANIFESTs, as they stand.
        waiting: tokens of all lanes that are not merged yet.
        standing: every lane there is.
    """

    def __init__(
        self,
        storage: Storage,
        *,
        manifests: ManifestCache,
        waiting: Callable[[], set[str]],
        standing: Callable[[], list[LaneReader]],
    ) -> None:
        self._storage = storage
        self._manifests = manifests
        self._waiting = waiting
        self._standing = standing

    def check_manifest(self, directory: str, agent: str, manifest: Manifest | None) -> None:
        """See that a MANIFEST's end that does not verify may be cut.

        Raises:
            CorruptionError: it cites what is nowhere else.
        """
        torn = self._manifests.torn_tail(directory, manifest)
        if torn is None:
            return
        # Of all lanes, not the chosen ones alone: the merge that was stopped may have taken others with them.
        waiting = waiting_bytes_by_day(unmerged_lanes(self._standing(), manifest), agent)
        error = torn.damage(lanes=self._waiting(), waiting_bytes=waiting)
        if error is not None:
            raise error
        for name, (committed, _) in torn.surplus.items():
            file = self._storage.open_read(os.path.join(directory, name))
            try:
                self.check_day_file(file, agent, committed, manifest)
            finally:
                file.close()

    def check_day_file(self, file: StorageFile, agent: str, committed: int, manifest: Manifest | None) -> None:
        """See that what stands behind the committed length of a day file may be cut.

        A merge that was stopped left it, so every record in it has to be in a lane that still stands.

        Raises:
            CorruptionError: a whole record of the agent is there that no lane has.
        """
        day = os.path.basename(file.path).partition(".")[0]
        prefix = agent_prefix(agent)
        in_lanes: set[str] | None = None
        rest = b""
        for data in parts_of(file, start=committed):
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                if not line.startswith(prefix):
                    continue
                if in_lanes is None:
                    in_lanes = self._line_checksums(agent, day, manifest)
                if checksum(line) not in in_lanes and _is_json(line):
                    raise CorruptionError(
                        file.path,
                        offset_bytes=committed,
                        length_bytes=file.identity().size_bytes - committed,
                        reason=UNKNOWN_RECORDS,
                    )

    def _line_checksums(self, agent: str, day: str, manifest: Manifest | None) -> set[str]:
        """Checksums of the lines that lanes hold of one day and that are not merged, those of damaged slices aside."""
        found: set[str] = set()
        for lane in unmerged_lanes(self._standing(), manifest):
            for item in lane.agent_slices(agent).slices:
                if item.day != day:
                    continue
                with contextlib.suppress(CorruptionError):
                    data = read_listed(lane.file, item)
                    found.update(checksum(line) for line in data.split(b"\n"))
        return found


def _is_json(line: bytes) -> bool:
    """Whether a line is whole; what a crash tore holds zeros or half of another line."""
    try:
        orjson.loads(line)
    except orjson.JSONDecodeError:
        return False
    return True
