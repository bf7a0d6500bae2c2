"""Is a store as it was written? Quick: its structure. Full: every byte, every line, every count.

Takes no lock and changes nothing, so it runs beside writers, merges and movers, and on a store that may only be read.
What it finds while something changes is looked at once more before it is told. It needs no STORE.json: where that is
damaged, the directories below the root say what there is.

The two levels are those of SQLite's ``quick_check`` and ``integrity_check`` and of restic's ``check`` and
``check --read-data``. As there, damage is told and counted, never mended here: `memstore.ops.repair` does that.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

from memstore.clock import Clock
from memstore.engine.forgotten import Forgotten
from memstore.engine.lane_set import LaneSet
from memstore.errors import MemstoreError, StorageError
from memstore.format.forgotten import decode_forgotten, text_hash
from memstore.format.names import (
    KEPT_SUFFIX,
    MANIFEST,
    SEAL_MARK,
    SHARD_LOCK,
    StorePaths,
    is_lane_name,
    is_merged_lane_name,
    lane_token,
    shard_name,
)
from memstore.fs.atomic import TEMPORARY_PREFIX, read_file
from memstore.fs.handles import ReadHandles
from memstore.fs.storage import Storage
from memstore.ids import directory_agent
from memstore.manifest.index import Manifest
from memstore.manifest.reader import load_manifest
from memstore.ops.agent_findings import CLEAN_UP
from memstore.ops.check_agent import AgentCheck
from memstore.ops.check_lane import check_lane
from memstore.ops.check_small_files import check_small_files
from memstore.ops.finding import Finding
from memstore.ops.layout import entries_of, read_layout, size_of
from memstore.ops.reading_files import FileResult, OnBytes, StoppedError
from memstore.ops.removed_records import forgotten_by_agent, removed_records
from memstore.ops.report import CheckReport, carry_out

Progress = Callable[[int, int], None]
"""Told how much is done, and how much there is: bytes in a full check, lanes and agents in a quick one."""

FORGOTTEN_BYTES_MAX = 64 * 1024 * 1024
"""Some 1.5 million forgotten records: as many hashes take 150 MB."""
_LANE_INDEX_BYTES = 16 * 1024 * 1024
_HANDLES_MAX = 16


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
        self._progress = progress
        self._stop = stop
        self._on_read = on_read
        self._layout = read_layout(storage, paths)
        self._lanes = LaneSet(
            storage,
            paths,
            handles=ReadHandles(storage, files_max=_HANDLES_MAX),
            index_bytes_max=_LANE_INDEX_BYTES,
            known_end=lambda _: None,
        )
        self._seen: set[str] = set()
        self._done = 0
        self._total = 0

    def run(self) -> None:
        """Look at everything. Raises: StoppedError: it was told to."""
        if self._progress is not None:
            self._total = self._amount()
        self.look_beside_agents()
        self._check_agents()
        self._tell()

    def look_beside_agents(self) -> None:
        """Look at the small files and the lanes. Raises: StoppedError: it was told to."""
        self._attempt(
            self._paths.root, lambda: check_small_files(self._storage, self._paths, self._layout, on_bytes=self._read)
        )
        self._attempt(self._paths.root, self._check_root_names)
        self._check_lanes()

    def _attempt(self, path: str, look: Callable[[], Iterator[Finding]]) -> None:
        """What cannot be read is told, and the rest is looked at all the same."""
        try:
            for finding in look():
                self._report.add(finding)
        except StorageError as error:
            self._report.add(Finding("unknown_name", "unread", path, str(error)))

    # -- how far it is

    def _read(self, length: int) -> None:
        if self._on_read is not None:
            self._on_read(length)
        if self._stop is not None and self._stop():
            raise StoppedError
        if self._report.full:
            self._advance(length)

    def _advance(self, amount: int) -> None:
        self._done += amount
        self._tell()

    def _tell(self) -> None:
        if self._progress is not None:
            self._progress(min(self._done, self._total) if self._report.full else self._done, self._total)

    def _amount(self) -> int:
        """Bytes that a full check reads, about; or lanes and agents."""
        lanes = self._lanes.names()
        total = sum(size_of(self._storage, os.path.join(self._paths.lanes, name)) for name in lanes)
        agents = 0
        for shard in (*self._layout.shards.values(), self._layout.archive):
            for entry in entries_of(self._storage, shard):
                if entry.is_directory:
                    agents += shard != self._layout.archive and not entry.name.startswith(".")
                    if self._report.full:
                        total += self._tree_bytes(os.path.join(shard, entry.name))
        return total if self._report.full else len(lanes) + agents

    def _tree_bytes(self, directory: str) -> int:
        total = 0
        for entry in entries_of(self._storage, directory):
            below = os.path.join(directory, entry.name)
            total += self._tree_bytes(below) if entry.is_directory else size_of(self._storage, below)
        return total

    # -- the root

    def _check_root_names(self) -> Iterator[Finding]:
        for entry in entries_of(self._storage, self._paths.root):
            if entry.name.startswith(TEMPORARY_PREFIX):
                path = os.path.join(self._paths.root, entry.name)
                yield Finding(
                    "temporary", "note", path, "it is being written, or was when a process died", repair=CLEAN_UP
                )

    # -- lanes

    def _check_lanes(self) -> None:
        for entry in entries_of(self._storage, self._paths.lanes):
            path = os.path.join(self._paths.lanes, entry.name)
            if is_lane_name(entry.name) or is_merged_lane_name(entry.name):
                self._attempt(path, lambda path=path: iter(self._lane_findings(path)))  # type: ignore[misc]
                if not self._report.full:
                    self._advance(1)
            elif entry.name.startswith(TEMPORARY_PREFIX):
                reason = "a lane is being made, or was when its process died"
                self._report.add(Finding("temporary", "note", path, reason, repair=CLEAN_UP))
            elif entry.name != SEAL_MARK:
                self._report.add(Finding("unknown_name", "note", path, "no lane has such a name"))

    def _lane_findings(self, path: str) -> list[Finding]:
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
                on_bytes=self._read,
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

    # -- agents

    def _check_agents(self) -> None:
        forgotten = self._forgotten() if self._report.full else {}
        agents = AgentCheck(
            self._storage,
            self._layout,
            self._lanes,
            full=self._report.full,
            on_bytes=self._read,
            forgotten=forgotten,
            forgotten_now=self._forgotten_now,
        )
        for directory in self._directories():
            self._check_agent(agents, directory)
        # An agent that was moved meanwhile, from a shard that was still to come to one that had been, is seen now.
        for directory in self._directories():
            if os.path.basename(directory) not in self._seen:
                self._check_agent(agents, directory)
        self._attempt(self._layout.archive, lambda: self._check_archive(agents))

    def _forgotten(self) -> dict[str, frozenset[str]]:
        """By hash of the agent, hashes of ids that FORGOTTEN says are not to be seen; none where it is too large."""
        size = size_of(self._storage, self._paths.forgotten)
        if size > FORGOTTEN_BYTES_MAX:
            reason = f"it is {size} bytes long: tombstones are not held against it"
            self._report.add(Finding("forgotten", "note", self._paths.forgotten, reason))
            return {}
        try:
            return forgotten_by_agent(Forgotten(self._storage, self._paths).entries())
        except StorageError as error:
            self._report.add(Finding("forgotten", "unread", self._paths.forgotten, str(error)))
            return {}

    def _forgotten_now(self, agent: str) -> frozenset[str]:
        return removed_records(Forgotten(self._storage, self._paths).entries(), agent).forgotten

    def _directories(self) -> Iterator[str]:
        for index, shard in self._layout.shards.items():
            if self._storage.identify(shard) is None:
                if shard_name(index) not in self._seen:
                    self._seen.add(shard_name(index))
                    reason = "the shard's directory is missing; mount its volume, or restore it from a backup"
                    self._report.add(Finding("shard", "unread", shard, reason, records=None))
                continue
            for entry in entries_of(self._storage, shard):
                if entry.is_directory and not entry.name.startswith("."):
                    yield os.path.join(shard, entry.name)
                elif not entry.is_directory and entry.name != SHARD_LOCK and shard not in self._seen:
                    path = os.path.join(shard, entry.name)
                    self._report.add(Finding("unknown_name", "note", path, "no file of a shard has such a name"))
            self._seen.add(shard)

    def _check_agent(self, agents: AgentCheck, directory: str) -> None:
        name = os.path.basename(directory)

        def look() -> Iterator[Finding]:
            result = agents.check(directory)
            self._report.checked.add(result.checked)
            yield from self._excused(name, result.findings)
            if result.manifest is not None:
                yield from self._check_place(directory, result.manifest)

        self._attempt(directory, look)
        self._seen.add(name)
        if not self._report.full:
            self._advance(1)

    def _excused(self, name: str, findings: list[Finding]) -> list[Finding]:
        """An agent that is being erased is in no order until that is done."""
        if any(finding.severity == "damage" for finding in findings) and self._is_being_erased(name):
            path = findings[0].path
            reason = "the agent is being erased, or was when a process died"
            return [Finding("orphan", "note", path, reason, repair="`memstore maintain` goes on")]
        return findings

    def _check_place(self, directory: str, manifest: Manifest) -> Iterator[Finding]:
        """See that readers look for the agent there, and nowhere else."""
        if self._layout.store is None or self._layout.homes(manifest.agent)[0] == directory:
            return
        homes = read_layout(self._storage, self._paths).homes(manifest.agent)  # as it is by now
        there = [home for home in homes if self._storage.identify(os.path.join(home, MANIFEST)) is not None]
        if directory not in homes:
            yield Finding(
                "misplaced",
                "damage",
                directory,
                f"readers do not look for the agent here, but in {homes[0]}",
                records=manifest.records(),
                agent=manifest.agent,
                repair="keep what only it holds, where readers look for it" if there else "move it where it belongs",
            )
        elif there and directory != there[0]:
            reason = f"it is left from a move, or on its way: what counts is in {there[0]}"
            yield Finding("misplaced", "note", directory, reason, agent=manifest.agent, repair="the next merge of it")

    def _check_archive(self, agents: AgentCheck) -> Iterator[Finding]:
        for entry in entries_of(self._storage, self._layout.archive):
            if entry.is_directory and entry.name not in self._seen and not entry.name.startswith("."):
                directory = os.path.join(self._layout.archive, entry.name)
                if any(self._storage.identify(os.path.join(s, entry.name)) for s in self._layout.shards.values()):
                    continue  # it has been made since
                if any(self._storage.identify(s) is None for s in self._layout.shards.values()):
                    continue  # its MANIFEST may lie on the volume that is missing
                yield from self._excused(entry.name, agents.check_unhomed_archive(directory))

    def _is_being_erased(self, name: str) -> bool:
        """Whether FORGOTTEN notes an erasure of all of this agent that has not been carried out."""
        begun: dict[str, str] = {}
        for line in (read_file(self._storage, self._paths.forgotten) or b"").split(b"\n"):
            entry = decode_forgotten(line)
            if entry is not None and entry.erasure is not None and not entry.erasure.ids:
                begun[entry.erasure.id] = entry.erasure.agent
            elif entry is not None and entry.erased is not None:
                begun.pop(entry.erased.id, None)
        plain = directory_agent(name)
        hashes = set(begun.values())
        return (text_hash(plain) in hashes) if plain is not None else name.rpartition("~")[2] in hashes
