"""Is a store as it was written? Quick: its structure. Full: every byte, every line, every count.

Takes no lock and changes nothing, so it runs beside writers, merges and movers, and on a store that may only be read.
What it finds while something changes is looked at once more before it is told. It needs no STORE.json: where that is
damaged, the directories below the root say what there is. What a search would find is not its matter: that needs an
open store (`memstore.ops.check_index`).

The two levels are those of SQLite's ``quick_check`` and ``integrity_check`` and of restic's ``check`` and
``check --read-data``. As there, damage is told and counted, never mended here: `memstore.ops.repair` does that.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from functools import partial

from memstore.clock import Clock
from memstore.format.names import StorePaths
from memstore.fs.atomic import TEMPORARY_PREFIX
from memstore.fs.storage import Storage
from memstore.ops.agent_findings import CLEAN_UP
from memstore.ops.check_agents import AgentsCheck
from memstore.ops.check_lanes import LanesCheck
from memstore.ops.check_progress import CheckProgress, Progress
from memstore.ops.check_small_files import check_small_files
from memstore.ops.finding import Finding
from memstore.ops.layout import entries_of, read_layout
from memstore.ops.reading_files import OnBytes
from memstore.ops.report import CheckReport, carry_out


def check_store(
    storage: Storage,
    paths: StorePaths,
    *,
    clock: Clock,
    full: bool = False,
    progress: Progress | None = None,
    on_finding: Callable[[Finding], None] | None = None,
    stop: Callable[[], bool] | None = None,
) -> CheckReport:
    """Check a whole store.

    Args:
        storage: where it lies.
        paths: its root.
        clock: for how long it took.
        full: read every byte.
        progress: see `Progress`.
        on_finding: told of each finding as it is made.
        stop: asked between reads; the check ends once it says so.

    Raises:
        NotFoundError: no store.
        VersionError: written by a newer format.
        StorageError: the root cannot be read.
    """
    report = CheckReport(paths.root, full, on_finding=on_finding)
    check = StoreCheck(storage, paths, report, progress=progress, stop=stop)
    return carry_out(report, check.run, clock=clock)


class StoreCheck:
    """One check of one store. Used by one thread, once."""

    def __init__(
        self,
        storage: Storage,
        paths: StorePaths,
        report: CheckReport,
        *,
        progress: Progress | None = None,
        stop: Callable[[], bool] | None = None,
        on_read: OnBytes | None = None,
    ) -> None:
        self._storage = storage
        self._paths = paths
        self._report = report
        self._layout = layout = read_layout(storage, paths)
        self._progress = CheckProgress(
            storage, paths, layout, full=report.full, on_progress=progress, stop=stop, on_read=on_read
        )

    def run(self) -> None:
        """Look at everything. Raises: StoppedError: it was told to."""
        self._progress.begin()
        self.look_beside_agents()
        AgentsCheck(self._storage, self._paths, self._layout, self._report, self._progress).check()
        self._progress.tell()

    def look_beside_agents(self) -> None:
        """Look at the small files and the lanes. Raises: StoppedError: it was told to."""
        small_files = partial(check_small_files, self._storage, self._paths, self._layout, on_bytes=self._progress.read)
        for look in (small_files, self._root_names):
            self._report.attempt(self._paths.root, look)
        LanesCheck(self._storage, self._paths, self._layout, self._report, self._progress).check()

    def _root_names(self) -> Iterator[Finding]:
        for entry in entries_of(self._storage, self._paths.root):
            if entry.name.startswith(TEMPORARY_PREFIX):
                path = os.path.join(self._paths.root, entry.name)
                reason = "it is being written, or was when a process died"
                yield Finding("temporary", "note", path, reason, repair=CLEAN_UP)
