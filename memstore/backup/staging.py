"""The directory in which a point is made: every file of a listing copied or linked into it, once."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence

from memstore.backup.copying import copy_range, entry_of, make_plain_directories, write_new
from memstore.backup.listing import ListedAgent, Listing, SourceFile, store_bytes
from memstore.backup.report import BackupReport
from memstore.backup.repository import Repository
from memstore.errors import CorruptionError, MemstoreError, StorageError, StorageFullError
from memstore.format.backup_file import BackedUpAgent, BackedUpFile
from memstore.format.names import STORE_FILE
from memstore.fs.storage import StorageFile
from memstore.fs.trees import files_below, remove_tree

_log = logging.getLogger(__name__)
LANES = ".lanes"
"""Below it lies what goes into the archive and not into the point."""
RESERVE_BYTES = 8 * 1024 * 1024
"""Free space that a backup leaves beside what it copies."""
Progress = Callable[[int, int], None]
"""Told how many files are done, and how many there are."""


class Staging:
    """Used by one thread, which holds the repository's lock.

    Attributes:
        path: the directory.
        damage: what was damaged in the store.

    Args:
        repository: where it lies.
        previous: name of the point before, whose files may be linked; None where there is none.
        agents: what its list says of agents; none: everything is copied.
        report: told what was copied.
    """

    def __init__(
        self,
        repository: Repository,
        previous: str | None,
        agents: Sequence[BackedUpAgent],
        report: BackupReport,
    ) -> None:
        self._storage = repository.storage
        self._repository = repository
        self._previous = previous
        self._known = {(agent.agent, os.path.basename(f.path)): f for agent in agents for f in agent.files}
        self._staged: dict[str, BackedUpFile] = {}
        self._report = report
        self.path = repository.incoming()
        self.damage: list[CorruptionError] = []

    def bring(self, listing: Listing, *, moves_wait: bool, progress: Progress) -> bool:
        """Copy or link every file of a listing; False where one has gone.

        Args:
            listing: what there is.
            moves_wait: no move can have taken a file away: one that is missing has never been.
            progress: see `Progress`.

        Raises:
            StorageFullError: there is no room for all of it.
            StorageError: a volume refuses.
        """
        files = sum(len(a.known.files) if a.known else len(a.files) for a in listing.agents)
        self._ask_for_room(listing)
        done = 0
        for agent in listing.agents:
            if agent.known is not None:
                for entry in agent.known.files:
                    source = listing.source_of(entry.path)
                    wanted = SourceFile(entry.path, source, source, entry.size, entry.mark)
                    if not self._take(wanted, entry):
                        return False
                    done += 1
            else:
                for wanted in agent.files:
                    known = self._known.get((agent.agent, os.path.basename(wanted.path)))
                    # A merge that a power cut stopped may have left its line without its file: the lanes have it.
                    may_lack = agent.damaged or (agent.cites and moves_wait)
                    if not self._take(wanted, known, expects_lanes=agent.cites) and not may_lack:
                        return False
                    done += 1
            progress(done, files)
        return True

    def _ask_for_room(self, listing: Listing) -> None:
        """Begin only with room to finish."""
        need = RESERVE_BYTES + sum(lane.size for lane in listing.lanes)
        for agent in listing.agents:
            for wanted in agent.files:
                known = self._known.get((agent.agent, os.path.basename(wanted.path)))
                if wanted.path not in self._staged and (known is None or known.mark != wanted.mark):
                    need += wanted.size
        free = self._storage.free_bytes(self._repository.root)
        if free < need:
            raise StorageFullError(
                f"{self._repository.root}: this backup needs {need} bytes and {free} are free; prune old backups or "
                "name another destination"
            )

    def _take(self, wanted: SourceFile, known: BackedUpFile | None, *, expects_lanes: bool = False) -> bool:
        """Have one file in the staging directory; False where it has gone from the store."""
        target = os.path.join(self.path, wanted.path)
        there = self._staged.get(wanted.path)
        if there is not None and wanted.mark and there.mark == wanted.mark:
            return True
        if known is not None and wanted.mark and known.mark == wanted.mark and self._link(known.path, target):
            self._staged[wanted.path] = known._replace(path=wanted.path)
            return True
        file = self._open(wanted)
        if file is None:
            return False
        try:
            size = min(wanted.size, file.size_bytes()) if expects_lanes else wanted.size
            xxh3, damage = copy_range(self._storage, file, target, size, wanted.pieces)
        finally:
            file.close()
        if damage and not expects_lanes:
            self.damage.extend(damage)
        # What is damaged in the store is copied again each time: a repair may have put it right under the same name.
        mark = "" if damage or size < wanted.size else wanted.mark
        self._staged[wanted.path] = BackedUpFile(wanted.path, size, xxh3, mark)
        self._report.copied_files += 1
        self._report.copied_bytes += size
        return True

    def _link(self, path: str, target: str) -> bool:
        assert self._previous is not None
        make_plain_directories(self._storage, os.path.dirname(target))
        try:
            self._storage.link(os.path.join(self._repository.paths.point(self._previous), path), target)
        except StorageFullError:
            raise
        except (StorageError, FileNotFoundError, FileExistsError):
            return False
        return True

    def _open(self, wanted: SourceFile) -> StorageFile | None:
        for path in (wanted.source, wanted.elsewhere):
            try:
                return self._storage.open_read(path)
            except FileNotFoundError:
                continue
        return None

    def entry_of_agent(self, agent: ListedAgent) -> BackedUpAgent:
        """What the point's list says of an agent whose files were brought."""
        if agent.known is not None:
            files = [self._staged[entry.path] for entry in agent.known.files]
            is_complete = True
        else:
            assert agent.manifest is not None
            taken = [self._staged[f.path] for f in agent.files if f.path in self._staged]
            files = [agent.manifest, *taken]
            is_complete = len(taken) == len(agent.files)
        # Where a file was damaged or not there yet, the agent is looked through again next time.
        mark = agent.mark if is_complete and all(f.mark for f in files) else ""
        return BackedUpAgent(
            agent=agent.agent, directory=agent.directory, mark=mark, records=agent.records, files=files
        )

    def write_small(self, listing: Listing) -> list[BackedUpFile]:
        """Write the files that belong to no agent, and make every directory there has to be; their entries."""
        for directory in ("lanes", *listing.roots):
            make_plain_directories(self._storage, os.path.join(self.path, directory))
        small = {STORE_FILE: store_bytes(listing.store), **listing.small}
        for path, data in small.items():
            write_new(self._storage, os.path.join(self.path, path), data)
        return [entry_of(path, data) for path, data in small.items()]

    def drop_strangers(self, listed: set[str]) -> None:
        """Remove what an earlier round copied and the last listing does not name."""
        for path in list(files_below(self._storage, self.path)):
            relative = os.path.relpath(path, self.path)
            if relative not in listed and not relative.startswith(LANES + os.sep):
                self._storage.unlink(path)

    def remove(self) -> None:
        """Remove all of it; what is left the next backup removes."""
        try:
            remove_tree(self._storage, self.path, durably=False)
        except MemstoreError as error:
            _log.warning("%s: not removed: %s", self.path, error)
