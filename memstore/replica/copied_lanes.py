"""The copy's own lanes: which of them the copy's files hold by now, so that they may go.

A lane goes when the store has merged it and every agent in it was seen, by this pass, with a MANIFEST that is durable:
at any moment the copy's files and its lanes together hold everything.
"""

from __future__ import annotations

import os

from memstore.engine.catalog import Catalog
from memstore.engine.engine import Engine
from memstore.engine.lookup import find_lines
from memstore.engine.second_copy import lane_last_commit_us
from memstore.errors import CorruptionError, StorageError
from memstore.format.forgotten import text_hash
from memstore.format.lines import split_lines
from memstore.format.names import StorePaths, is_lane_name, lane_token
from memstore.fs.atomic import TEMPORARY_PREFIX, try_unlink
from memstore.fs.lock import locked
from memstore.fs.storage import Storage
from memstore.fs.verified import read_listed
from memstore.ids import parse_id
from memstore.record import decode_record
from memstore.replica.copied_state import note_last_commit
from memstore.replica.pass_report import PassState
from memstore.wal.reader import LaneReader


class CopiedLanes:
    """Used by one thread, which holds the store's ``locks/replica``.

    Args:
        engine: the store.
        paths: of the copy.
    """

    def __init__(self, engine: Engine, paths: StorePaths) -> None:
        self._engine = engine
        self._storage = engine.storage
        self._paths = paths

    def by_token(self) -> dict[str, str]:
        """Names of the lanes that there are."""
        return {lane_token(name): name for name in _lane_names(self._storage, self._paths)}

    def spent(self, lanes: dict[str, str], state: PassState, *, joins: bool) -> list[str]:
        """Names of the lanes that may go; the merge lock is held.

        Args:
            lanes: `by_token`, as it was before the pass.
            state: the pass, at its end.
            joins: the copy was away: its lanes may be so old that what was in them has gone from the store since.

        Raises:
            StorageError: a lane cannot be read.
        """
        settled = state.done | state.report.erased
        return [
            lanes[token]
            for token in sorted(state.cited)
            if self._is_copied(lanes[token], settled, state) and (joins or self._is_in_store(lanes[token], state))
        ]

    def _is_copied(self, name: str, settled: set[str], state: PassState) -> bool:
        """Whether the copy's files hold all that is in a lane of the copy; the merge lock is held.

        A lane stays that holds lines of an agent which the store does not have and did not erase: they are all there
        is.
        """
        path = os.path.join(self._paths.lanes, name)
        try:
            reader = LaneReader(self._storage.open_read(path), lane_token(name))
            reader.refresh()
            agents = reader.agents()
        except CorruptionError:
            return not state.report.failed
        return all(agent in settled or text_hash(agent) in state.erased for agent in agents)

    def _is_in_store(self, name: str, state: PassState) -> bool:
        """Whether the store has what is in a lane of the copy, which it has no more; the merge lock is held.

        A lane that was merged is cited by its agents for an hour. Of one that is cited no more, or was lost unmerged,
        the records themselves are looked for: the copy may be the only one that has them.
        """
        token = lane_token(name)
        reader = LaneReader(self._storage.open_read(os.path.join(self._paths.lanes, name)), token)
        try:
            reader.refresh()
            agents = reader.agents() - state.cited[token]
        except CorruptionError:  # nobody can tell what is in it
            return True
        missing = sum(self._missing_of(agent, reader) for agent in agents if text_hash(agent) not in state.erased)
        if missing:
            why = f"{missing} record(s) of it are not in the store, which has lost this lane; the second copy keeps it"
            state.report.failed.append((name, StorageError(why)))
        return not missing

    def _missing_of(self, agent: str, reader: LaneReader) -> int:
        """How many records of an agent in a lane the store neither has nor has forgotten or erased."""
        times: dict[str, int] = {}
        for item in reader.agent_slices(agent).slices:
            try:
                lines = split_lines(read_listed(reader.file, item))
            except CorruptionError:  # there is nothing of it to be kept
                continue
            for line in lines:
                memory_id = decode_record(line).memory_id
                times[memory_id] = parse_id(memory_id).time_us
        try:
            known = find_lines(self._engine.builder, agent, times, forgotten=True)
        except CorruptionError:  # what the store cannot read it may not have
            return len(times)
        left = {text_hash(memory_id) for memory_id in times.keys() - known.keys()}
        if left:
            for entry in self._engine.forgotten.entries():
                act = entry.changing or entry.erasure
                left.difference_update(() if act is None else act.ids)
        return len(left)

    def remove(self, catalog: Catalog, names: list[str]) -> int:
        """Remove lanes; how many that were. The copy's STORE.json says before how young what was in them is."""
        if not names:
            return 0
        paths = [os.path.join(self._paths.lanes, name) for name in names]
        newest = max(lane_last_commit_us(self._storage, path) for path in paths)
        note_last_commit(catalog, newest)
        removed = sum(try_unlink(self._storage, path) for path in paths)
        self._storage.sync_directory(self._paths.lanes)
        return removed

    def remove_leftovers(self) -> None:
        """Mirrors that killed processes had begun to make, which they do under this lock."""
        with locked(self._storage, self._paths.lock("store")):
            for entry in self._storage.list_directory(self._paths.lanes):
                if entry.name.startswith(TEMPORARY_PREFIX):
                    try_unlink(self._storage, os.path.join(self._paths.lanes, entry.name))


def waiting_tokens(engine: Engine, *, kept: bool) -> set[str]:
    """Tokens of the store's lanes that are not merged; with those that are kept for repair, if asked."""
    names = _lane_names(engine.storage, engine.paths)
    return {lane_token(name) for name in names if kept or name.endswith(".lane")}


def _lane_names(storage: Storage, paths: StorePaths) -> list[str]:
    return sorted(entry.name for entry in storage.list_directory(paths.lanes) if is_lane_name(entry.name))
