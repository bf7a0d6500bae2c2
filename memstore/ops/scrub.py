"""The slow check in the background: every byte of every sealed file, at a set speed, from where the last run stopped.

A pass begins with the small files and the lanes, and then goes through the agents in order of their directories'
names, file by file; then the same of the second copy, where there is one, for a copy that rots unseen is none. (That it
has all that the store has is left to `memstore.ops.check_copy`.) Its place is noted in SCRUB.json every few seconds, so
that a process that ends costs little; a place that is lost costs a pass. What is found is logged as it is found. One
process of a store scrubs at a time.

That no record stands in two places is left to a full check: a scrub looks for bytes that have changed by themselves.
So is the search index, whose files every process verifies when it opens them.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from memstore.engine.engine import Engine
from memstore.engine.lane_set import LaneSet
from memstore.engine.second_copy import read_store_file, standing_of
from memstore.errors import CorruptionError, StorageError
from memstore.format.names import StorePaths
from memstore.format.scrub_file import LISTED_MAX, ScrubFile, ScrubPass, decode_scrub_file, encode_scrub_file
from memstore.fs.atomic import read_file, replace_file
from memstore.fs.handles import ReadHandles
from memstore.fs.lock import try_lock_file
from memstore.fs.storage import Storage
from memstore.lifecycle.scrub_report import DAMAGE_KEPT_MAX, ScrubReport
from memstore.ops.check import StoreCheck
from memstore.ops.check_agent import AgentCheck
from memstore.ops.copy_findings import as_of_copy
from memstore.ops.finding import Finding
from memstore.ops.layout import Layout, entries_of, read_layout
from memstore.ops.pace import Pace
from memstore.ops.reading_files import StoppedError
from memstore.ops.report import FINDINGS_MAX, CheckReport

_log = logging.getLogger(__name__)
OnFinding = Callable[[Finding], None]
NOTE_EVERY_S = 5.0
"""How often the place is noted at most: a replaced file and its sync each time."""
_LANE_INDEX_BYTES = 16 * 1024 * 1024


class Scrub:
    """Scrubs one open store. Thread-safe: a lock keeps all but one run out.

    Args:
        engine: the store.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._bytes_per_s = engine.settings.scheduling.scrub_bytes_per_s

    def run(self, stop: threading.Event) -> ScrubReport:
        """Go on with the pass that was stopped, or begin one, until its end; return early once ``stop`` is set.

        Raises:
            StorageError: STORE.json cannot be read, or the place not be noted.
        """
        engine = self._engine
        lock = try_lock_file(engine.storage, engine.paths.lock("scrub"))
        if lock is None:
            return ScrubReport()
        try:
            pace = Pace(self._bytes_per_s, clock=engine.clock, wait=stop.wait)
            return _Run(engine, read_scrub_file(engine.storage, engine.paths), pace).go()
        finally:
            lock.close()


def read_scrub_file(storage: Storage, paths: StorePaths) -> ScrubFile:
    """How far a store's scrub is; as if there had been none where nobody knows."""
    data = read_file(storage, paths.scrub)
    return (None if data is None else decode_scrub_file(data)) or ScrubFile()


def scrub_stats(storage: Storage, paths: StorePaths) -> dict[str, object]:
    """For ``stats``: the pass that goes on and the last one that ended, None where there is none."""
    known = read_scrub_file(storage, paths)
    return {
        "current": None if known.current is None else {**msgspec.to_builtins(known.current), "agent": known.agent},
        "last": None if known.last is None else msgspec.to_builtins(known.last),
    }


class _Run:
    """One run of one pass."""

    def __init__(self, engine: Engine, known: ScrubFile, pace: Pace) -> None:
        self._engine = engine
        self._storage = engine.storage
        self._paths = engine.paths
        self._clock = engine.clock
        self._metrics = engine.metrics
        self._pace = pace
        begun = ScrubPass(begun=engine.clock.now_us())
        self._state = known if known.current is not None else ScrubFile(current=begun, last=known.last)
        self._noted_s = engine.clock.monotonic_s()
        self._report = ScrubReport()
        self._told: set[Finding] = set()

    @property
    def _pass(self) -> ScrubPass:
        assert self._state.current is not None
        return self._state.current

    def _note(self, **changes: Any) -> None:
        self._state = msgspec.structs.replace(self._state, current=msgspec.structs.replace(self._pass, **changes))

    def go(self) -> ScrubReport:
        """Until the end, or until the pace says to stop."""
        try:
            if not self._state.copy:
                self._scrub_root(self._paths, self._found)
                self._state = msgspec.structs.replace(self._state, agent="", file="", copy=True)
            self._scrub_copy()
            self._report.finished = True
        except StoppedError:
            pass
        if self._report.finished:
            self._note(ended=self._clock.now_us())
            self._state = ScrubFile(last=self._pass)
        self._write()
        return self._report

    def _scrub_copy(self) -> None:
        try:
            store = read_store_file(self._storage, self._paths)
        except CorruptionError:
            return  # it has been told of
        entry = None if store is None else store.replica
        if store is None or entry is None:
            return
        if standing_of(self._storage, entry, store.id, root=self._paths.root) != "copy":
            return  # which `stats` and `memstore replica` tell
        try:
            self._scrub_root(StorePaths(entry.path), lambda finding: self._found(as_of_copy(finding)))
        except StorageError as error:  # its volume has gone meanwhile
            self._found(Finding("replica", "unread", entry.path, str(error), records=None))

    def _scrub_root(self, paths: StorePaths, found: OnFinding) -> None:
        """What is below one root, from the noted place on."""
        layout = read_layout(self._storage, paths)
        if not self._state.agent:
            beside = CheckReport(paths.root, full=True, on_finding=found)
            StoreCheck(self._storage, paths, beside, on_read=self._read).look_beside_agents()
            self._count(beside.checked.files)
        for directory in self._directories(layout):
            self._scrub_agent(paths, layout, directory, found)

    def _directories(self, layout: Layout) -> Iterator[str]:
        """Agents' directories from the noted place on, by name."""
        found = [
            (entry.name, os.path.join(shard, entry.name))
            for shard in layout.shards.values()
            for entry in entries_of(self._storage, shard)
            if entry.is_directory and not entry.name.startswith(".") and entry.name >= self._state.agent
        ]
        for _, directory in sorted(found):
            yield directory

    def _scrub_agent(self, paths: StorePaths, layout: Layout, directory: str, found: OnFinding) -> None:
        name = os.path.basename(directory)
        behind = self._state.file if name == self._state.agent else ""
        if name != self._state.agent:
            self._state = msgspec.structs.replace(self._state, agent=name, file="")

        def done(file: str, is_whole: bool) -> None:  # noqa: FBT001 - as `OnFile` has it
            self._count(1)
            if not is_whole:
                return
            self._state = msgspec.structs.replace(self._state, agent=name, file=file)
            if self._clock.monotonic_s() - self._noted_s >= NOTE_EVERY_S:
                self._write()

        lanes = LaneSet(
            self._storage,
            paths,
            handles=ReadHandles(self._storage, files_max=8),
            index_bytes_max=_LANE_INDEX_BYTES,
            known_end=lambda _: None,
        )
        check = AgentCheck(self._storage, layout, lanes, full=True, on_bytes=self._read, on_file=done)
        try:
            result = check.check(directory, behind=behind)
        except StorageError as error:
            found(Finding("unknown_name", "unread", directory, str(error), records=None))
            return
        for finding in result.findings:
            found(finding)

    def _read(self, length: int) -> None:
        self._pace.spend(length)
        self._report.bytes += length
        self._note(bytes=self._pass.bytes + length)
        self._metrics.add("scrubbed_bytes", length)

    def _count(self, files: int) -> None:
        self._report.files += files
        self._note(files=self._pass.files + files)

    def _found(self, finding: Finding) -> None:
        if finding.severity == "note" or finding in self._told:
            return
        if len(self._told) < FINDINGS_MAX:
            self._told.add(finding)
        is_damage = finding.severity == "damage"
        known = self._pass
        if finding.as_dict() in known.findings:  # of what a run that was stopped had looked at
            return
        self._note(
            damaged=known.damaged + is_damage,
            unread=known.unread + (not is_damage),
            findings=[*known.findings, finding.as_dict()] if len(known.findings) < LISTED_MAX else known.findings,
        )
        self._report.damage += 1
        self._metrics.add("scrub_damage")
        error = _error(finding)
        if len(self._report.errors) < DAMAGE_KEPT_MAX:
            self._report.errors.append(error)
        _log.error("%s", error, extra={"event": "damage", "fields": finding.as_dict()})

    def _write(self) -> None:
        self._noted_s = self._clock.monotonic_s()
        replace_file(self._storage, self._paths.scrub, encode_scrub_file(self._state))


def _error(finding: Finding) -> StorageError:
    if finding.severity != "damage":
        return StorageError(finding.sentence)
    return CorruptionError(
        finding.path,
        offset_bytes=finding.offset_bytes,
        length_bytes=finding.length_bytes,
        reason=finding.reason,
        records=finding.records,
    )
