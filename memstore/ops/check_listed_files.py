"""The files that an agent's MANIFEST names: whether they are there, and in full, whether every line of them is."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator

from memstore.format.names import parse_cold_file_name
from memstore.fs.handles import ReadHandles
from memstore.fs.storage import Storage
from memstore.manifest.index import BlockRef, Manifest
from memstore.ops.agent_findings import AgentFindings
from memstore.ops.agent_place import AgentPlace
from memstore.ops.check_day_file import SALVAGE, check_blocks
from memstore.ops.check_manifest import blocks_of
from memstore.ops.check_packed_file import check_frames, check_seek_table
from memstore.ops.check_surplus import SurplusCheck
from memstore.ops.finding import Finding, Kind
from memstore.ops.lanes_explain import is_in_lanes
from memstore.ops.layout import Layout
from memstore.ops.reading_files import OnBytes
from memstore.ops.record_lines import RecordLines
from memstore.wal.reader import LaneReader

_DROP = "take it out of the MANIFEST, unless a good copy of it is given"
_HANDLES_MAX = 64


class ListedFiles:
    """Looks at the files that one MANIFEST names. Used by one thread.

    Args:
        storage: where they lie.
        layout: where the archive is.
        place: the agent's directories.
        manifest: its MANIFEST.
        readers: every lane that there was before that was read.
        surplus: judges what stands behind the ends of day files.
        found: where findings go.
        full: read every byte of them.
        on_bytes: told of what is read.
    """

    def __init__(
        self,
        storage: Storage,
        layout: Layout,
        place: AgentPlace,
        manifest: Manifest,
        *,
        readers: list[LaneReader],
        surplus: SurplusCheck,
        found: AgentFindings,
        full: bool,
        on_bytes: OnBytes,
    ) -> None:
        self._storage = storage
        self._layout = layout
        self._place = place
        self._manifest = manifest
        self._readers = readers
        self._surplus = surplus
        self._found = found
        self._checked = found.result.checked
        self._full = full
        self._on_bytes = on_bytes
        self._handles = ReadHandles(storage, files_max=_HANDLES_MAX)

    def check(self, lines: RecordLines, *, behind: str = "") -> Iterator[str]:
        """Look at one after the other, by name; the name of each as it was looked at.

        Args:
            lines: what their lines must be.
            behind: leave out files up to this name.

        Raises:
            FileNotFoundError: a file has gone.
            StorageError: one cannot be opened.
        """
        manifest = self._manifest
        of_trash = RecordLines(manifest.agent)
        for name in sorted((*manifest.day_files, *manifest.packed, *manifest.trash)):
            if name <= behind:
                continue
            if name in manifest.day_files:
                self._check_day_file(name, lines)
            else:
                self._check_packed_file(name, of_trash if name in manifest.trash else lines)
            yield name
        self._handles.clear()

    # -- day files

    def _check_day_file(self, name: str, lines: RecordLines) -> None:
        path = f"{self._place.directory}/{name}"
        committed = self._manifest.day_files[name]
        refs = blocks_of(self._manifest, name)
        identity = self._storage.identify(path)
        if identity is None:
            self._missing("day_file", path, refs)
            return
        self._checked.files += 1
        if identity.size_bytes > committed:
            self._surplus.check(self._manifest, path, committed)
        if self._full:
            self._found.take(
                check_blocks(
                    path, self._manifest.agent, refs, handles=self._handles, lines=lines, on_bytes=self._on_bytes
                )
            )
            self._checked.bytes += committed
            self._excuse_unsynced(path, refs)
            return
        for ref in refs:
            if ref.offset + ref.length > identity.size_bytes and not self._may_be_unsynced(ref):
                reason = f"the file ends at {identity.size_bytes}, before its block does"
                place = (ref.offset, ref.length)
                self._found.find("day_file", reason, place, path=path, records=ref.records, repair=SALVAGE)

    def _excuse_unsynced(self, path: str, refs: list[BlockRef]) -> None:
        """Of blocks that do not verify, those are no damage whose lanes stand: their merge is repeated from these."""
        findings = self._found.result.findings
        if not findings:
            return
        unsynced = {ref.offset for ref in refs if self._may_be_unsynced(ref)}

        def excused(finding: Finding) -> Finding:
            if finding.kind != "day_file" or finding.path != path or finding.offset_bytes not in unsynced:
                return finding
            reason = f"{finding.reason}; the lanes that it was merged from stand, and are read in its place"
            again = "`memstore drain` merges them again"
            return dataclasses.replace(finding, severity="note", reason=reason, repair=again)

        findings[:] = map(excused, findings)

    def _may_be_unsynced(self, ref: BlockRef) -> bool:
        return is_in_lanes(self._readers, self._manifest, ref)

    # -- packed files

    def _check_packed_file(self, name: str, lines: RecordLines) -> None:
        manifest = self._manifest
        packed = manifest.packed_file(name)
        path = self._packed_path(name)
        if path is None:
            self._missing("packed_file", self._place.places_of(name, in_trash=name in manifest.trash)[0], [])
            return
        self._checked.files += 1
        if self._full:
            self._checked.bytes += packed.size
            found = check_frames(
                path, manifest.agent, packed, handles=self._handles, lines=lines, on_bytes=self._on_bytes
            )
            if name in manifest.trash:  # what expired may have come again from elsewhere
                found.runs = []
        else:
            found = check_seek_table(path, manifest.agent, packed, handles=self._handles, on_bytes=self._on_bytes)
            found.records = 0
        self._found.take(found)

    def _packed_path(self, name: str) -> str | None:
        """Where a packed file lies; where a crash left it at the other of its two places, that is told."""
        right, other = self._place.places_of(name, in_trash=name in self._manifest.trash)
        if self._lists(right):
            return right
        if not self._lists(other):
            return None
        reason = f"it belongs to {os.path.dirname(right)}; it is read here, and no record is lost"
        self._found.find("misplaced", reason, path=other, severity="note", repair="`memstore maintain` renames it")
        return other

    def _lists(self, path: str) -> bool:
        directory, name = os.path.split(path)
        return name in self._place.names.get(directory, ())

    # -- files that are not there

    def _missing(self, kind: Kind, path: str, refs: list[BlockRef]) -> None:
        name = os.path.basename(path)
        records = sum(ref.records for ref in refs or self._manifest.file_refs(name))
        if refs and all(map(self._may_be_unsynced, refs)):
            reason = "it is missing; the lanes that it was merged from stand, and are read in its place"
            self._found.find(kind, reason, path=path, severity="note", records=records, repair="`memstore drain`")
            return
        if not refs and parse_cold_file_name(name) is not None and self._storage.identify(self._layout.archive) is None:
            self._found.find("archive", "the archive is missing; mount its volume", path=path, severity="unread")
            return
        self._found.find(kind, "it is missing", path=path, records=records, repair=_DROP)
