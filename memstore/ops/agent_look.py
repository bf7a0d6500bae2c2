"""One look at one agent: its MANIFEST, the files that it names, what lies beside them; in full, each id once."""

from __future__ import annotations

import os
from collections.abc import Mapping
from types import MappingProxyType

from memstore.engine.lane_set import LaneSet
from memstore.engine.unmerged_lanes import unmerged_lanes, waiting_bytes_by_day
from memstore.errors import CorruptionError, MemstoreError, StorageError, VersionError
from memstore.format.forgotten import text_hash
from memstore.format.lines import split_lines
from memstore.format.names import MANIFEST, tier_of
from memstore.fs.storage import Storage
from memstore.ids import agent_directory, directory_agent
from memstore.manifest.index import Manifest
from memstore.manifest.reader import load_manifest
from memstore.manifest.torn import torn_tail
from memstore.ops.agent_findings import REBUILD, AgentFindings, AgentResult
from memstore.ops.agent_place import AgentPlace, list_agent
from memstore.ops.check_listed_files import ListedFiles
from memstore.ops.check_manifest import contradictions, unverified_lines
from memstore.ops.check_surplus import SurplusCheck
from memstore.ops.check_unlisted_files import check_unlisted_files
from memstore.ops.ids_once import twice
from memstore.ops.lanes_explain import lane_runs
from memstore.ops.layout import Layout
from memstore.ops.reading_files import ForgottenNow, OnBytes, OnFile, nothing_forgotten
from memstore.ops.record_lines import RecordLines
from memstore.wal.reader import LaneReader, agent_of_directory_name

ONLY_PACKED_FILES = "it is missing, and packed files of the agent are there"


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
        self._name = os.path.basename(directory)
        self._full = full
        self._on_bytes = on_bytes
        self._behind = behind
        self._on_file = on_file
        self._path = os.path.join(directory, MANIFEST)
        self._readers: list[LaneReader] = []
        self._manifest: Manifest | None = None
        self._found = AgentFindings(self._path, directory_agent(self._name))

    def take(self) -> AgentResult:
        """Look. Raises: FileNotFoundError: something that was there has gone."""
        self._readers = self._lanes.refresh()
        try:
            self._manifest = load_manifest(self._storage, self._directory)
        except VersionError as error:
            self._found.find("manifest", str(error), severity="unread")
        except CorruptionError:
            self._find_unreadable_lines()
        except MemstoreError as error:  # its lines verify, and what they say cannot be
            self._found.find("manifest", str(error), severity="unread" if isinstance(error, StorageError) else "damage")
        place = list_agent(self._storage, self._directory, os.path.join(self._layout.archive, self._name))
        result = self._found.result
        if self._manifest is not None:
            result.manifest = self._manifest
            self._found.agent = self._manifest.agent
            self._check_manifest(self._manifest)
        elif not result.findings:
            self._found.agent = self._found.agent or agent_of_directory_name(self._readers, self._name)
            self._check_missing_manifest(place)
        self._check_torn_tail()
        if self._manifest is not None:
            self._check_files(self._manifest, place)
            if self._full and self._on_file is None:
                self._check_ids(self._manifest)
        result.checked.agents = 1
        return result

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
            self._found.find("manifest", reason, place, records=None, repair=REBUILD)

    def _check_manifest(self, manifest: Manifest) -> None:
        self._on_bytes(manifest.end)
        self._found.result.checked.files += 1
        self._found.result.checked.bytes += manifest.end
        for place in manifest.damaged:
            self._found.find("manifest", "a line does not verify", place, records=None, repair=REBUILD)
        if agent_directory(manifest.agent) != self._name:
            reason = f"it is the MANIFEST of {manifest.agent!r}, whose directory has another name"
            self._found.find("misplaced", reason, (0, len(manifest.header)), records=manifest.records())
        for reason in contradictions(manifest):
            self._found.find("manifest", reason, records=None, repair=REBUILD)

    def _check_missing_manifest(self, place: AgentPlace) -> None:
        """A directory without one is an agent's that is just being made, or one that lost it.

        Or a power cut left it of an agent that is elsewhere by now: then what lies in the archive is that one's.
        """
        homes = [os.path.join(shard, self._name) for shard in self._layout.shards.values()]
        elsewhere = any(
            self._storage.identify(os.path.join(home, MANIFEST)) is not None
            for home in homes
            if home != self._directory
        )
        if any(
            tier_of(name) in ("warm", "cold") and not (elsewhere and home.startswith(place.archive))
            for home, name in place.files()
        ):
            self._found.find("manifest", ONLY_PACKED_FILES, records=None, repair=REBUILD)

    def _check_torn_tail(self) -> None:
        if self._manifest is not None and self._manifest.damaged:
            return  # what is unexplained about its end is part of the same
        if self._manifest is None and self._found.result.findings:
            return
        if self._manifest is not None and self._manifest.end >= self._manifest.identity.size_bytes:
            return
        torn = torn_tail(self._storage, self._directory, self._manifest)
        if torn is None:
            return
        unmerged, agent = unmerged_lanes(self._readers, self._manifest), self._found.agent
        waiting = {} if agent is None else waiting_bytes_by_day(unmerged, agent)
        error = torn.damage(lanes={lane.token for lane in self._readers}, waiting_bytes=waiting)
        if error is not None:
            self._found.find("manifest", error.reason, (torn.offset, torn.length), records=None, repair=REBUILD)
        elif torn.length:
            reason = "its last line has no end: a merge is writing it, or was stopped, and the next one writes it again"
            self._found.find("manifest", reason, (torn.offset, torn.length), severity="note", repair="`memstore drain`")

    # -- its files

    def _check_files(self, manifest: Manifest, place: AgentPlace) -> None:
        watched = self._forgotten.get(text_hash(manifest.agent), frozenset())
        lines = RecordLines(manifest.agent, watched)
        surplus = SurplusCheck(self._storage, self._lanes, self._readers, self._found)
        listed = ListedFiles(
            self._storage,
            self._layout,
            place,
            manifest,
            readers=self._readers,
            surplus=surplus,
            found=self._found,
            full=self._full,
            on_bytes=self._on_bytes,
        )
        findings = self._found.result.findings
        noted = len(findings)  # of the MANIFEST: told at the end, and no file is to blame
        for name in listed.check(lines, behind=self._behind):
            if self._on_file is not None:
                self._on_file(name, len(findings) == noted)
        if watched:
            self._check_forgotten(manifest, lines)
        if not self._full:
            self._found.result.checked.records += manifest.records() + len(manifest.hidden.ids)
        check_unlisted_files(place, manifest, surplus, self._found)

    def _check_forgotten(self, manifest: Manifest, lines: RecordLines) -> None:
        """See that what was forgotten has its tombstone, wherever it still lies."""
        for run in lane_runs(unmerged_lanes(self._readers, manifest), manifest.agent):
            for piece in run.pieces:
                lines.watch(split_lines(piece.load()))
        seen_again = lines.seen - manifest.hidden.ids
        if seen_again:  # unless somebody has brought them back since FORGOTTEN was read
            now = self._forgotten_now(manifest.agent)
            seen_again = {memory_id for memory_id in seen_again if text_hash(memory_id) in now}
        if seen_again:
            reason = f"{len(seen_again)} record(s) that were forgotten can be read again, such as {min(seen_again)}"
            self._found.find("record", reason, records=len(seen_again), repair="hide them again")

    # -- ids

    def _check_ids(self, manifest: Manifest) -> None:
        """No record stands in two places."""
        runs = [*self._found.runs, *lane_runs(unmerged_lanes(self._readers, manifest), manifest.agent)]
        needle_bytes = RecordLines(manifest.agent).needle_bytes
        for first, second, needle in twice(runs, needle_bytes=needle_bytes, on_bytes=self._on_bytes):
            reason = f"the record {needle[14:].decode(errors='replace')} stands in {first.path} too, at {first.offset}"
            self._found.find(
                "record",
                reason,
                (second.offset, second.length),
                path=second.path,
                records=1,
                repair="keep it once, and set the other aside",
            )
