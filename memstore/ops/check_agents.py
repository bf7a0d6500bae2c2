"""Every agent of a store, wherever it lies; and whether readers look for it there."""

from __future__ import annotations

import os
from collections.abc import Iterator

from memstore.engine.forgotten import Forgotten
from memstore.engine.lane_set import LaneSet
from memstore.errors import StorageError
from memstore.format.forgotten import decode_forgotten, text_hash
from memstore.format.names import MANIFEST, SHARD_LOCK, StorePaths, shard_name
from memstore.fs.atomic import read_file
from memstore.fs.handles import ReadHandles
from memstore.fs.storage import Storage
from memstore.ids import directory_agent
from memstore.manifest.index import Manifest
from memstore.ops.check_agent import AgentCheck
from memstore.ops.check_progress import CheckProgress
from memstore.ops.finding import Finding
from memstore.ops.layout import Layout, entries_of, read_layout, size_of
from memstore.ops.removed_records import forgotten_by_agent, removed_records
from memstore.ops.report import CheckReport

FORGOTTEN_BYTES_MAX = 64 * 1024 * 1024
"""Some 1.5 million forgotten records: as many hashes take 150 MB."""
_LANE_INDEX_BYTES = 16 * 1024 * 1024
_HANDLES_MAX = 16


class AgentsCheck:
    """Used by one thread, once.

    Args:
        storage: where they lie.
        paths: the store's root.
        layout: where its agents lie.
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
        self._lanes = LaneSet(
            storage,
            paths,
            handles=ReadHandles(storage, files_max=_HANDLES_MAX),
            index_bytes_max=_LANE_INDEX_BYTES,
            known_end=lambda _: None,
        )
        self._seen: set[str] = set()

    def check(self) -> None:
        """Look at every agent. Raises: StoppedError: it was told to."""
        forgotten = self._forgotten() if self._report.full else {}
        agents = AgentCheck(
            self._storage,
            self._layout,
            self._lanes,
            full=self._report.full,
            on_bytes=self._progress.read,
            forgotten=forgotten,
            forgotten_now=self._forgotten_now,
        )
        for directory in self._directories():
            self._check_agent(agents, directory)
        # An agent that was moved meanwhile, from a shard that was still to come to one that had been, is seen now.
        for directory in self._directories():
            if os.path.basename(directory) not in self._seen:
                self._check_agent(agents, directory)
        self._report.attempt(self._layout.archive, lambda: self._check_archive(agents))

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

        self._report.attempt(directory, look)
        self._seen.add(name)
        if not self._report.full:
            self._progress.advance(1)

    def _excused(self, name: str, findings: list[Finding]) -> list[Finding]:
        """An agent that is being erased is in no order until that is done."""
        if any(finding.severity == "damage" for finding in findings) and _is_being_erased(
            self._storage, self._paths, name
        ):
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


def _is_being_erased(storage: Storage, paths: StorePaths, name: str) -> bool:
    """Whether FORGOTTEN notes an erasure of all of this agent that has not been carried out."""
    begun: dict[str, str] = {}
    for line in (read_file(storage, paths.forgotten) or b"").split(b"\n"):
        entry = decode_forgotten(line)
        if entry is not None and entry.erasure is not None and not entry.erasure.ids:
            begun[entry.erasure.id] = entry.erasure.agent
        elif entry is not None and entry.erased is not None:
            begun.pop(entry.erased.id, None)
    plain = directory_agent(name)
    hashes = set(begun.values())
    return (text_hash(plain) in hashes) if plain is not None else name.rpartition("~")[2] in hashes
