"""Make a change of an agent's files count: one MANIFEST line, under the merge lock and the agent's shard lock.

The order is what keeps every record once, at whatever instruction the machine stops (DESIGN 7): the new files are
whole, synced and named before; then the line is appended and synced; only then do the old files go. A crash before the
line leaves orphans; a crash behind it leaves old files that count no longer. The clean-up knows both.

A merge that was killed before its sync is repeated from its lanes into the day files that its line names. So nothing of
an agent is moved while a lane that its MANIFEST cites waits to be merged again.
"""

from __future__ import annotations

import dataclasses
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from dataclasses import dataclass

from memstore.engine.engine import Engine
from memstore.engine.home import home_for_writing
from memstore.engine.leftovers import Leftovers
from memstore.errors import MemstoreError, StorageError
from memstore.format.manifest import Move, encode_hide, encode_move, encode_show
from memstore.format.names import (
    KEPT_SUFFIX,
    LANE_SUFFIX,
    TRASH_DIRECTORY,
    lane_token,
    parse_cold_file_name,
)
from memstore.fs.atomic import make_directories, try_unlink
from memstore.fs.lock import locked
from memstore.manifest.compaction import compact_manifest
from memstore.manifest.index import SETTLED, BlockRef, Manifest
from memstore.manifest.writer import ManifestWriter, open_manifest
from memstore.replica.tombstones import CopyTombstones

_log = logging.getLogger(__name__)
LOCK_WAIT_S = 120.0
"""How long a change waits for a merge to end. One of 64 lanes takes seconds."""


class SourcesChangedError(Exception):
    """What a result was built from has changed since: it is built again at the next run."""


class MergeUnfinishedError(StorageError):
    """A merge of the agent was interrupted and has to be repeated before its files may be moved; a drain does it."""


@dataclass(frozen=True, slots=True)
class LockedAgent:
    """An agent whose files nobody else can change: see `locked_agent`.

    Attributes:
        directory: the agent's.
        manifest: as it stands; None where it has none.
        standing: tokens of the lanes that wait to be merged.
        kept: tokens of the lanes that are kept for repair.
    """

    directory: str
    manifest: Manifest | None
    standing: frozenset[str]
    kept: frozenset[str]


class Committer:
    """Changes MANIFESTs. Thread-safe: all of it happens under locks that exclude threads too."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._storage = engine.storage
        self._tombstones = CopyTombstones(engine)

    @contextmanager
    def locked_agent(self, agent: str) -> Iterator[LockedAgent]:
        """Hold the merge lock and the agent's shard lock.

        Raises:
            LockedError: a merge or another change did not end in time.
        """
        engine = self._engine
        with locked(self._storage, engine.paths.lock("merge"), timeout_s=LOCK_WAIT_S), self.homed_agent(agent) as held:
            yield held

    @contextmanager
    def homed_agent(self, agent: str) -> Iterator[LockedAgent]:
        """`locked_agent` for a caller that holds the merge lock."""
        engine = self._engine
        with home_for_writing(self._storage, engine.catalog, agent) as directory:
            names = [entry.name for entry in self._storage.list_directory(engine.paths.lanes)]
            yield LockedAgent(
                directory,
                engine.manifests.get(directory),
                frozenset(lane_token(name) for name in names if name.endswith(LANE_SUFFIX)),
                frozenset(lane_token(name) for name in names if name.endswith(KEPT_SUFFIX)),
            )

    def await_merges(self, manifest: Manifest, sources: Sequence[str]) -> None:
        """Return when the merges that made these files are on the disk.

        Nothing may be built of what a power cut could still take back: a result whose sources, and whose agent's very
        MANIFEST, were gone would look like damage.

        Raises:
            MergeUnfinishedError: see there.
            LockedError: a merge did not end in time.
        """
        cited = {ref.merge for name in sources for ref in manifest.file_refs(name) if isinstance(ref, BlockRef)}
        lanes = {token for index in cited if index != SETTLED for token in manifest.merges[index].lanes}
        # Looked at after the MANIFEST: a lane goes when everything that was merged with it has been synced.
        if lanes and lanes & self._engine.lanes.waiting():
            with locked(self._storage, self._engine.paths.lock("merge"), timeout_s=LOCK_WAIT_S):
                left = lanes & self._engine.lanes.waiting()
            if left:
                raise _unfinished(manifest)

    def refreshed(self, held: LockedAgent) -> LockedAgent:
        """What is held, with the MANIFEST as it is after a change of one's own."""
        return dataclasses.replace(held, manifest=self._engine.manifests.get(held.directory))

    def check_merged(self, held: LockedAgent) -> None:
        """See that no merge of the agent has to be repeated first.

        Raises:
            MergeUnfinishedError: see there.
        """
        assert held.manifest is not None
        if held.manifest.cites(held.standing):
            raise _unfinished(held.manifest)

    def move(self, agent: str, built_from: Manifest, move: Move, *, check: Callable[[], None] | None = None) -> None:
        """Let ``move`` count, then remove what it takes the place of.

        Args:
            agent: whose files.
            built_from: what the result was built from.
            move: the line.
            check: called under the locks, before anything is written; raises to refuse.

        Raises:
            SourcesChangedError: nothing was changed; build it anew.
            MergeUnfinishedError: see there; nothing was changed.
            StorageError: the line may not be on disk; the old files stay.
        """
        with self.locked_agent(agent) as held:
            if check is not None:
                check()
            self.move_locked(held, built_from, move)

    def move_locked(self, held: LockedAgent, built_from: Manifest, move: Move) -> None:
        """`move` for a caller that holds the agent."""
        manifest = held.manifest
        if manifest is None:
            raise SourcesChangedError(f"{built_from.path} is gone")
        for name in move.sources:
            if _stands_for(manifest, name) is None or _stands_for(manifest, name) != _stands_for(built_from, name):
                raise SourcesChangedError(f"{os.path.join(manifest.directory, name)} has changed")
        self._check_results(manifest, move)
        self.check_merged(held)
        self._engine.catalog.raise_version()
        old_paths = [self._engine.pieces.path_of(manifest, name) for name in move.sources]
        self._append(held, manifest.agent, encode_move(move))
        self._arrange(manifest, move, old_paths)

    def hide(self, held: LockedAgent, agent: str, ids: list[str], *, at_us: int) -> None:
        """Append tombstones, in the second copy too. Raises as `move`."""
        self._engine.catalog.raise_version()
        self._append_in_both(held, agent, encode_hide(at=at_us, ids=ids))

    def show(self, held: LockedAgent, agent: str, ids: list[str], *, at_us: int) -> None:
        """Take tombstones back, in the second copy too. Raises as `move`."""
        self._append_in_both(held, agent, encode_show(at=at_us, ids=ids))

    def compact(self, held: LockedAgent, *, at_us: int, forget_ids: frozenset[str] = frozenset()) -> None:
        """Write the agent's MANIFEST anew, which also makes all that it says durable.

        Raises:
            MergeUnfinishedError: see there.
            StorageError: the old one stands.
        """
        manifest = held.manifest
        assert manifest is not None
        self.check_merged(held)
        self._check_torn(held, manifest.agent)
        self._engine.catalog.raise_version()
        there = [name for name in manifest.dropped if self.dropped_paths(manifest, name)]
        self._sync_removals(manifest, manifest.dropped.keys() - set(there))
        # A plan may be for a later moment; which merges a reader may have missed is a matter of the clock.
        at_us = min(at_us, self._engine.clock.now_us())
        compact_manifest(self._storage, manifest, at_us=at_us, standing=held.kept, there=there, forget_ids=forget_ids)

    def confirm(self, held: LockedAgent, agent: str) -> None:
        """See that the MANIFEST on the disk says what it says here, and no more.

        A line that was refused and cut off may be there still, if the cut could not be synced: no file that it names
        may go before that.

        Raises:
            StorageError: it may not.
        """
        assert held.manifest is not None
        self._check_torn(held, agent)
        writer = self._open(held, agent)
        try:
            writer.rewrite(0, held.manifest.end)
            writer.file.sync_data()
        finally:
            writer.file.close()

    def dropped_paths(self, manifest: Manifest, name: str) -> list[str]:
        """Where a dropped file still lies: in its directory, in the trash of it, or nowhere."""
        home = self._home_of(manifest, name)
        paths = (os.path.join(home, name), os.path.join(home, TRASH_DIRECTORY, name))
        return [path for path in paths if self._storage.identify(path) is not None]

    def remove_dropped(self, held: LockedAgent, *, at_us: int) -> int:
        """Remove files that count no longer, and bring others where they belong; how many were removed.

        The MANIFEST is written anew first: the process that appended its last lines may have been killed before its
        sync, and the files may go only when their successors are sure to count.
        """
        manifest = held.manifest
        assert manifest is not None
        self.compact(held, at_us=at_us)
        removed = 0
        for name in manifest.dropped:
            for path in self.dropped_paths(manifest, name):
                self._remove(path)
                removed += 1
        for name in (*manifest.packed, *manifest.trash):
            self._put_in_place(manifest, name)
        return removed

    def _check_results(self, manifest: Manifest, move: Move) -> None:
        """See that what was built lies where the agent is now.

        Raises:
            SourcesChangedError: the agent was copied to another volume meanwhile, and the copy is without it.
        """
        places = [(packed, "") for packed in move.to] + [(each.packed, TRASH_DIRECTORY) for each in move.trash]
        for packed, directory in places:
            if packed.file in move.sources:
                continue
            path = os.path.join(self._home_of(manifest, packed.file), directory, packed.file)
            identity = self._storage.identify(path)
            if identity is None or identity.size_bytes != packed.size:
                raise SourcesChangedError(f"{path} is not there: the agent has been moved")

    def _sync_removals(self, manifest: Manifest, gone: AbstractSet[str]) -> None:
        """See that files that are gone stay gone: once the MANIFEST names them no more, nobody would remove them."""
        homes = {self._home_of(manifest, name) for name in gone}
        for directory in (*homes, *(os.path.join(home, TRASH_DIRECTORY) for home in homes)):
            if self._storage.identify(directory) is not None:
                self._storage.sync_directory(directory)

    def _check_torn(self, held: LockedAgent, agent: str) -> None:
        """See that what does not verify at the end of the MANIFEST may be cut.

        Raises:
            CorruptionError: it is damage.
        """
        leftovers = Leftovers(
            self._storage,
            manifests=self._engine.manifests,
            waiting=lambda: set(held.standing),
            standing=self._engine.lanes.refresh,
        )
        leftovers.check_manifest(held.directory, agent, held.manifest)

    def _append(self, held: LockedAgent, agent: str, line: bytes) -> None:
        # A merge that was stopped before its sync, or whose sync failed, may have left a MANIFEST whose name and first
        # lines are on no disk: the lanes stand for what they say, and for a line behind them nothing would.
        is_unsure = held.manifest is None or held.manifest.cites(held.standing) or not held.manifest.lists_files
        self._check_torn(held, agent)
        writer = self._open(held, agent)
        try:
            if held.manifest is not None and is_unsure:
                writer.rewrite(0, held.manifest.end)
                writer.file.sync_data()  # or a line that is whole could stand behind one that a power cut has torn
            writer.append(line)
            try:
                writer.file.sync_data()
            except StorageError as error:
                self._write_anew(held, error)
        finally:
            writer.file.close()
        if is_unsure:
            self._storage.sync_directory(held.directory)
            self._storage.sync_directory(os.path.dirname(held.directory))

    def _open(self, held: LockedAgent, agent: str) -> ManifestWriter:
        return open_manifest(
            self._storage,
            held.directory,
            agent,
            known=held.manifest,
            at_us=self._engine.clock.now_us(),
            on_torn=_note_torn,
        )

    def _append_in_both(self, held: LockedAgent, agent: str, line: bytes) -> None:
        self._append(held, agent, line)
        now = self.refreshed(held).manifest
        assert now is not None
        self._tombstones.append(agent, line, begun_us=now.begun)

    def _write_anew(self, held: LockedAgent, error: StorageError) -> None:
        """Save a line whose sync has failed by a compaction: a new file, which is synced as a whole.

        For the old one no later sync can be believed (FACTS.md): its next line may reach the disk and this one not, and
        that would be damage.

        Raises:
            StorageError: ``error``, where that cannot be done either.
        """
        try:
            self.compact(self.refreshed(held), at_us=self._engine.clock.now_us())
        except MemstoreError as failed:
            _log.warning(
                "%s: a line may not be on disk, and the file cannot be written anew: %s", held.directory, failed
            )
            raise error from failed

    def _arrange(self, manifest: Manifest, move: Move, old_paths: list[str]) -> None:
        """Put each file where it belongs now. What fails here is done by the next clean-up."""
        kept = {packed.file for packed in move.to} | {trashed.packed.file for trashed in move.trash}
        try:
            for name, path in zip(move.sources, old_paths, strict=True):
                if name not in kept:
                    self._remove(path)
                    continue
                home = self._home_of(manifest, name)
                trashed = any(each.packed.file == name for each in move.trash)
                self._rename(path, os.path.join(home, TRASH_DIRECTORY, name) if trashed else os.path.join(home, name))
        except (MemstoreError, FileNotFoundError) as error:
            _log.warning("%s: old files stay until the next clean-up: %s", manifest.directory, error)

    def _put_in_place(self, manifest: Manifest, name: str) -> None:
        """Finish what `_arrange` was stopped at."""
        home = self._home_of(manifest, name)
        places = [os.path.join(home, name), os.path.join(home, TRASH_DIRECTORY, name)]
        right = places[1] if name in manifest.trash else places[0]
        wrong = places[0] if name in manifest.trash else places[1]
        if self._storage.identify(right) is None and self._storage.identify(wrong) is not None:
            self._rename(wrong, right)

    def _home_of(self, manifest: Manifest, name: str) -> str:
        if parse_cold_file_name(name) is None:
            return manifest.directory
        return self._engine.catalog.state.archive_of(manifest.agent)

    def _rename(self, source: str, target: str) -> None:
        if source == target:
            return
        make_directories(self._storage, os.path.dirname(target))
        self._storage.rename(source, target)
        self._storage.sync_directory(os.path.dirname(target))
        self._storage.sync_directory(os.path.dirname(source))
        self._engine.handles.drop(source)

    def _remove(self, path: str) -> None:
        try_unlink(self._storage, path)
        self._engine.handles.drop(path)


def _unfinished(manifest: Manifest) -> MergeUnfinishedError:
    return MergeUnfinishedError(
        f"{manifest.directory}: a merge was interrupted and has to be repeated first; `memstore drain` does it"
    )


def _stands_for(manifest: Manifest, name: str) -> object:
    """What a name stands for: equal answers mean equal bytes; None where it counts no longer."""
    if name in manifest.day_files:
        return manifest.day_files[name]
    if name in manifest.packed:
        return manifest.packed[name]
    return manifest.trash.get(name)


def _note_torn(path: str, length: int) -> None:
    _log.warning("%s: cutting a torn tail of %d bytes", path, length)
