"""Carry out what was planned for one agent: files first, then the index that names them, then what they replace goes.

::

    files that can be written again just as they were     set aside, written beside, renamed over themselves
    files of which something is lost                      what is good of them into new files, whole and durable
    everything that is to go                              copied into the quarantine
    the MANIFEST                                          replaced as a whole: from here on all of it counts
    originals                                             unlinked

A crash before the MANIFEST is replaced leaves copies in the quarantine and packed files that no line names; a crash
behind it, files that the MANIFEST names as dropped. Both are what the next clean-up knows, and the repair finds the
same to do as before, or nothing.
"""

from __future__ import annotations

import dataclasses
import os
import secrets
from collections.abc import Sequence

from memstore.engine.engine import Engine
from memstore.format.forgotten import Changing, text_hash
from memstore.format.manifest import encode_manifest_header, encode_state
from memstore.format.names import KEPT_SUFFIX, MANIFEST, lane_token
from memstore.fs.atomic import replace_file, try_unlink
from memstore.lifecycle.pack import Built
from memstore.ops.layout import entries_of
from memstore.ops.repair.agent_plan import AgentPlan
from memstore.ops.repair.good_copies import GoodCopies
from memstore.ops.repair.new_index import new_index
from memstore.ops.repair.pack_good_pieces import GoodPiecesPacker
from memstore.ops.repair.quarantine import Quarantine
from memstore.ops.repair.restore_file import restore_file
from memstore.ops.repair.salvage import FileSalvage
from memstore.timestamps import YEAR_10000_US


class AgentRepair:
    """Carries out plans. The caller holds the lifecycle, the rebalance, the merge and the shard's lock."""

    def __init__(self, engine: Engine, copies: GoodCopies, quarantine: Quarantine) -> None:
        self._engine = engine
        self._storage = engine.storage
        self._copies = copies
        self._quarantine = quarantine
        self._packer = GoodPiecesPacker(engine, copies)

    def carry_out(self, plan: AgentPlan) -> None:
        """Do what `memstore.ops.repair.agent_steps` says.

        Raises:
            StorageFullError: no space; what was done so far counts, and the rest is done by the next repair.
            StorageError: the disk refuses, likewise.
        """
        for each in plan.files:
            if plan.can_restore(each):
                self._restore(plan, each)
        if plan.needs_index:
            self._write_index(plan)
        elif plan.strangers:
            self._set_aside(plan, [])
            self._remove(plan.strangers)
        for directory in (plan.directory, self._engine.catalog.state.archive_of(plan.agent)):
            self._engine.pieces.drop_under(directory)

    def _restore(self, plan: AgentPlan, each: FileSalvage) -> None:
        self._quarantine.copy(each.path, why="parts of it were damaged; it was written again just as it was")
        size = plan.index.manifest.day_files.get(each.name)
        if size is None:
            size = plan.index.manifest.packed_file(each.name).size
        restore_file(self._storage, each, size_bytes=size, copies=self._copies)
        self._engine.handles.drop(each.path)

    # -- the index, and files that have lost something

    def _write_index(self, plan: AgentPlan) -> None:
        built: list[tuple[FileSalvage, Built]] = []
        version = plan.next_version
        for each in plan.files:
            if not plan.is_kept(each) and each.pieces:
                built.append((each, self._packer.build(plan, each, version)))
                version += 2
        kept_lanes = {lane_token(name) for name in self._engine.lanes.names() if name.endswith(KEPT_SUFFIX)}
        now_us = self._engine.clock.now_us()
        state = new_index(plan, built, version=version, kept_lanes=kept_lanes, now_us=now_us)
        gone = [each for each in plan.files if not plan.is_kept(each)]
        self._set_aside(plan, gone)
        # What other processes have cached, or an index says of the agent, may be gone, or have come back.
        now_us = self._engine.clock.now_us()
        change = Changing(at=now_us, agent=text_hash(plan.agent), since=0, until=YEAR_10000_US)
        self._engine.forgotten.stir(change)
        self._engine.catalog.raise_version()
        header = encode_manifest_header(
            agent=plan.agent, at=self._engine.clock.now_us(), compaction_id=secrets.token_hex(8)
        )
        replace_file(self._storage, os.path.join(plan.directory, MANIFEST), header + encode_state(state))
        self._remove([*(each.path for each in gone), *plan.strangers])
        if plan.other:
            self._remove([os.path.join(plan.other, MANIFEST)])
            self._remove_directory(plan.other)

    def _remove_directory(self, directory: str) -> None:
        """What is left of it was never anybody's, or is all that a maintenance would remove."""
        for entry in entries_of(self._storage, directory):
            path = os.path.join(directory, entry.name)
            if entry.is_directory:
                self._remove_directory(path)
            else:
                self._quarantine.copy(path, why="it lay in a directory in which nobody looks for the agent")
                self._remove([path])
        self._storage.remove_directory(directory)
        self._storage.sync_directory(os.path.dirname(directory))

    def _set_aside(self, plan: AgentPlan, gone: Sequence[FileSalvage]) -> None:
        if plan.needs_index:
            why = "it was written anew by a repair"
            lost = [{"offset_bytes": offset, "length_bytes": length} for offset, length in plan.index.lost]
            self._quarantine.copy(os.path.join(plan.directory, MANIFEST), why=why, found={"lost": lost})
        if plan.other:
            why = "it lay in a directory in which nobody looks for the agent; what it says is in the other one now"
            self._quarantine.copy(os.path.join(plan.other, MANIFEST), why=why)
        for each in gone:
            found = {
                "agent": plan.agent,
                "records_kept": each.records,
                "lost": [dataclasses.asdict(lost) for lost in each.lost],
                "repeats_lost": len(each.lost_repeats),
            }
            self._quarantine.copy(each.path, why="parts of it are damaged; the rest is in other files now", found=found)
        for path in plan.strangers:
            self._quarantine.copy(path, why="no line of a MANIFEST names it, and it holds nothing of its own")

    def _remove(self, paths: Sequence[str]) -> None:
        for path in paths:
            try_unlink(self._storage, path)
            self._engine.handles.drop(path)
        for directory in sorted({os.path.dirname(path) for path in paths}):
            if self._storage.identify(directory) is not None:
                self._storage.sync_directory(directory)
