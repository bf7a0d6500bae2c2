"""Scrub: read all that is stored once more, slowly, to find what has rotted while nobody asked for it.

Every block and every frame of every agent, those in the trash too, is read and held against its MANIFEST; frames are
unpacked, and the seek table has to list them. Nothing is changed and no lock is held that anybody waits for: what is
moved meanwhile was proved by the move. Lanes are left aside: a merge verifies them within minutes.

A run begins with any agent, so that processes that never live long enough for all of them get to each in time.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from memstore.clock import Clock
from memstore.engine.engine import Engine
from memstore.errors import CorruptionError, StorageError
from memstore.format.names import TRASH_DIRECTORY
from memstore.fs.lock import try_lock_file
from memstore.fs.storage import StorageFile
from memstore.fs.verified import read_verified
from memstore.manifest.index import SETTLED, BlockRef, FrameRef, Manifest
from memstore.packed.reader import read_frame, verify_table

_log = logging.getLogger(__name__)
DAMAGE_KEPT_MAX = 100
"""Errors that a report holds; all of them are logged and counted."""


@dataclass(slots=True)
class ScrubReport:
    """What a run found.

    Attributes:
        files: how many were read, those that are damaged too.
        bytes: so many of them.
        damage: how many pieces do not verify, and files or MANIFESTs that cannot be read at all.
        errors: the first of them.
        finished: False where it was stopped, or another process is at it.
    """

    files: int = 0
    bytes: int = 0
    damage: int = 0
    errors: list[StorageError] = field(default_factory=list)
    finished: bool = False


class Scrubber:
    """Scrubs one open store. A run is for one thread, and one process at a time (``locks/scrub``)."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._storage = engine.storage
        self._bytes_per_s = engine.settings.scheduling.scrub_bytes_per_s

    def scrub(self, stop: threading.Event) -> ScrubReport:
        """Read everything, at most ``scheduling.scrub_bytes_per_s`` on average; return early once ``stop`` is set."""
        report = ScrubReport()
        lock = try_lock_file(self._storage, self._engine.paths.lock("scrub"))
        if lock is None:
            return report
        try:
            run = _Run(report, _Pace(self._engine.clock, self._bytes_per_s, stop), stop)
            agents = self._engine.inventory.agents(skip_damaged=True)
            first = self._engine.clock.now_us() % len(agents) if agents else 0
            for agent in agents[first:] + agents[:first]:
                self._scrub_agent(agent, run)
            for each in self._engine.inventory.damage():
                run.note(CorruptionError(each["path"], **{k: v for k, v in each.items() if k != "path"}))
            report.finished = not stop.is_set()
        finally:
            lock.close()
        self._engine.metrics.add("scrubbed_bytes", report.bytes)
        self._engine.metrics.add("scrub_damage", report.damage)
        return report

    def _scrub_agent(self, agent: str, run: _Run) -> None:
        try:
            manifest = self._engine.builder.manifest(agent)
        except StorageError as refused:
            run.note(refused)
            return
        if manifest is None:
            return
        damage = manifest.damage()
        if damage is not None:
            run.note(damage)
        for name in (*manifest.day_files, *manifest.packed, *manifest.trash):
            if run.stop.is_set():
                return
            try:
                self._scrub_file(manifest, name, run)
            except StorageError as refused:
                run.note(refused)

    def _scrub_file(self, manifest: Manifest, name: str, run: _Run) -> None:
        try:
            with self._opened(manifest, name) as file:
                run.report.files += 1
                sound = True
                for ref in manifest.file_refs(name):
                    sound &= self._scrub_piece(manifest, ref, file, run)
                    if run.stop.is_set():
                        return
                if sound and name not in manifest.day_files:
                    verify_table(file, manifest.packed_file(name))
        except FileNotFoundError:
            path = self._engine.pieces.path_of(manifest, name)
            if self._still_counts(manifest, name):
                run.note(CorruptionError(path, offset_bytes=0, length_bytes=0, reason="the file is missing"))

    def _scrub_piece(self, manifest: Manifest, ref: BlockRef | FrameRef, file: StorageFile, run: _Run) -> bool:
        """Whether a piece is what was written, or nobody can tell yet."""
        run.pace.take(ref.length)
        run.report.bytes += ref.length
        try:
            if isinstance(ref, FrameRef):
                read_frame(file, offset_bytes=ref.offset, frame=ref.frame)
            else:
                read_verified(
                    file, offset_bytes=ref.offset, length_bytes=ref.length, xxh3=ref.xxh3, records=ref.records
                )
        except CorruptionError as error:
            # A file that was dropped or copied away since it was opened is nobody's any more; and a block whose lanes
            # stand is written again from them.
            if self._still_counts(manifest, ref.file, ref) and not self._is_written_again(manifest, ref):
                run.note(error)
                return False
        return True

    def _still_counts(self, manifest: Manifest, name: str, ref: BlockRef | FrameRef | None = None) -> bool:
        """Whether the MANIFEST that is there now, at the place that was looked at, has this file, or piece of it."""
        now = self._engine.builder.manifest(manifest.agent)
        if now is None or now.directory != manifest.directory:
            return False
        if not (name in now.day_files or name in now.packed or name in now.trash):
            return False
        return ref is None or any((each.offset, each.xxh3) == (ref.offset, ref.xxh3) for each in now.file_refs(name))

    def _is_written_again(self, manifest: Manifest, ref: BlockRef | FrameRef) -> bool:
        if isinstance(ref, FrameRef) or ref.merge == SETTLED:
            return False
        return self._engine.builder.lane_tokens().issuperset(manifest.merges[ref.merge].lanes)

    @contextmanager
    def _opened(self, manifest: Manifest, name: str) -> Iterator[StorageFile]:
        """A file of an agent, through a handle of its own: those of readers are for what is read often.

        Where a move to or from the trash was stopped, the file lies at the other place.

        Raises:
            FileNotFoundError: it is at neither place.
            StorageError: the disk refused.
        """
        path = self._engine.pieces.path_of(manifest, name)
        directory, in_trash = os.path.dirname(path), name in manifest.trash
        home = os.path.dirname(directory) if in_trash else os.path.join(directory, TRASH_DIRECTORY)
        try:
            file = self._storage.open_read(path)
        except FileNotFoundError:
            if name in manifest.day_files:
                raise
            file = self._storage.open_read(os.path.join(home, name))
        try:
            yield file
        finally:
            file.close()


class _Run:
    """One run under way."""

    def __init__(self, report: ScrubReport, pace: _Pace, stop: threading.Event) -> None:
        self.report = report
        self.pace = pace
        self.stop = stop

    def note(self, error: StorageError) -> None:
        """Something is damaged, or cannot be read."""
        self.report.damage += 1
        if len(self.report.errors) < DAMAGE_KEPT_MAX:
            self.report.errors.append(error)
        fields: dict[str, str | int | None] = {"error": f"{type(error).__name__}: {error}"}
        if isinstance(error, CorruptionError):
            fields |= {
                "path": error.path,
                "offset_bytes": error.offset_bytes,
                "length_bytes": error.length_bytes,
                "reason": error.reason,
                "records": error.records,
            }
        _log.error("%s", error, extra={"event": "damage", "fields": fields})


class _Pace:
    """So many bytes a second on average; whoever is ahead waits, unless he is to stop."""

    def __init__(self, clock: Clock, bytes_per_s: int, stop: threading.Event) -> None:
        self._clock = clock
        self._bytes_per_s = bytes_per_s
        self._stop = stop
        self._began_s = clock.monotonic_s()
        self._taken = 0

    def take(self, length: int) -> None:
        """Wait until so many bytes more may be read."""
        if not self._bytes_per_s:
            return
        ahead_s = self._taken / self._bytes_per_s - (self._clock.monotonic_s() - self._began_s)
        self._taken += length
        if ahead_s > 0:
            self._stop.wait(ahead_s)
