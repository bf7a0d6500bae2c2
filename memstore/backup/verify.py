"""Is a backup what it says? Restore it to a scratch directory, read every record, compare.

Three proofs, one upon the other: each file has the bytes that the list says; a full check of the restored store finds
every block, frame and line as its MANIFESTs say; and each agent has as many records as were counted when the point was
taken. With the store at hand its records are compared line by line too.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from memstore.backup.laying_out import Progress, lay_out
from memstore.backup.report import damage_as_dict
from memstore.backup.repository import Repository, open_repository
from memstore.clock import Clock
from memstore.config import Settings
from memstore.engine.engine import Engine
from memstore.engine.reading import Reading
from memstore.errors import CorruptionError, LockedError, MemstoreError, NotFoundError, StorageError
from memstore.format.backup_file import BackupList
from memstore.format.backup_names import SCRATCH_PREFIX
from memstore.format.lane import Slice
from memstore.format.names import StorePaths, is_lane_name
from memstore.fs.lock import try_lock_file
from memstore.fs.storage import Storage
from memstore.fs.trees import remove_tree
from memstore.manifest.reader import load_manifest
from memstore.ops.check import check_store
from memstore.ops.finding import Finding
from memstore.timestamps import YEAR_10000_US, iso_text
from memstore.wal.scan import ScannedCommit, scan_lane
from memstore.wal.seal import read_header

NAMED_MAX = 100
"""Agents and findings that a report names; all are counted."""


@dataclass(slots=True)
class VerifyReport:
    """What a verification found.

    Attributes:
        name: of the point.
        at: its moment.
        files, bytes: that were compared with the list.
        agents, records: that were read.
        damage: files of the backup that are not what was backed up.
        findings: what a full check of the restored store found.
        miscounted: agents that do not have as many records as were counted when the point was taken.
        compared: records that were compared with those of the store; None where there was no store to compare with.
        differing: of these, how many the store does not have, or has otherwise: forgotten, expired or erased since,
            cut to a digest, or lost.
        seconds: how long it took.
    """

    name: str
    at: int
    files: int = 0
    bytes: int = 0
    agents: int = 0
    records: int = 0
    damage: list[CorruptionError] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    miscounted: list[str] = field(default_factory=list)
    compared: int | None = None
    differing: int = 0
    seconds: float = 0.0

    @property
    def is_good(self) -> bool:
        """Whether the point can be restored as it was taken."""
        return not (self.damage or self.findings or self.miscounted)

    def as_dict(self) -> dict[str, Any]:
        """For machines; docs/CLI.md lists the fields."""
        return {
            "name": self.name,
            "at": iso_text(self.at),
            "good": self.is_good,
            "files": self.files,
            "bytes": self.bytes,
            "agents": self.agents,
            "records": self.records,
            "damage": [damage_as_dict(error) for error in self.damage[:NAMED_MAX]],
            "findings": [finding.as_dict() for finding in self.findings[:NAMED_MAX]],
            "miscounted": self.miscounted[:NAMED_MAX],
            "compared": self.compared,
            "differing": self.differing,
            "seconds": round(self.seconds, 3),
        }


def verify_backup(
    storage: Storage,
    destination: str,
    *,
    clock: Clock,
    point: str | None = None,
    scratch: str | None = None,
    against: Engine | None = None,
    progress: Progress | None = None,
) -> VerifyReport:
    """Verify one point.

    Args:
        storage: where the repository lies.
        destination: its directory.
        clock: how long it takes.
        point: its name; the newest unless given.
        scratch: a directory in which there is room for all of the point; the repository's unless given.
        against: the store to compare with, open.
        progress: see `Progress`.

    Raises:
        NotFoundError: there is no such repository or point.
        LockedError: somebody else is verifying.
        StorageFullError: there is no room for the scratch directory.
    """
    repository = open_repository(storage, destination)
    name = point or newest_point(repository)
    listed = repository.read_list(name)
    lock = try_lock_file(storage, os.path.join(repository.root, ".lock-verify"))
    if lock is None:
        raise LockedError(f"{repository.root}: somebody else is verifying a backup there; try again when that is done")
    place = repository.root if scratch is None else os.path.abspath(scratch)
    began_s = clock.monotonic_s()
    try:
        for entry in storage.list_directory(repository.root):
            if entry.is_directory and entry.name.startswith(SCRATCH_PREFIX):
                remove_tree(storage, os.path.join(repository.root, entry.name), durably=False)
        target = os.path.join(place, f"{SCRATCH_PREFIX}{secrets.token_hex(8)}")
        storage.make_directory(target)
        try:
            report = _Verification(repository, name, listed, target).run(clock, against, progress or _nobody)
        finally:
            remove_tree(storage, target, durably=False)
    finally:
        lock.close()
    report.seconds = clock.monotonic_s() - began_s
    return report


def newest_point(repository: Repository) -> str:
    """Name of the newest point.

    Raises:
        NotFoundError: there is none yet.
    """
    points = repository.points()
    if not points:
        raise NotFoundError(f"{repository.root} holds no backup yet")
    return points[-1]


class _Verification:
    """One verification of one point."""

    def __init__(self, repository: Repository, name: str, listed: BackupList, target: str) -> None:
        self._storage = repository.storage
        self._repository = repository
        self._name = name
        self._listed = listed
        self._target = target
        self._report = VerifyReport(name, listed.head.at)

    def run(self, clock: Clock, against: Engine | None, progress: Progress) -> VerifyReport:
        """Restore, check, count, compare."""
        report, listed = self._report, self._listed
        # Linked where it can be: nothing writes to what is verified, and copying would cost as much as a read.
        lay_out(
            self._repository,
            self._name,
            listed,
            self._target,
            link=True,
            on_damage=report.damage.append,
            progress=progress,
        )
        report.files, report.bytes = len(listed.all_files()), sum(f.size for f in listed.all_files())
        known_damaged = {os.path.basename(path) for path in listed.head.damaged}
        checked = check_store(self._storage, StorePaths(self._target), clock=clock, full=True)
        report.agents, report.records = checked.checked.agents, checked.checked.records
        # What the store itself had damaged when the point was taken was told then, and is as it was.
        report.findings = [
            f for f in checked.findings if f.severity != "note" and os.path.basename(f.path) not in known_damaged
        ]
        self._count()
        if against is not None:
            self._compare(clock, against)
        return report

    def _count(self) -> None:
        for agent in self._listed.agents:
            manifest = None
            with contextlib.suppress(MemstoreError):  # the check has told of it
                manifest = load_manifest(self._storage, os.path.join(self._target, agent.directory))
            if manifest is not None and not manifest.damaged and manifest.records() != agent.records:
                self._report.miscounted.append(agent.agent)
        lanes = StorePaths(self._target).lanes
        records = sum(item.records for item in _slices(self._storage, lanes))
        if records != self._listed.end.lane_records and not self._report.damage:
            self._report.miscounted.append("(lanes)")

    def _compare(self, clock: Clock, against: Engine) -> None:
        report = self._report
        report.compared = 0
        copy = Engine(self._storage, self._target, settings=Settings(), clock=clock, read_only=True, create=False)
        try:
            for agent in copy.inventory.agents(skip_damaged=True):
                for is_same in _compared(_lines(copy, agent), _lines(against, agent)):
                    report.compared += 1
                    report.differing += not is_same
        finally:
            copy.close()


def _slices(storage: Storage, lanes: str) -> Iterator[Slice]:
    for entry in storage.list_directory(lanes):
        if not is_lane_name(entry.name):
            continue
        file = storage.open_read(os.path.join(lanes, entry.name))
        try:
            _, start = read_header(file)
            for item in scan_lane(file, start=start, size=file.size_bytes()):
                if isinstance(item, ScannedCommit):
                    yield from item.commit.slices
        except StorageError:
            continue  # the check has told of it
        finally:
            file.close()


def _lines(engine: Engine, agent: str) -> Iterator[bytes]:
    reading = Reading(engine.builder, agent, lambda _error: None)
    return reading.scan(since_us=0, until_us=YEAR_10000_US, newest_first=False)


def _compared(ours: Iterator[bytes], theirs: Iterator[bytes]) -> Iterator[bool]:
    """Of each line of the first, whether the second has it; both are sorted."""
    theirs_next = next(theirs, None)
    for line in ours:
        while theirs_next is not None and theirs_next < line:
            theirs_next = next(theirs, None)
        yield theirs_next == line


def _nobody(_done: int, _total: int) -> None:
    """No one wants to be told."""
