"""Every lane of a store, twice where something is found: its writer may have been at work the first time."""

from __future__ import annotations

import os
from functools import partial

from memstore.errors import MemstoreError
from memstore.format.names import (
    KEPT_SUFFIX,
    SEAL_MARK,
    StorePaths,
    is_lane_name,
    is_merged_lane_name,
    lane_token,
)
from memstore.fs.atomic import TEMPORARY_PREFIX
from memstore.fs.storage import Storage
from memstore.manifest.reader import load_manifest
from memstore.ops.agent_findings import CLEAN_UP
from memstore.ops.check_lane import check_lane
from memstore.ops.check_progress import CheckProgress
from memstore.ops.finding import Finding
from memstore.ops.layout import Layout, entries_of, size_of
from memstore.ops.reading_files import FileResult
from memstore.ops.report import CheckReport
from memstore.wal.begin import LANES_ARE_GONE


class LanesCheck:
    """Used by one thread, once.

    Args:
        storage: where they lie.
        paths: the store's root.
        layout: where agents lie: their MANIFESTs say what is merged.
        report: where findings go.
        progress: told of what is read.
    """

    def __init__(
        self, storage: Storage, paths: StorePaths, layout: Layout, report: CheckReport, progress: CheckProgress
    ) -> None:
        self._storage = storage
        self._paths = paths
        self._layout = layout
        self._report = report
        self._progress = progress

    def check(self) -> None:
        """Look at every lane, and at every other name beside them. Raises: StoppedError: it was told to."""
        if self._storage.identify(self._paths.lanes) is None:
            repair = "make it anew, empty"
            self._report.add(Finding("lane", "damage", self._paths.lanes, LANES_ARE_GONE, records=None, repair=repair))
        for entry in entries_of(self._storage, self._paths.lanes):
            path = os.path.join(self._paths.lanes, entry.name)
            if is_lane_name(entry.name) or is_merged_lane_name(entry.name):
                self._report.attempt(path, partial(self._findings, path))
                if not self._report.full:
                    self._progress.advance(1)
            elif entry.name.startswith(TEMPORARY_PREFIX):
                reason = "a lane is being made, or was when its process died"
                self._report.add(Finding("temporary", "note", path, reason, repair=CLEAN_UP))
            elif entry.name != SEAL_MARK:
                self._report.add(Finding("unknown_name", "note", path, "no lane has such a name"))

    def _findings(self, path: str) -> list[Finding]:
        """What is wrong with a lane, found twice: its writer may have been at work the first time."""
        first = self._lane(path)
        if first is None:
            return []
        self._report.checked.lanes += 1
        self._report.checked.files += 1
        self._report.checked.bytes += size_of(self._storage, path) if self._report.full else 0
        self._report.checked.records += first.records
        if not first.findings and path.endswith(KEPT_SUFFIX):
            reason = "it was kept because something could not be merged, and is whole"
            return [Finding("lane", "note", path, reason, repair="merge it")]
        if not first.findings:
            return []
        second = self._lane(path)
        return [] if second is None else [each for each in first.findings if each in second.findings]

    def _lane(self, path: str) -> FileResult | None:
        """One look at a lane; None where it is merged and gone."""
        try:
            file = self._storage.open_read(path)
        except FileNotFoundError:
            return None
        token = lane_token(os.path.basename(path))
        try:
            return check_lane(
                file,
                full=self._report.full,
                is_merged=lambda agent: self._is_merged(agent, token),
                on_bytes=self._progress.read,
            )
        finally:
            file.close()

    def _is_merged(self, agent: str, token: str) -> bool:
        for home in self._layout.homes(agent):
            try:
                manifest = load_manifest(self._storage, home)
            except MemstoreError:
                continue
            if manifest is not None:
                return token in manifest.merged
        return False
