"""Bring a store back: as it was at a point, or at any moment between two.

::

    the newest point not behind the moment    copied file by file, each proved by the point's list
    erasures that the point does not know     carried out as any that was interrupted: erased is gone from here, too
    commits from the archived lanes           written as lanes, up to the moment
    what was forgotten until then             hidden again
    swap                                      what stood there is kept beside it

Whatever of this fails, or is killed, leaves what stands at the target untouched.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager

import msgspec

from memstore.backup.gone import Gone, forgotten_of, forgotten_of_points, read_gone
from memstore.backup.laying_out import lay_out
from memstore.backup.moment import Moment, find_moment
from memstore.backup.replay import LaneReplay
from memstore.backup.report import RestoreReport
from memstore.backup.repository import Repository, open_repository
from memstore.backup.target import Target
from memstore.clock import Clock
from memstore.config import MergingSettings, Settings, StorageSettings
from memstore.engine.engine import Engine
from memstore.engine.reading import Reading
from memstore.errors import CorruptionError, HeldError
from memstore.format.forgotten import text_hash
from memstore.format.names import StorePaths
from memstore.format.store_file import StoreFile, decode_store_file, encode_store_file
from memstore.fs.local import can_sync_file_system
from memstore.fs.storage import Storage
from memstore.fs.trees import remove_tree, sync_tree
from memstore.ids import WRITER_NUMBER_MAX
from memstore.lifecycle.lifecycle import Lifecycle
from memstore.lifecycle.turn import own_turn

WRITER_JUMP = 1 << 20
"""So many writer numbers are passed over where nobody can say how many were given out since the backup: a process that
starts takes one, and 2,000 restores fit into what there is."""
DRAIN_WAIT_S = 60.0
Progress = Callable[[int, int], None]
"""Told how many bytes are done, and how many there are."""


class _Pinned:
    """The machine's clock, but wall time stands still: what is done to a restored store is done as of its moment."""

    def __init__(self, clock: Clock, now_us: int) -> None:
        self._clock = clock
        self._now_us = now_us

    def now_us(self) -> int:
        return self._now_us

    def monotonic_s(self) -> float:
        return self._clock.monotonic_s()

    def boot_s(self) -> float:
        return self._clock.boot_s()

    def boot_id(self) -> str:
        return self._clock.boot_id()


def restore_store(
    storage: Storage,
    destination: str,
    target: str,
    *,
    clock: Clock,
    at_us: int | None = None,
    point: str | None = None,
    replace: bool = False,
    discard_old: bool = False,
    beside: str | None = None,
    progress: Progress | None = None,
) -> RestoreReport:
    """Restore a whole store.

    Args:
        storage: where everything lies.
        destination: the repository's directory.
        target: the root of the restored store.
        clock: of this machine.
        at_us: the moment; that of the point unless given.
        point: name of the point to begin from; the newest not behind the moment unless given.
        replace: whether the same store, where it is at the target, may be swapped for the restored one.
        discard_old: remove what was replaced; kept beside the target otherwise.
        beside: the root of the store that was backed up, where it is still there and not at the target: what was
            erased from it since does not come back.
        progress: see `Progress`.

    Raises:
        NotFoundError: there is no such repository or point, or none as old as the moment.
        UsageError: something else is at the target, or the moment is still to come.
        CorruptionError: a file of the backup is not what was backed up; nothing was changed at the target.
        LockedError: a process still writes to the store at the target.
        StorageFullError: there is no room.
    """
    repository = open_repository(storage, destination)
    moment = find_moment(repository, point=point, at_us=at_us, now_us=clock.now_us())
    place = Target(storage, os.path.abspath(target), store_id=repository.store_id, replace=replace)
    began_s = clock.monotonic_s()
    with place.building() as built:
        known = [forgotten_of(storage, root) for root in (place.root, beside) if root is not None]
        builder = Builder(repository, moment, built, clock=clock, also_forgotten=known, progress=progress)
        builder.build()
        builder.set_store_file(place.store)
        _sync(storage, built)
        report = builder.report
        report.kept = place.swap(built, at_us=clock.now_us())
    report.target = place.root
    if report.kept is not None and discard_old:
        remove_tree(storage, report.kept, durably=False)
        report.kept = None
    report.seconds = clock.monotonic_s() - began_s
    return report


class Builder:
    """Builds a restored store in an empty directory.

    Args:
        repository: where the backup is.
        moment: what is to be restored.
        root: the directory; its ``locks/`` may be there.
        clock: of this machine.
        also_forgotten: FORGOTTEN of stores that may know of later erasures.
        agents: take these only; None: all.
        progress: see `Progress`.
    """

    def __init__(
        self,
        repository: Repository,
        moment: Moment,
        root: str,
        *,
        clock: Clock,
        also_forgotten: Collection[bytes] = (),
        agents: Collection[str] | None = None,
        progress: Progress | None = None,
    ) -> None:
        self._repository = repository
        self._storage = repository.storage
        self._moment = moment
        self._paths = StorePaths(root)
        self._clock = clock
        self._also_forgotten = also_forgotten
        self._agents = agents
        self._progress = progress
        self._writers: set[int] = set()
        head = moment.listed.head
        self.report = RestoreReport(
            point=moment.point, at=moment.at_us, reached=max(moment.between.reached, head.at), gaps=moment.between.gaps
        )

    def build(self) -> None:
        """Do it all but for STORE.json's writer number and the sync.

        Raises:
            CorruptionError: a file of the backup is not what was backed up.
        """
        moment, report = self._moment, self.report
        lay_out(
            self._repository,
            moment.point,
            moment.listed,
            self._paths.root,
            agents=self._agents,
            on_damage=_refuse,
            progress=self._progress or _nobody,
        )
        report.files, report.bytes = moment.listed.end.files, moment.listed.end.bytes
        gone = self._gone()
        report.undeletes_left_out = gone.undeletes
        if gone.erasures or gone.interrupted:
            self._erase(gone)
        replay = LaneReplay(
            self._storage,
            self._paths.lanes,
            moment.listed.head,
            at_us=moment.at_us,
            gone=gone,
            agents=self._agents,
        )
        for path, lane in moment.between.lanes:
            report.lanes += replay.replay(path, lane)
        report.replayed = replay.records
        self._writers = replay.writers
        if gone.hidden:
            self._hide(gone)

    def _gone(self) -> Gone:
        known = forgotten_of(self._storage, self._paths.root)
        later = [*forgotten_of_points(self._repository, self._moment.point), *self._also_forgotten]
        return read_gone(known, later, at_us=self._moment.at_us)

    def _erase(self, gone: Gone) -> None:
        """Carry out erasures as if they had been interrupted when the point was taken.

        As any erasure they find the lanes merged: what is merged behind one counts as written behind it, and stays.
        """
        with self._opened(self._moment.listed.head.at) as engine:
            engine.drain(timeout_s=DRAIN_WAIT_S)
            for erasure in gone.erasures:
                engine.forgotten.note(erasure)
            eraser = Lifecycle(engine).eraser
            with own_turn(self._storage, self._paths):
                receipts = eraser.resume()
        self.report.erased = sum(receipt.records for receipt in receipts)

    def _hide(self, gone: Gone) -> None:
        with self._opened(self._moment.at_us) as engine:
            engine.drain(timeout_s=DRAIN_WAIT_S)
            forgetter = Lifecycle(engine).forgetter
            for agent in engine.inventory.agents(skip_damaged=True):
                hashed = text_hash(agent)
                wanted = gone.hidden.get(hashed)
                if not wanted:
                    continue
                since_us, until_us = gone.spans[hashed]
                reading = Reading(engine.builder, agent, lambda _error: None)
                ids = [
                    memory_id
                    for line in reading.scan(since_us=since_us, until_us=until_us, newest_first=False)
                    if text_hash(memory_id := _id_of(line)) in wanted
                ]
                try:
                    self.report.hidden += len(forgetter.forget(ids).hidden) if ids else 0
                except HeldError:
                    self.report.held += len(ids)

    @contextmanager
    def _opened(self, now_us: int) -> Iterator[Engine]:
        engine = Engine(
            self._storage,
            self._paths.root,
            settings=Settings(storage=StorageSettings(ballast_bytes=0), merging=MergingSettings(background=False)),
            clock=_Pinned(self._clock, now_us),
            read_only=False,
            create=False,
        )
        try:
            yield engine
        finally:
            engine.close()

    def set_store_file(self, there: StoreFile | None) -> None:
        """See that no writer number is given out twice.

        Args:
            there: STORE.json of the store that is replaced, which knows them all; None where nobody does.
        """
        path = self._paths.store_file
        file = self._storage.open_update(path)
        try:
            store = decode_store_file(file.read(0, file.size_bytes()), path)
            highest = max(store.next_writer, *(number + 1 for number in self._writers), 0)
            if there is not None:
                number = max(highest, there.next_writer)
            else:
                number = min(highest + WRITER_JUMP, WRITER_NUMBER_MAX)
            data = encode_store_file(msgspec.structs.replace(store, next_writer=number))
            # Nobody has it open, and a crash leaves nothing that counts: it is written in place.
            file.truncate(0)
            file.write(data, 0)
        finally:
            file.close()


def _id_of(line: bytes) -> str:
    text: str = msgspec.json.decode(line, type=_IdOnly).memory_id
    return text


class _IdOnly(msgspec.Struct):
    memory_id: str


def _refuse(error: CorruptionError) -> None:
    raise error


def _sync(storage: Storage, root: str) -> None:
    if not can_sync_file_system():
        sync_tree(storage, root)
        return
    system = storage.open_directory(root)
    try:
        system.sync_file_system()
    finally:
        system.close()


def _nobody(_done: int, _total: int) -> None:
    """No one wants to be told."""
