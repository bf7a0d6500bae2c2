"""Is the second copy whole, and does it have all that the store has?

The copy is checked as a store of its own: its structure, or every byte. Then it is held against the store, agent by
agent: each record that was acknowledged before the copy was looked at has to be in its files or its lanes, whatever has
moved where, and each that was forgotten has to be hidden there. A copy that says that it is behind may lack records:
then what it lacks is a note.

Takes no lock and changes nothing, as `memstore.ops.check`.
"""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Callable, Iterator
from functools import partial

from memstore.clock import Clock
from memstore.engine.catalog import Catalog
from memstore.engine.root_view import view_of_root
from memstore.engine.second_copy import read_store_file, standing_of
from memstore.errors import CorruptionError, MemstoreError, NotFoundError, StorageError, UsageError
from memstore.format.names import KEPT_SUFFIX, LANE_SUFFIX, StorePaths, is_lane_name, tier_of
from memstore.format.store_file import ReplicaEntry
from memstore.fs.lock import is_locked
from memstore.fs.storage import Storage
from memstore.ops.check import StoreCheck
from memstore.ops.check_progress import Progress
from memstore.ops.compare_copy import MISSING_MAX, Difference, compare_agent
from memstore.ops.copy_findings import BEFORE_ITS_LINE, JOINS, TAKE_ANEW, as_of_copy
from memstore.ops.finding import Finding, Kind
from memstore.ops.reading_files import StoppedError
from memstore.ops.report import CheckReport, carry_out
from memstore.replica.covered_lanes import is_mirrored
from memstore.replica.replicator import why_not
from memstore.timestamps import iso_text
from memstore.wal.scan import ScannedCommit, scan_lane
from memstore.wal.seal import commit_is_whole, header_end

LOCK_WAIT_S = 10.0
_LOCK_POLL_S = 0.001


def check_copy(
    storage: Storage,
    paths: StorePaths,
    *,
    clock: Clock,
    full: bool = False,
    progress: Progress | None = None,
    on_finding: Callable[[Finding], None] | None = None,
    stop: Callable[[], bool] | None = None,
) -> CheckReport:
    """Check the second copy of a store.

    Args:
        storage: where both lie.
        paths: the store's root.
        clock: for how long it took.
        full: read every byte of the copy.
        progress: see `Progress`.
        on_finding: told of each finding as it is made.
        stop: asked between reads; the check ends once it says so.

    Returns:
        A report whose ``root`` is the copy's.

    Raises:
        NotFoundError: there is no store, or it has no second copy.
        UsageError: it is a second copy itself.
        CorruptionError: the store's STORE.json does not verify, so that nobody can tell where its copy is.
    """
    store = read_store_file(storage, paths)
    if store is None:
        raise NotFoundError(f"{paths.root} holds no store")
    if store.copy_of is not None:
        raise UsageError(f"{paths.root} is the second copy itself: check it without --copy, or the store with it")
    if store.replica is None:
        raise NotFoundError(f"{paths.root} has no second copy; `memstore replica add DIR` gives it one")
    entry, report = store.replica, CheckReport(store.replica.path, full, on_finding=on_finding)
    standing = standing_of(storage, entry, store.id, root=paths.root)
    if standing != "copy":
        report.add(Finding("replica", "unread", entry.path, why_not(entry, standing), records=None))
        return report
    check = _CopyCheck(storage, paths, entry, report, clock=clock, progress=progress, stop=stop)
    return carry_out(report, check.run, clock=clock)


class _CopyCheck:
    def __init__(
        self,
        storage: Storage,
        paths: StorePaths,
        entry: ReplicaEntry,
        report: CheckReport,
        *,
        clock: Clock,
        progress: Progress | None,
        stop: Callable[[], bool] | None,
    ) -> None:
        self._storage = storage
        self._paths = paths
        self._copy = StorePaths(entry.path)
        self._entry = entry
        self._report = report
        self._clock = clock
        self._progress = progress
        self._stop = stop
        self._told: set[tuple[str, int]] = set()
        self._torn: list[Finding] = []

    def run(self) -> None:
        own = CheckReport(self._copy.root, self._report.full, on_finding=self._add_own)
        try:
            StoreCheck(self._storage, self._copy, own, progress=self._progress, stop=self._stop).run()
        finally:
            self._report.checked.add(own.checked)
        self._judge_torn()
        before = self._entry_now()
        found = self._compare()
        entry = self._entry_now()
        if entry is None or before is None:
            return  # it was taken out meanwhile
        if entry.state == "ok" and before.state != "ok":  # a pass has brought it to that meanwhile
            found = self._compare()
        if entry.state != "ok":
            why = f": {entry.why}" if entry.why else ""
            reason = f"it is {entry.state} since {iso_text(entry.since)}, and may lack records{why}"
            self._report.add(Finding("replica", "note", entry.path, reason, records=None, repair=JOINS))
        for finding in found:
            self._report.add(finding if entry.state == "ok" else dataclasses.replace(finding, severity="note"))

    def _add_own(self, finding: Finding) -> None:
        """What is found of the copy by itself. It is mended from the store, and not as a store would be."""
        if finding.reason not in BEFORE_ITS_LINE:
            self._told.add((finding.path, finding.offset_bytes))
        if finding.kind == "lane" and finding.severity == "note" and finding.length_bytes:
            self._torn.append(finding)
            return
        self._report.add(as_of_copy(finding))

    def _judge_torn(self) -> None:
        """What looks like a commit that was being written is damage where nobody writes, and the store has it whole."""
        for torn in self._torn:
            finding = torn
            if not self._is_written(torn.path) and self._store_has_more(os.path.basename(torn.path), torn.offset_bytes):
                reason = f"{torn.reason}; the store has more of this lane"
                finding = dataclasses.replace(torn, severity="damage", reason=reason, records=None, repair=TAKE_ANEW)
            self._report.add(finding)

    def _is_written(self, path: str) -> bool:
        try:
            return is_mirrored(self._storage, path)
        except StorageError:  # whoever may not write there cannot tell
            return True

    def _store_has_more(self, name: str, end: int) -> bool:
        """Whether a lane of the store has a whole commit behind an offset."""
        stem = os.path.splitext(name)[0]
        for suffix in (LANE_SUFFIX, KEPT_SUFFIX):
            try:
                file = self._storage.open_read(os.path.join(self._paths.lanes, stem + suffix))
            except (FileNotFoundError, StorageError):
                continue
            try:
                commits = scan_lane(file, start=header_end(file), size=file.identity().size_bytes)
                return any(
                    isinstance(item, ScannedCommit) and item.end > end and commit_is_whole(file, item)
                    for item in commits
                )
            except StorageError:
                return False
            finally:
                file.close()
        return False

    def _entry_now(self) -> ReplicaEntry | None:
        store = read_store_file(self._storage, self._paths)
        return None if store is None else store.replica

    # -- against the store

    def _compare(self) -> list[Finding]:
        found: list[Finding] = []
        told = set(self._told)
        store = view_of_root(self._storage, self._paths.root, clock=self._clock)
        copy = view_of_root(self._storage, self._copy.root, clock=self._clock)
        for agent in store.inventory.agents(skip_damaged=True):
            if self._stop is not None and self._stop():
                raise StoppedError
            try:
                difference = compare_agent(store.builder, copy.builder, agent, settle=self._settle)
            except (MemstoreError, FileNotFoundError) as error:
                found += self._cannot_compare(agent, error, told)
                continue
            found += self._findings(agent, difference, told)
        return found

    def _settle(self) -> None:
        """Return when what was under way at the first look is done on both sides, or takes too long.

        Records are forgotten in the store and then in the copy under the merge lock; somebody, of many perhaps, may
        hold it all the while. A commit is written to a lane and to its mirror at once, and is in one of them first.
        """
        deadline_s = self._clock.monotonic_s() + LOCK_WAIT_S
        under_way = self._lanes_under_way()
        self._wait_while(lambda: is_locked(self._storage, self._paths.lock("merge")), deadline_s)
        for name, size_bytes in under_way.items():
            self._wait_while(partial(self._is_awaited, name, size_bytes), deadline_s)

    def _lanes_under_way(self) -> dict[str, int]:
        """How much of each lane that the copy may have is in the store's."""
        names = [e.name for e in self._storage.list_directory(self._copy.lanes) if e.name.endswith(LANE_SUFFIX)]
        return {name: self._size_bytes(self._paths, name) for name in names}

    def _is_awaited(self, name: str, size_bytes: int) -> bool:
        """Whether somebody is about to write so much of a lane to its mirror."""
        given, have = self._size_bytes(self._copy, name), self._size_bytes(self._paths, name)
        return given < size_bytes <= have and self._is_written(os.path.join(self._copy.lanes, name))

    def _size_bytes(self, paths: StorePaths, name: str) -> int:
        identity = self._storage.identify(os.path.join(paths.lanes, name))
        return 0 if identity is None else identity.size_bytes

    def _wait_while(self, is_so: Callable[[], bool], deadline_s: float) -> None:
        while is_so() and self._clock.monotonic_s() < deadline_s:
            time.sleep(_LOCK_POLL_S)

    def _cannot_compare(self, agent: str, error: Exception, told: set[tuple[str, int]]) -> Iterator[Finding]:
        if isinstance(error, CorruptionError) and error.path.startswith(self._copy.root):
            yield from _damage(agent, error, told)
        else:
            reason = f"what the copy has of it could not be held against the store: {error}"
            yield Finding("replica", "unread", self._home(agent), reason, records=None, agent=agent)

    def _findings(self, agent: str, difference: Difference, told: set[tuple[str, int]]) -> list[Finding]:
        """In the copy's state of now, which decides how severe it is that something is missing."""
        found = [finding for error in difference.damage for finding in _damage(agent, error, told)]
        if difference.damage_here:
            reason = (
                "the store itself is damaged there, so that not all of it could be compared: `memstore check --full`"
            )
            found.append(Finding("replica", "unread", self._home(agent), reason, records=None, agent=agent))
        if difference.missing and not difference.damage:
            count = len(difference.missing)
            many = f"at least {count}" if count == MISSING_MAX else str(count)
            reason = f"{many} record(s) of the store are not in it, such as {difference.missing[0]}"
            found.append(
                Finding("replica", "damage", self._home(agent), reason, records=count, agent=agent, repair=TAKE_ANEW)
            )
        if difference.shown:
            count = len(difference.shown)
            reason = f"{count} record(s) that were forgotten can be read there, such as {difference.shown[0]}"
            found.append(
                Finding("replica", "damage", self._home(agent), reason, records=count, agent=agent, repair=TAKE_ANEW)
            )
        return found

    def _home(self, agent: str) -> str:
        return Catalog(self._storage, self._copy).state.homes(agent)[0]


def _damage(agent: str, error: CorruptionError, told: set[tuple[str, int]]) -> Iterator[Finding]:
    """What reading the copy met, unless its place is told already."""
    place = (error.path, error.offset_bytes)
    if place not in told:
        told.add(place)
        yield Finding(
            _kind_of(error.path),
            "damage",
            error.path,
            error.reason,
            error.offset_bytes,
            error.length_bytes,
            records=error.records,
            agent=agent,
            repair=TAKE_ANEW,
        )


def _kind_of(path: str) -> Kind:
    name = os.path.basename(path)
    if is_lane_name(name):
        return "lane"
    tier = tier_of(name)
    if tier is None:
        return "manifest"
    return "day_file" if tier == "hot" else "packed_file"
