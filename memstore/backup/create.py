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
from contextlib import ExitStack

from memstore.backup.archive_lanes import archive_lanes
from memstore.backup.copying import write_new
from memstore.backup.listing import Lister, Listing
from memstore.backup.registry import Registration
from memstore.backup.report import BackupReport
from memstore.backup.repository import Repository, repository_for
from memstore.backup.staging import LANES, Progress, Staging
from memstore.engine.engine import Engine
from memstore.errors import CorruptionError, StorageError, UsageError
from memstore.format.backup_file import (
    BACKUP_VERSION,
    BackedUpAgent,
    BackupEnd,
    BackupList,
    LanesFile,
    encode_backup_list,
    new_head,
)
from memstore.format.backup_names import point_name, point_time
from memstore.format.consumer_file import ConsumerFile
from memstore.format.names import BACKUP_LIST, lane_token
from memstore.fs.atomic import make_durable_directories
from memstore.fs.local import can_sync_file_system
from memstore.fs.lock import locked
from memstore.fs.storage import StorageFile
from memstore.fs.trees import sync_tree
from memstore.lifecycle.commit import LOCK_WAIT_S
from memstore.lifecycle.turn import own_turn

_log = logging.getLogger(__name__)
ROUNDS_MAX = 5
"""How often the store is listed without keeping moves out; each time means that files have gone since. The last round
holds the lifecycle lock too."""
DAMAGE_KEPT_MAX = 100


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
        self._storage = engine.storage
        self._repository = repository
        self._progress = progress
        points = repository.points()
        self._previous = points[-1] if points else None
        self._before = [] if anew else self._agents_before()
        self._lister = Lister(engine, {agent.directory: agent for agent in self._before})
        self._registration = Registration(engine, repository.root)
        self._report = BackupReport("", "", 0)
        self._seen: ConsumerFile | None = None

    def _agents_before(self) -> list[BackedUpAgent]:
        """What the point before says of agents."""
        if self._previous is None:
            return []
        try:
            return self._repository.read_list(self._previous).agents
        except CorruptionError as error:
            _log.warning("%s; everything is copied anew", error)
            return []

    def make(self) -> BackupReport:
        """Take it.

        Raises:
            StorageError: nothing of it is left but what the next backup removes.
        """
        self._registration.begin()
        staging = Staging(self._repository, self._previous, self._before, self._report)
        try:
            with ExitStack() as held:
                system = self._storage.open_directory(self._repository.root)
                held.callback(system.close)
                listing = self._bring_all(staging, held)
                return self._finish(staging, listing, system)
        except BaseException:
            staging.remove()
            raise

    def _bring_all(self, staging: Staging, held: ExitStack) -> Listing:
        """List and copy until all that one listing names is here."""
        for number in range(ROUNDS_MAX + 1):
            with ExitStack() as turn:
                if number == ROUNDS_MAX:
                    turn.enter_context(own_turn(self._storage, self._engine.paths))
                listing = self._list(staging)
                if staging.bring(listing, moves_wait=number == ROUNDS_MAX, progress=self._progress):
                    held.callback(listing.close)
                    return listing
                listing.close()
        raise StorageError(f"{self._engine.paths.root}: files that a MANIFEST names are missing; run `memstore check`")

    def _list(self, staging: Staging) -> Listing:
        engine = self._engine
        with locked(self._storage, engine.paths.lock("merge"), timeout_s=LOCK_WAIT_S):
            began_s = engine.clock.monotonic_s()
            listing = self._lister.take(staging.path)
            self._seen = self._registration.begin()
            self._report.locked_s += engine.clock.monotonic_s() - began_s
        self._report.rounds += 1
        return listing

    def _finish(self, staging: Staging, listing: Listing, system: StorageFile) -> BackupReport:
        # Names sort by time, whatever the clock says by now.
        before_us = -1 if self._previous is None else point_time(self._previous) or 0
        at = max(listing.at, before_us + 1)
        name = point_name(at)
        seen = self._seen
        assert seen is not None
        gap = self._registration.gap(seen, self._previous)
        of_lanes = LanesFile(version=BACKUP_VERSION, at=at, previous=self._previous, gap=gap)
        lanes, lane_files = archive_lanes(self._repository, staging.path, of_lanes, listing.lanes)
        agents = [staging.entry_of_agent(agent) for agent in listing.agents]
        files = [*staging.write_small(listing), *lane_files]
        staging.drop_strangers({f.path for a in agents for f in a.files} | {f.path for f in files})
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
            damaged=sorted({error.path for error in staging.damage}),
        )
        write_new(
            self._storage,
            os.path.join(staging.path, BACKUP_LIST),
            encode_backup_list(BackupList(head, agents, files, end)),
        )
        self._publish(staging, name, system)
        archived = {lane_token(lane.entry.file): lane.entry.end for lane in lanes}
        self._registration.passed(archived, point=name, points=self._repository.points(), seen=seen)
        report = self._report
        report.name, report.path, report.at = name, self._repository.paths.point(name), at
        report.agents, report.files, report.bytes = end.agents, end.files, end.bytes
        report.records = end.records + end.lane_records
        report.lanes, report.gap = len(lanes), gap
        report.copied_files += sum(lane.copied > 0 for lane in lanes)
        report.copied_bytes += sum(lane.copied for lane in lanes)
        report.damage = staging.damage[:DAMAGE_KEPT_MAX]
        return report

    def _publish(self, staging: Staging, name: str, system: StorageFile) -> None:
        """Make it a point: all of it synced, then its lanes named, then the point itself."""
        paths = self._repository.paths
        make_durable_directories(self._storage, paths.archive)
        if can_sync_file_system():
            system.sync_file_system()
        else:
            sync_tree(self._storage, staging.path)
        self._storage.rename(os.path.join(staging.path, LANES), paths.lanes_of(name))
        self._storage.sync_directory(paths.archive)
        self._storage.rename(staging.path, paths.point(name))
        self._storage.sync_directory(paths.root)


def _nobody(_done: int, _total: int) -> None:
    """No one wants to be told."""
