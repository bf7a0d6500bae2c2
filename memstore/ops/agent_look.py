"""One look at one agent: its MANIFEST, the files that it lists, what lies beside them; in full, every line."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from memstore.engine.lane_set import LaneSet
from memstore.engine.leftovers import Leftovers
from memstore.errors import CorruptionError, MemstoreError, StorageError, VersionError
from memstore.format.forgotten import text_hash
from memstore.format.lines import split_lines
from memstore.format.names import (
    MANIFEST,
    TRASH_DIRECTORY,
    parse_cold_file_name,
    tier_of,
)
from memstore.fs.atomic import TEMPORARY_PREFIX
from memstore.fs.handles import ReadHandles
from memstore.fs.storage import Storage
from memstore.ids import agent_directory, directory_agent
from memstore.manifest.cache import ManifestCache
from memstore.manifest.index import SETTLED, BlockRef, Manifest
from memstore.manifest.reader import load_manifest
from memstore.manifest.torn import is_newer, torn_tail
from memstore.ops.check_day_file import SALVAGE, check_blocks
from memstore.ops.check_manifest import blocks_of, contradictions, unverified_lines
from memstore.ops.check_packed_file import check_frames, check_seek_table
from memstore.ops.finding import Finding, Kind, Severity
from memstore.ops.ids_once import twice
from memstore.ops.layout import Layout, entries_of
from memstore.ops.reading_files import FileResult, ForgottenNow, IdPiece, IdRun, OnBytes, OnFile, nothing_forgotten
from memstore.ops.record_lines import RecordLines
from memstore.ops.report import Checked
from memstore.wal.reader import LaneReader, agent_of_directory_name

REBUILD = "write it anew from the files and lanes of the agent"
DROP = "take it out of the MANIFEST, unless a good copy of it is given"
CLEAN_UP = "`memstore maintain` removes it"
_NOT_COMMITTED = (
    "no line of the MANIFEST names these bytes: a merge is at work, or was stopped; lanes hold what is in them"
)
UNEXPLAINED = (
    "bytes stand behind its last block that are no records, and more of them than a lane explains: reads refuse"
)
_HANDLES_MAX = 64


@dataclass(slots=True)
class AgentResult:
    """What one agent's directory turned out to be; ``manifest`` is None where nobody can tell what it says."""

    findings: list[Finding] = field(default_factory=list)
    checked: Checked = field(default_factory=Checked)
    manifest: Manifest | None = None


class AgentLook:
    """One look at one agent."""

    def __init__(
        self,
        storage: Storage,
        layout: Layout,
        lanes: LaneSet,
        directory: str,
        *,
        full: bool,
        on_bytes: OnBytes,
        behind: str = "",
        on_file: OnFile | None = None,
        forgotten: Mapping[str, frozenset[str]] = MappingProxyType({}),
        forgotten_now: ForgottenNow = nothing_forgotten,
    ) -> None:
        self._storage = storage
        self._forgotten = forgotten
        self._forgotten_now = forgotten_now
        self._layout = layout
        self._lanes = lanes
        self._directory = directory
        self._full = full
        self._on_bytes = on_bytes
        self._behind = behind
        self._on_file = on_file
        self._handles = ReadHandles(storage, files_max=_HANDLES_MAX)
        self._path = os.path.join(directory, MANIFEST)
        self._readers: list[LaneReader] = []
        self._manifest: Manifest | None = None
        self._agent = directory_agent(os.path.basename(directory))
        self._archive = os.path.join(layout.archive, os.path.basename(directory))
        self._names: dict[str, set[str]] = {}
        self._result = AgentResult()
        self._runs: list[IdRun] = []
        self._noted = 0

    def take(self) -> AgentResult:
        """Look. Raises: FileNotFoundError: something that was there has gone."""
        self._readers = self._lanes.refresh()
        try:
            self._manifest = load_manifest(self._storage, self._directory)
        except VersionError as error:
            self._find("manifest", str(error), severity="unread")
        except CorruptionError:
            self._find_unreadable_lines()
        except MemstoreError as error:  # its lines verify, and what they say cannot be
            self._find("manifest", str(error), severity="unread" if isinstance(error, StorageError) else "damage")
        self._list_directories()
        if self._manifest is not None:
            self._result.manifest = self._manifest
            self._agent = self._manifest.agent
            self._check_manifest(self._manifest)
        elif not self._result.findings:
            name = os.path.basename(self._directory)
            self._agent = self._agent or agent_of_directory_name(self._readers, name)
            self._check_missing_manifest()
        self._check_torn_tail()
        if self._manifest is not None:
            self._check_files(self._manifest)
            self._check_other_names(self._manifest)
            if self._full and self._on_file is None:
                self._check_ids(self._manifest)
        self._result.checked.agents = 1
        self._handles.clear()
        return self._result

    def has_changed(self) -> bool:
        """Whether the agent is no longer what was looked at, or another lane would be seen with it."""
        lanes = {lane.token for lane in self._lanes.refresh()}
        try:
            now = load_manifest(self._storage, self._directory)
        except MemstoreError:
            now = None
        before = self._manifest
        if before is None or now is None:
            return before is not now
        return not (before.header == now.header and before.end == now.end and before.identity == now.identity) or (
            lanes != {lane.token for lane in self._readers}
        )

    # -- the MANIFEST

    def _find_unreadable_lines(self) -> None:
        for place in unverified_lines(self._storage, self._path):
            reason = "its first line does not verify" if place[0] == 0 else "a line does not verify"
            self._find("manifest", reason, place, records=None, repair=REBUILD)

    def _check_manifest(self, manifest: Manifest) -> None:
        self._on_bytes(manifest.end)
        self._result.checked.files += 1
        self._result.checked.bytes += manifest.end
        for place in manifest.damaged:
            self._find("manifest", "a line does not verify", place, records=None, repair=REBUILD)
        if agent_directory(manifest.agent) != os.path.basename(self._directory):
            reason = f"it is the MANIFEST of {manifest.agent!r}, whose directory has another name"
            self._find("misplaced", reason, (0, len(manifest.header)), records=manifest.records())
        for reason in contradictions(manifest):
            self._find("manifest", reason, records=None, repair=REBUILD)

    def _check_missing_manifest(self) -> None:
        """A directory without one is an agent's that is just being made, or one that lost it."""
        files = sorted(name for names in self._names.values() for name in names if tier_of(name) in ("warm", "cold"))
        if files:
            reason = f"it is missing, and {len(files)} packed file(s) of the agent are there"
            self._find("manifest", reason, records=None, repair=REBUILD)

    def _check_torn_tail(self) -> None:
        if self._manifest is not None and self._manifest.damaged:
            return  # what is unexplained about its end is part of the same
        if self._manifest is None and self._result.findings:
            return
        if self._manifest is not None and self._manifest.end >= self._manifest.identity.size_bytes:
            return
        torn = torn_tail(self._storage, self._directory, self._manifest)
        if torn is None:
            return
        waiting: dict[str, int] = {}
        for lane in self._unmerged():
            for item in () if self._agent is None else lane.agent_slices(self._agent).slices:
                waiting[item.day] = waiting.get(item.day, 0) + item.length
        error = torn.damage(lanes={lane.token for lane in self._readers}, waiting_bytes=waiting)
        if error is not None:
            self._find("manifest", error.reason, (torn.offset, torn.length), records=None, repair=REBUILD)
        elif torn.length:
            reason = "its last line has no end: a merge is writing it, or was stopped, and the next one writes it again"
            self._find("manifest", reason, (torn.offset, torn.length), severity="note", repair="`memstore drain`")

    def _unmerged(self) -> list[LaneReader]:
        """Lanes whose slices of this agent are not merged."""
        merged = {} if self._manifest is None else self._manifest.merged
        return [lane for lane in self._readers if lane.token not in merged]

    # -- files

    def _check_files(self, manifest: Manifest) -> None:
        watched = self._forgotten.get(text_hash(manifest.agent), frozenset())
        lines, of_trash = RecordLines(manifest.agent, watched), RecordLines(manifest.agent)
        self._noted = len(self._result.findings)  # of the MANIFEST: told at the end, and no file is to blame
        for name in sorted((*manifest.day_files, *manifest.packed, *manifest.trash)):
            if name <= self._behind:
                continue
            if name in manifest.day_files:
                self._check_day_file(manifest, name, lines)
            else:
                self._check_packed_file(manifest, name, of_trash if name in manifest.trash else lines)
            if self._on_file is not None:
                self._on_file(name, len(self._result.findings) == self._noted)
        if watched:
            self._check_forgotten(manifest, lines)
        if not self._full:
            self._result.checked.records += manifest.records() + len(manifest.hidden.ids)

    def _check_forgotten(self, manifest: Manifest, lines: RecordLines) -> None:
        """See that what was forgotten has its tombstone, wherever it still lies."""
        for run in self._lane_runs(manifest.agent):
            for piece in run.pieces:
                lines.watch(split_lines(piece.load()))
        seen_again = lines.seen - manifest.hidden.ids
        if seen_again:  # unless somebody has brought them back since FORGOTTEN was read
            now = self._forgotten_now(manifest.agent)
            seen_again = {memory_id for memory_id in seen_again if text_hash(memory_id) in now}
        if seen_again:
            reason = f"{len(seen_again)} record(s) that were forgotten can be read again, such as {min(seen_again)}"
            self._find("record", reason, records=len(seen_again), repair="hide them again")

    def _check_day_file(self, manifest: Manifest, name: str, lines: RecordLines) -> None:
        path = f"{self._directory}/{name}"
        committed = manifest.day_files[name]
        refs = blocks_of(manifest, name)
        identity = self._storage.identify(path)
        if identity is None:
            self._missing(manifest, "day_file", path, refs)
            return
        self._result.checked.files += 1
        if identity.size_bytes > committed:
            self._check_surplus(manifest, path, committed)
        if self._full:
            self._take(
                check_blocks(path, manifest.agent, refs, handles=self._handles, lines=lines, on_bytes=self._on_bytes)
            )
            self._result.checked.bytes += committed
            if self._result.findings:
                self._excuse_unsynced(manifest, path, refs)
            return
        for ref in refs:
            if ref.offset + ref.length > identity.size_bytes and not self._may_be_unsynced(manifest, ref):
                reason = f"the file ends at {identity.size_bytes}, before its block does"
                self._find("day_file", reason, (ref.offset, ref.length), path=path, records=ref.records, repair=SALVAGE)

    def _excuse_unsynced(self, manifest: Manifest, path: str, refs: list[BlockRef]) -> None:
        """Of blocks that do not verify, those are no damage whose lanes stand: their merge is repeated from these."""
        unsynced = {ref.offset for ref in refs if self._may_be_unsynced(manifest, ref)}
        kept: list[Finding] = []
        for finding in self._result.findings:
            if finding.kind == "day_file" and finding.path == path and finding.offset_bytes in unsynced:
                reason = f"{finding.reason}; the lanes that it was merged from stand, and are read in its place"
                finding = Finding(  # noqa: PLW2901 - it takes its place
                    "day_file",
                    "note",
                    path,
                    reason,
                    finding.offset_bytes,
                    finding.length_bytes,
                    records=finding.records,
                    agent=finding.agent,
                    repair="`memstore drain` merges them again",
                )
            kept.append(finding)
        self._result.findings = kept

    def _may_be_unsynced(self, manifest: Manifest, ref: BlockRef) -> bool:
        standing = {lane.token for lane in self._readers}
        return ref.merge != SETTLED and standing.issuperset(manifest.merges[ref.merge].lanes)

    def _check_surplus(self, manifest: Manifest, path: str, committed: int) -> None:
        """Bytes behind the committed length: of a merge at work or stopped, unless nothing else has them."""
        leftovers = Leftovers(
            self._storage,
            manifests=ManifestCache(self._storage, bytes_max=0),
            waiting=set,
            standing=lambda: self._readers,
        )
        file = self._storage.open_read(path)
        try:
            place = (committed, file.identity().size_bytes - committed)
            leftovers.check_day_file(file, manifest.agent, committed, manifest)
            if self._is_explained(manifest, os.path.basename(path), place):
                self._find("day_file", _NOT_COMMITTED, place, path=path, severity="note", repair="`memstore drain`")
            else:
                self._find("day_file", UNEXPLAINED, place, path=path, records=None, repair="set them aside")
        except CorruptionError as error:
            self._find(
                "day_file",
                error.reason,
                (error.offset_bytes, error.length_bytes),
                path=path,
                records=None,
                repair="keep what is whole of it",
            )
        finally:
            file.close()

    def _is_explained(self, manifest: Manifest, name: str, place: tuple[int, int]) -> bool:
        """Whether lanes wait that may have left so much behind a day file: reads ask the same.

        Lanes are listed again, after the file was measured: what a merge has written was in one by then.
        """
        committed, behind = place
        if not committed and not is_newer(name, manifest):
            return True  # of a version that was dropped: nobody reads it
        day = name.partition(".")[0]
        waiting = (lane for lane in self._lanes.refresh() if lane.token not in manifest.merged)
        slices = (item for lane in waiting for item in lane.agent_slices(manifest.agent).slices)
        return behind <= sum(item.length for item in slices if item.day == day)

    def _check_packed_file(self, manifest: Manifest, name: str, lines: RecordLines) -> None:
        packed = manifest.packed_file(name)
        path = self._packed_path(manifest, name)
        if path is None:
            home = self._home_of(name)
            in_trash = os.path.join(os.path.dirname(home), TRASH_DIRECTORY, name)
            self._missing(manifest, "packed_file", in_trash if name in manifest.trash else home, [])
            return
        self._result.checked.files += 1
        if self._full:
            self._result.checked.bytes += packed.size
            found = check_frames(
                path, manifest.agent, packed, handles=self._handles, lines=lines, on_bytes=self._on_bytes
            )
            if name in manifest.trash:  # what expired may have come again from elsewhere
                found.runs = []
            self._take(found)
        else:
            found = check_seek_table(path, manifest.agent, packed, handles=self._handles, on_bytes=self._on_bytes)
            found.records = 0
            self._take(found)

    def _packed_path(self, manifest: Manifest, name: str) -> str | None:
        """Where a packed file lies; where a crash left it at the other of its two places, that is told."""
        home = self._home_of(name)
        places = [home, os.path.join(os.path.dirname(home), TRASH_DIRECTORY, name)]
        right = places[1] if name in manifest.trash else places[0]
        for path in (right, *places):
            if name in self._names.get(os.path.dirname(path), ()):
                if path != right:
                    reason = f"it belongs to {os.path.dirname(right)}; it is read here, and no record is lost"
                    self._find("misplaced", reason, path=path, severity="note", repair="`memstore maintain` renames it")
                return path
        return None

    def _home_of(self, name: str) -> str:
        return os.path.join(self._directory if parse_cold_file_name(name) is None else self._archive, name)

    def _missing(self, manifest: Manifest, kind: Kind, path: str, refs: list[BlockRef]) -> None:
        name = os.path.basename(path)
        listed = refs or manifest.file_refs(name)
        records = sum(ref.records for ref in listed)
        if refs and all(self._may_be_unsynced(manifest, ref) for ref in refs):
            reason = "it is missing; the lanes that it was merged from stand, and are read in its place"
            self._find(kind, reason, path=path, severity="note", records=records, repair="`memstore drain`")
            return
        if not refs and parse_cold_file_name(name) is not None and self._storage.identify(self._layout.archive) is None:
            self._find("archive", "the archive is missing; mount its volume", path=path, severity="unread")
            return
        self._find(kind, "it is missing", path=path, records=records, repair=DROP)

    def _take(self, found: FileResult) -> None:
        self._result.findings += found.findings
        self._result.checked.records += found.records
        self._runs += found.runs

    # -- names

    def _list_directories(self) -> None:
        for home in (self._directory, self._archive):
            entries = entries_of(self._storage, home)
            self._names[home] = {entry.name for entry in entries if not entry.is_directory}
            if any(entry.name == TRASH_DIRECTORY for entry in entries):
                trash = os.path.join(home, TRASH_DIRECTORY)
                self._names[trash] = {entry.name for entry in entries_of(self._storage, trash)}

    def _check_other_names(self, manifest: Manifest) -> None:
        """What lies in the agent's directories and does not count."""
        for directory, names in self._names.items():
            in_trash = os.path.basename(directory) == TRASH_DIRECTORY
            for name in sorted(names):
                if name in manifest.day_files or name in manifest.packed or name in manifest.trash:
                    continue
                if name == MANIFEST and not in_trash and directory == self._directory:
                    continue
                path = os.path.join(directory, name)
                tier = tier_of(name)
                if name.startswith(TEMPORARY_PREFIX):
                    self._find(
                        "temporary",
                        "it is being built, or was when a process died",
                        path=path,
                        severity="note",
                        repair=CLEAN_UP,
                    )
                elif name in manifest.dropped:
                    self._find("orphan", "others have taken its place", path=path, severity="note", repair=CLEAN_UP)
                elif tier in ("warm", "cold"):
                    reason = "no line of the MANIFEST names it: it is about to count, or was when a process died"
                    self._find("orphan", reason, path=path, severity="note", repair=CLEAN_UP)
                elif tier == "hot":
                    self._check_unlisted_day_file(manifest, path)
                else:
                    self._find("unknown_name", "no file of an agent has such a name", path=path, severity="note")

    def _check_unlisted_day_file(self, manifest: Manifest, path: str) -> None:
        """A day file that a merge has begun and not committed: all of it has to be in lanes."""
        self._check_surplus(manifest, path, 0)

    # -- ids

    def _check_ids(self, manifest: Manifest) -> None:
        """No record stands in two places."""
        runs = [*self._runs, *self._lane_runs(manifest.agent)]
        needle_bytes = RecordLines(manifest.agent).needle_bytes
        for first, second, needle in twice(runs, needle_bytes=needle_bytes, on_bytes=self._on_bytes):
            reason = f"the record {needle[14:].decode(errors='replace')} stands in {first.path} too, at {first.offset}"
            self._find(
                "record",
                reason,
                (second.offset, second.length),
                path=second.path,
                records=1,
                repair="keep it once, and set the other aside",
            )

    def _lane_runs(self, agent: str) -> Iterator[IdRun]:
        for lane in self._unmerged():
            file = lane.file
            for item in lane.agent_slices(agent).slices:
                load = functools.partial(file.read, item.offset, item.length)
                place = (file.path, item.offset, item.length, item.records, item.t_min, item.t_max)
                yield IdRun((IdPiece(*place, load),))

    def _find(
        self,
        kind: Kind,
        reason: str,
        place: tuple[int, int] = (0, 0),
        *,
        path: str | None = None,
        severity: Severity = "damage",
        records: int | None = 0,
        repair: str = "",
    ) -> None:
        self._result.findings.append(
            Finding(
                kind,
                severity,
                path or self._path,
                reason,
                *place,
                records=records,
                agent=self._agent,
                repair=repair,
            )
        )
