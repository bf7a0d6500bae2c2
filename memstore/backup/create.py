"""Take a point of a store while agents write into it.

::

    lock the repository, remove what a crash left       one backup or prune at a time
    under the merge lock: list the store                nothing is half moved; changed MANIFESTs are copied
    copy what is new, link what the point before has    without any lock: writers, merges and moves go on
    something has gone meanwhile: list again            a move went by; what was copied stays copied
    sync; name the lanes, write BACKUP.json, sync, name the point
    let go of the lanes that are archived now

The first copy of a file is a copy and no link, on the same file system too: a backup that shares its blocks with the
store would share their damage. Points link to each other, as rsnapshot's do; lanes are kept beside them as PostgreSQL
keeps its log beside base backups, so that the moments between two points can be restored.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from contextlib import ExitStack

from memstore.backup.copying import copy_range, entry_of, make_plain_directories, write_new
from memstore.backup.lane_copy import CopiedLane, copy_lane
from memstore.backup.listing import ListedAgent, Lister, Listing, SourceFile, store_bytes
from memstore.backup.registry import Registration
from memstore.backup.report import BackupReport
from memstore.backup.repository import Repository, repository_for
from memstore.engine.engine import Engine
from memstore.errors import CorruptionError, MemstoreError, StorageError, StorageFullError, UsageError
from memstore.format.backup_file import (
    BACKUP_VERSION,
    BackedUpAgent,
    BackedUpFile,
    BackupEnd,
    BackupList,
    Gap,
    LanesFile,
    encode_backup_list,
    encode_lanes_file,
    new_head,
)
from memstore.format.backup_names import LANES_LIST, point_name, point_time
from memstore.format.consumer_file import ConsumerFile
from memstore.format.names import BACKUP_LIST, STORE_FILE, lane_token
from memstore.fs.atomic import make_durable_directories
from memstore.fs.local import can_sync_file_system
from memstore.fs.lock import locked
from memstore.fs.storage import Storage, StorageFile
from memstore.fs.trees import files_below, remove_tree
from memstore.lifecycle.commit import LOCK_WAIT_S
from memstore.lifecycle.turn import own_turn

_log = logging.getLogger(__name__)
ROUNDS_MAX = 5
"""How often the store is listed without keeping moves out; each time means that files have gone since. The last round
holds the lifecycle lock too."""
RESERVE_BYTES = 8 * 1024 * 1024
"""Free space that a backup leaves beside what it copies."""
DAMAGE_KEPT_MAX = 100
Progress = Callable[[int, int], None]
"""Told how many files are done, and how many there are."""


def create_backup(
    engine: Engine, destination: str, *, anew: bool = False, progress: Progress | None = None
) -> BackupReport:
    """Take a point.

    Args:
        engine: the store, open for writing.
        destination: the repository's directory; made if it is not there.
        anew: copy everything, as after damage was found in older points.
        progress: see `Progress`.

    Raises:
        UsageError: the destination lies in the store, or the store in it, or it holds something else.
        LockedError: another backup is at work there, or a merge did not end in time.
        StorageFullError: there is no room for what has to be copied; the points that are there stay.
        StorageError: the destination, or a volume of the store, cannot be used.
    """
    engine.check_writable()
    root = os.path.abspath(destination)
    _check_apart(engine, root)
    began_s = engine.clock.monotonic_s()
    repository = repository_for(
        engine.storage, root, store_id=engine.catalog.state.store.id, at_us=engine.clock.now_us()
    )
    with repository.locked():
        report = _Making(engine, repository, anew=anew, progress=progress or _nobody).make()
    report.seconds = engine.clock.monotonic_s() - began_s
    return report


def _check_apart(engine: Engine, destination: str) -> None:
    state = engine.catalog.reload()
    target = os.path.realpath(destination)
    for place in (engine.paths.root, *state.shard_paths.values(), state.archive):
        there = os.path.realpath(place)
        if os.path.commonpath([target, there]) in (target, there):
            raise UsageError(
                f"{destination} and {place} lie in each other; a backup belongs outside of the store, best on "
                "another disk"
            )


class _Making:
    """One point in the making."""

    def __init__(self, engine: Engine, repository: Repository, *, anew: bool, progress: Progress) -> None:
        self._engine = engine
        self._storage: Storage = engine.storage
        self._repository = repository
        self._progress = progress
        points = repository.points()
        self._previous = points[-1] if points else None
        self._before = self._list_before()
        agents = [] if self._before is None or anew else self._before.agents
        self._lister = Lister(engine, {agent.directory: agent for agent in agents})
        self._known = {(agent.agent, os.path.basename(f.path)): f for agent in agents for f in agent.files}
        self._registration = Registration(engine, repository.root)
        self._staging = ""
        self._staged: dict[str, BackedUpFile] = {}
        self._damage: list[CorruptionError] = []
        self._report = BackupReport("", "", 0)
        self._seen: ConsumerFile | None = None

    def _list_before(self) -> BackupList | None:
        if self._previous is None:
            return None
        try:
            return self._repository.read_list(self._previous)
        except CorruptionError as error:
            _log.warning("%s; everything is copied anew", error)
            return None

    def make(self) -> BackupReport:
        """Take it.

        Raises:
            StorageError: nothing of it is left but what the next backup removes.
        """
        self._registration.begin()
        self._staging = self._repository.incoming()
        try:
            with ExitStack() as held:
                system = self._storage.open_directory(self._repository.root)
                held.callback(system.close)
                listing = self._bring_all(held)
                return self._finish(listing, system)
        except BaseException:
            self._remove_staging()
            raise

    def _remove_staging(self) -> None:
        try:
            remove_tree(self._storage, self._staging, durably=False)
        except MemstoreError as error:
            _log.warning("%s: not removed: %s", self._staging, error)

    # -- what there is

    def _bring_all(self, held: ExitStack) -> Listing:
        """List and copy until all that one listing names is here."""
        for number in range(ROUNDS_MAX + 1):
            with ExitStack() as turn:
                if number == ROUNDS_MAX:
                    turn.enter_context(own_turn(self._storage, self._engine.paths))
                listing = self._list()
                if self._bring(listing, moves_wait=number == ROUNDS_MAX):
                    held.callback(listing.close)
                    return listing
                listing.close()
        raise StorageError(f"{self._engine.paths.root}: files that a MANIFEST names are missing; run `memstore check`")

    def _list(self) -> Listing:
        engine = self._engine
        with locked(self._storage, engine.paths.lock("merge"), timeout_s=LOCK_WAIT_S):
            began_s = engine.clock.monotonic_s()
            listing = self._lister.take(self._staging)
            self._seen = self._registration.begin()
            self._report.locked_s += engine.clock.monotonic_s() - began_s
        self._report.rounds += 1
        return listing

    # -- what has to be copied

    def _bring(self, listing: Listing, *, moves_wait: bool) -> bool:
        """Copy or link every file of a listing; False where one has gone.

        Args:
            listing: what there is.
            moves_wait: no move can have taken a file away: one that is missing has never been.
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
            self._progress(done, files)
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
        target = os.path.join(self._staging, wanted.path)
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
            self._damage.extend(damage)
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

    # -- the end

    def _finish(self, listing: Listing, system: StorageFile) -> BackupReport:
        # Names sort by time, whatever the clock says by now.
        before_us = -1 if self._previous is None else point_time(self._previous) or 0
        at = max(listing.at, before_us + 1)
        name = point_name(at)
        seen = self._seen
        assert seen is not None
        gap = self._registration.gap(seen, self._previous)
        lanes, lane_files = self._archive(listing, at, gap)
        agents = [self._entry(agent) for agent in listing.agents]
        files = [*self._write_small(listing), *lane_files]
        self._drop_strangers({f.path for a in agents for f in a.files} | {f.path for f in files})
        end = BackupEnd(
            agents=len(agents),
            files=len(files) + sum(len(agent.files) for agent in agents),
            bytes=sum(f.size for f in files) + sum(f.size for agent in agents for f in agent.files),
            records=sum(agent.records for agent in agents),
            lane_records=sum(lane.records for lane in lanes if lane.stands is not None),
        )
        head = new_head(
            store=self._repository.store_id,
            at=at,
            previous=self._previous,
            epoch=listing.store.epoch,
            lanes={lane_token(lane.entry.file): lane.entry.end for lane in lanes},
            gap=gap,
            damaged=sorted({error.path for error in self._damage}),
        )
        write_new(
            self._storage,
            os.path.join(self._staging, BACKUP_LIST),
            encode_backup_list(BackupList(head, agents, files, end)),
        )
        self._publish(name, system)
        archived = {lane_token(lane.entry.file): lane.entry.end for lane in lanes}
        self._registration.passed(archived, point=name, points=self._repository.points(), seen=seen)
        report = self._report
        report.name, report.path, report.at = name, self._repository.paths.point(name), at
        report.agents, report.files, report.bytes = end.agents, end.files, end.bytes
        report.records = end.records + end.lane_records
        report.lanes, report.gap = len(lanes), gap
        report.damage = self._damage[:DAMAGE_KEPT_MAX]
        return report

    def _entry(self, agent: ListedAgent) -> BackedUpAgent:
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

    def _archive(self, listing: Listing, at: int, gap: Gap | None) -> tuple[list[CopiedLane], list[BackedUpFile]]:
        """Every lane into the archive, and those that stand into the point; the entries of these."""
        directory = os.path.join(self._staging, ".lanes")
        make_plain_directories(self._storage, directory)
        known_directory, known = "", {}
        if self._previous is not None and self._storage.exists(self._repository.paths.lanes_list(self._previous)):
            known_directory = self._repository.paths.lanes_of(self._previous)
            known = {lane.file: lane for lane in self._repository.read_lanes(self._previous).lanes}
        lanes: list[CopiedLane] = []
        entries: list[BackedUpFile] = []
        for listed in listing.lanes:
            lane = copy_lane(
                self._storage,
                listed,
                directory,
                known=known.get(os.path.splitext(listed.name)[0] + ".lane"),
                known_directory=known_directory,
            )
            lanes.append(lane)
            self._report.copied_files += lane.copied > 0
            self._report.copied_bytes += lane.copied
            if lane.stands is not None:
                path = os.path.join("lanes", lane.stands)
                self._link_or_copy(os.path.join(directory, lane.entry.file), os.path.join(self._staging, path))
                entries.append(BackedUpFile(path, lane.entry.size, lane.entry.xxh3, ""))
        content = LanesFile(
            version=BACKUP_VERSION, at=at, previous=self._previous, gap=gap, lanes=[lane.entry for lane in lanes]
        )
        write_new(self._storage, os.path.join(directory, LANES_LIST), encode_lanes_file(content))
        return lanes, entries

    def _link_or_copy(self, source: str, target: str) -> None:
        make_plain_directories(self._storage, os.path.dirname(target))
        try:
            self._storage.link(source, target)
        except (StorageError, FileExistsError):
            file = self._storage.open_read(source)
            try:
                copy_range(self._storage, file, target, file.size_bytes())
            finally:
                file.close()

    def _write_small(self, listing: Listing) -> list[BackedUpFile]:
        for directory in ("lanes", *listing.roots):
            make_plain_directories(self._storage, os.path.join(self._staging, directory))
        small = {STORE_FILE: store_bytes(listing.store), **listing.small}
        for path, data in small.items():
            write_new(self._storage, os.path.join(self._staging, path), data)
        return [entry_of(path, data) for path, data in small.items()]

    def _drop_strangers(self, listed: set[str]) -> None:
        """Remove what an earlier round copied and the last listing does not name."""
        for path in list(files_below(self._storage, self._staging)):
            relative = os.path.relpath(path, self._staging)
            if relative not in listed and not relative.startswith(".lanes" + os.sep):
                self._storage.unlink(path)

    def _publish(self, name: str, system: StorageFile) -> None:
        """Make it a point: all of it synced, then its lanes named, then the point itself."""
        paths = self._repository.paths
        make_durable_directories(self._storage, paths.archive)
        if can_sync_file_system():
            system.sync_file_system()
        else:
            sync_tree(self._storage, self._staging)
        self._storage.rename(os.path.join(self._staging, ".lanes"), paths.lanes_of(name))
        self._storage.sync_directory(paths.archive)
        self._storage.rename(self._staging, paths.point(name))
        self._storage.sync_directory(paths.root)


def sync_tree(storage: Storage, root: str) -> None:
    """Make every file and name below a directory durable, one by one."""
    directories = {root}
    for path in files_below(storage, root):
        file = storage.open_read(path)
        try:
            file.sync_data()
        finally:
            file.close()
        directory = os.path.dirname(path)
        while len(directory) > len(root):
            directories.add(directory)
            directory = os.path.dirname(directory)
    for directory in sorted(directories, key=len, reverse=True):
        storage.sync_directory(directory)


def _nobody(_done: int, _total: int) -> None:
    """No one wants to be told."""
