"""One agent: its MANIFEST, the files that it lists, what else lies beside them; in full, every line of them.

Looked at beside writers, merges and movers without taking a lock: lanes first, then the MANIFEST, as a reader does. If
something is found and the MANIFEST has changed meanwhile, all of it is looked at again, and what was not found both
times is not told.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from types import MappingProxyType

from memstore.engine.lane_set import LaneSet
from memstore.format.names import parse_cold_file_name
from memstore.fs.storage import Storage
from memstore.ids import directory_agent
from memstore.ops.agent_findings import REBUILD, AgentResult
from memstore.ops.agent_look import AgentLook
from memstore.ops.finding import Finding
from memstore.ops.layout import Layout, entries_of
from memstore.ops.reading_files import ForgottenNow, OnBytes, OnFile, nothing_forgotten

LOOKS_MAX = 4
"""How often an agent is looked at that changes while something is found in it: each time means a merge or a move."""


class AgentCheck:
    """Checks agents, one after the other. Used by one thread.

    Args:
        storage: where everything lies.
        layout: where agents lie.
        lanes: every lane there is.
        full: read every byte of their files.
        on_bytes: told of what is read.
        on_file: see `OnFile`, if ``full``: what is whole is not looked at again where an agent changes meanwhile, and
            ids are not compared across files.
        forgotten: by hash of the agent, hashes of ids that are not to be seen.
        forgotten_now: the same of one agent, read anew.
    """

    def __init__(
        self,
        storage: Storage,
        layout: Layout,
        lanes: LaneSet,
        *,
        full: bool,
        on_bytes: OnBytes,
        on_file: OnFile | None = None,
        forgotten: Mapping[str, frozenset[str]] = MappingProxyType({}),
        forgotten_now: ForgottenNow = nothing_forgotten,
    ) -> None:
        self._storage = storage
        self._layout = layout
        self._lanes = lanes
        self._full = full
        self._on_bytes = on_bytes
        self._on_file = on_file
        self._forgotten = forgotten
        self._forgotten_now = forgotten_now

    def check(self, directory: str, *, behind: str = "") -> AgentResult:
        """Hold an agent's directory against what its MANIFEST says.

        Args:
            directory: the agent's.
            behind: leave out files up to this name.

        Raises:
            StorageError: it cannot be listed.
        """
        known: set[Finding] | None = None
        done = [behind]

        def on_file(name: str, is_whole: bool) -> None:  # noqa: FBT001 - as `OnFile` has it
            if is_whole:
                done.append(name)
            if self._on_file is not None:
                self._on_file(name, is_whole)

        result = AgentResult()
        for _ in range(LOOKS_MAX):
            look = AgentLook(
                self._storage,
                self._layout,
                self._lanes,
                directory,
                full=self._full,
                on_bytes=self._on_bytes,
                behind=done[-1],
                on_file=None if self._on_file is None else on_file,
                forgotten=self._forgotten,
                forgotten_now=self._forgotten_now,
            )
            try:
                result = look.take()
            except FileNotFoundError:  # a file has gone: a move went by
                if self._storage.identify(directory) is None:
                    return AgentResult()
                continue
            if not result.findings or not look.has_changed():
                return result
            if known is not None:
                result.findings = [finding for finding in result.findings if finding in known]
            known = set(result.findings)
        return result

    def check_unhomed_archive(self, directory: str) -> list[Finding]:
        """What to say of an archive directory whose agent has no directory in any shard."""
        cold = [entry.name for entry in entries_of(self._storage, directory) if parse_cold_file_name(entry.name)]
        if not cold:
            return []
        agent = directory_agent(os.path.basename(directory))
        reason = f"it holds {len(cold)} file(s) of an agent whose MANIFEST is nowhere"
        return [Finding("manifest", "damage", directory, reason, records=None, agent=agent, repair=REBUILD)]
