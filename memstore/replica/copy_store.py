"""One pass over the store: every agent's files to the copy, then away with the copy's lanes that they hold.

The copy has its own lanes, written by the appenders before they acknowledge, so no lane of the store waits for it. A
lane of the copy goes when the store has merged it and every agent in it was seen, by this pass, with a MANIFEST that is
durable: at any moment the copy's files and its lanes together hold everything.

A MANIFEST is not believed while a lane that it cites still waits in the store: its merge may not be synced, and would
be done otherwise after a power cut. Most agents are copied without any lock; those met in the middle of a merge are
looked at again under the merge lock.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial

import msgspec

from memstore.engine.catalog import Catalog, check_shard_is_there
from memstore.engine.engine import Engine
from memstore.engine.lookup import find_lines
from memstore.engine.second_copy import lane_last_commit_us
from memstore.errors import CorruptionError, LockedError, MemstoreError, StorageError
from memstore.format.forgotten import text_hash
from memstore.format.lines import split_lines
from memstore.format.names import MANIFEST, TRASH_DIRECTORY, StorePaths, is_lane_name, lane_token
from memstore.format.store_file import StoreFile
from memstore.fs.atomic import TEMPORARY_PREFIX, read_file, replace_file, try_unlink
from memstore.fs.lock import locked, try_lock_file
from memstore.fs.trees import remove_tree
from memstore.fs.verified import read_listed
from memstore.ids import agent_directory, parse_id
from memstore.manifest.cache import ManifestCache
from memstore.manifest.index import Manifest
from memstore.manifest.reader import load_manifest
from memstore.record import decode_record
from memstore.replica.copy_agent import AgentCopier, Anew, make_one_directory
from memstore.wal.reader import LaneReader

_log = logging.getLogger(__name__)
AGENTS_PER_BATCH = 128
"""So many agents' files are synced together."""
MANIFEST_MEMORY_BYTES = 16 * 1024 * 1024
MERGE_WAIT_S = 60.0
_LOCK_POLL_S = 0.05


@dataclass(slots=True)
class PassReport:
    """What a pass did.

    Attributes:
        agents: how many were looked at.
        changed: how many had something new.
        bytes: copied.
        lanes: of the copy that went, for its files hold what was in them.
        failed: agents that could not be copied, and why.
        stopped: it was told to stop before the end.
        erased: agents that were removed, for the store erased them.
    """

    agents: int = 0
    changed: int = 0
    bytes: int = 0
    lanes: int = 0
    failed: list[tuple[str, MemstoreError]] = field(default_factory=list)
    stopped: bool = False
    erased: set[str] = field(default_factory=set)


class StoreCopier:
    """Used by one thread at a time, which holds the store's ``locks/replica``. Keeps in memory what it has seen.

    Args:
        engine: the store.
        root: of the copy.
    """

    def __init__(self, engine: Engine, root: str) -> None:
        self._engine = engine
        self._storage = engine.storage
        self._paths = StorePaths(root)
        self._manifests = ManifestCache(self._storage, bytes_max=MANIFEST_MEMORY_BYTES)
        self._seen: dict[str, tuple[bytes, int]] = {}
        self._cited: dict[str, set[str]] = {}

    @property
    def root(self) -> str:
        """Of the copy."""
        return self._paths.root

    def run(self, stop: Callable[[], bool], *, anew: Anew | None = None, joins: bool = False) -> PassReport:
        """Copy what is new.

        Args:
            stop: asked between two agents.
            anew: see `AgentCopier`; agents whose directories are named are looked at even if nothing of them is new.
            joins: the copy was away: its lanes may be so old that what was in them has gone from the store since.

        Raises:
            StorageError: a volume is not there or refused; what was copied stays, and the next pass goes on.
        """
        report = PassReport()
        catalog = Catalog(self._storage, self._paths)
        # The copy's lanes first: each was made in the store before it was made here, so what the store does not have
        # any more has been merged there, and the MANIFESTs that are read from now on say so.
        lanes = {lane_token(name): name for name in self._lane_names(self._paths.lanes)}
        merged = set(lanes) - self._waiting(kept=True)
        self._cited = {token: set() for token in merged}
        copier = AgentCopier(
            self._storage,
            source=self._engine.pieces,
            root=self._paths.root,
            catalog=catalog,
            tokens=frozenset(lanes),
            anew=anew or {},
            erased=self._erased(),
        )
        try:
            self._copy_small_files()
            forgotten = self._engine.forgotten.epoch()
            done: set[str] = set()
            doubtful = self._sweep(self._homes(), copier, report, done, stop)
            if doubtful and not report.stopped:
                with self._merge_lock(stop):
                    for directory in self._sweep(iter(doubtful), copier, report, done, stop):
                        why = f"{directory}: a merge that was stopped is still to be repeated"
                        report.failed.append((os.path.basename(directory), StorageError(why)))
            # Behind the MANIFESTs, and not beyond what they reflect: it tells the copy's readers that their caches are
            # stale.
            self._follow_forgotten(forgotten)
        finally:
            copier.close()
        report.bytes = copier.copied_bytes
        report.agents = len(done)
        if not report.stopped:
            with self._merge_lock(stop):
                erased = self._erased()
                self._remove_erased(catalog, erased, done, report)
                settled = done | report.erased
                gone = [
                    lanes[token]
                    for token in sorted(merged)
                    if self._is_copied(lanes[token], settled, erased, report)
                    and (joins or self._is_in_store(lanes[token], erased, report))
                ]
            self._remove_lanes(catalog, gone, report)
            self._remove_leftovers()
        return report

    @contextmanager
    def _merge_lock(self, stop: Callable[[], bool]) -> Iterator[None]:
        """Hold the merge lock; a process that is to end does not wait for it.

        Raises:
            LockedError: somebody else held it all the time, or it is time to stop.
        """
        path = self._engine.paths.lock("merge")
        pause, deadline_s = threading.Event(), self._engine.clock.monotonic_s() + MERGE_WAIT_S
        while (lock := try_lock_file(self._storage, path)) is None:
            if stop() or self._engine.clock.monotonic_s() >= deadline_s:
                raise LockedError(f"{path}: held by another process; the next pass goes on")
            pause.wait(_LOCK_POLL_S)
        try:
            yield
        finally:
            lock.close()

    # -- agents

    def _homes(self) -> Iterator[str]:
        """Directories of all agents of the store."""
        for shard in self._engine.catalog.reload().shard_paths.values():
            check_shard_is_there(self._storage, shard)
            for entry in self._storage.list_directory(shard):
                if entry.is_directory and not entry.name.startswith("."):
                    yield os.path.join(shard, entry.name)

    def _sweep(
        self,
        directories: Iterator[str],
        copier: AgentCopier,
        report: PassReport,
        done: set[str],
        stop: Callable[[], bool],
    ) -> list[str]:
        """Copy these agents; directories of those that were in the middle of something."""
        doubtful: list[str] = []
        batch: list[tuple[str, Manifest]] = []
        for directory in directories:
            if stop():
                report.stopped = True
                return doubtful
            try:
                manifest = self._manifests.get(directory)
            except CorruptionError as error:
                report.failed.append((os.path.basename(directory), error))
                continue
            if manifest is not None:
                batch.append((directory, manifest))
                for token in self._cited.keys() & manifest.merged.keys():
                    self._cited[token].add(manifest.agent)
            if len(batch) >= AGENTS_PER_BATCH:
                doubtful += self._copy_batch(batch, copier, report, done)
                batch = []
        return doubtful + self._copy_batch(batch, copier, report, done)

    def _copy_batch(
        self, batch: list[tuple[str, Manifest]], copier: AgentCopier, report: PassReport, done: set[str]
    ) -> list[str]:
        doubtful: list[str] = []
        fresh = [(d, m) for d, m in batch if self._seen.get(d) != (m.header, m.end) or m.end != m.identity.size_bytes]
        for directory, _ in fresh:
            self._sync_manifest(directory)
        # After the MANIFESTs were read: a lane that is not among these was synced into whatever cites it.
        waiting = self._waiting(kept=False)
        staged: list[tuple[str, Manifest]] = []
        fresh_directories = {directory for directory, _ in fresh}
        for directory, manifest in batch:
            if directory not in fresh_directories:
                done.add(manifest.agent)
                continue
            if manifest.end != manifest.identity.size_bytes or waiting & manifest.merged.keys():
                doubtful.append(directory)
                continue
            try:
                error = manifest.damage()
                if error is not None:
                    raise error
                report.changed += copier.stage(manifest)
                staged.append((directory, manifest))
            except FileNotFoundError:
                doubtful.append(directory)
            except CorruptionError as damage:
                _log.error("agent %r is not copied to the second copy: %s", manifest.agent, damage)
                report.failed.append((manifest.agent, damage))
        directories = {manifest.agent: directory for directory, manifest in staged}
        late = copier.finish(partial(self._hides_the_same, directories)) if copier.staged else set()
        for directory, manifest in staged:
            if manifest.agent in late:
                doubtful.append(directory)
                continue
            done.add(manifest.agent)
            self._seen[directory] = (manifest.header, manifest.end)
        return doubtful

    def _hides_the_same(self, directories: dict[str, str], agent: str, hidden: frozenset[str]) -> bool:
        try:
            manifest = self._manifests.get(directories[agent])
        except CorruptionError:
            return False
        return manifest is not None and manifest.hidden.ids == hidden

    def _sync_manifest(self, directory: str) -> None:
        """What a killed process wrote last may not be on disk yet; the copy must not be ahead of the store."""
        try:
            file = self._storage.open_update(os.path.join(directory, MANIFEST))
        except FileNotFoundError:  # it moves; its files will not be found, and it is looked at again
            return
        try:
            file.sync_data()
        finally:
            file.close()

    def _erased(self) -> dict[str, int]:
        """When each agent that was erased as a whole was erased last, by the hash of its id."""
        erased: dict[str, int] = {}
        for entry in self._engine.forgotten.entries():
            if entry.erasure is not None and not entry.erasure.ids:
                erased[entry.erasure.agent] = max(entry.erasure.at, erased.get(entry.erasure.agent, 0))
        return erased

    def _remove_erased(self, catalog: Catalog, erased: dict[str, int], done: set[str], report: PassReport) -> None:
        """Remove agents that were erased. One that is missing otherwise stays: the copy is then all there is of it."""
        names = {agent_directory(agent) for agent in done}
        for shard in catalog.state.shard_paths.values():
            remove_tree(self._storage, os.path.join(shard, TRASH_DIRECTORY), last=MANIFEST)
            for entry in self._storage.list_directory(shard):
                if not entry.is_directory or entry.name.startswith(".") or entry.name in names:
                    continue
                home = os.path.join(shard, entry.name)
                try:
                    manifest = load_manifest(self._storage, home)
                except CorruptionError:
                    continue
                if manifest is None or self._is_there(manifest.agent):
                    continue
                if erased.get(text_hash(manifest.agent), -1) >= manifest.begun:
                    self._discard(home)
                    remove_tree(self._storage, catalog.state.archive_of(manifest.agent), last=MANIFEST)
                    report.erased.add(manifest.agent)
                    continue
                why = f"{manifest.agent!r} is missing in the store and was not erased; the second copy keeps it"
                report.failed.append((manifest.agent, StorageError(why)))

    def _discard(self, home: str) -> None:
        """Out of sight of every reader at once, then away."""
        trash = os.path.join(os.path.dirname(home), TRASH_DIRECTORY)
        make_one_directory(self._storage, trash)
        self._storage.rename(home, os.path.join(trash, os.path.basename(home)))
        self._storage.sync_directory(trash)
        self._storage.sync_directory(os.path.dirname(home))
        remove_tree(self._storage, trash, last=MANIFEST)

    def _is_there(self, agent: str) -> bool:
        """Whether the store has files of an agent; the merge lock is held, so it does not move."""
        homes = self._engine.catalog.reload().homes(agent)
        for home in homes:
            check_shard_is_there(self._storage, os.path.dirname(home))
        return any(self._storage.identify(os.path.join(home, MANIFEST)) is not None for home in homes)

    # -- lanes

    def _lane_names(self, directory: str) -> list[str]:
        return sorted(e.name for e in self._storage.list_directory(directory) if is_lane_name(e.name))

    def _waiting(self, *, kept: bool) -> set[str]:
        """Tokens of the store's lanes that are not merged; with those that are kept for repair, if asked."""
        names = self._lane_names(self._engine.paths.lanes)
        return {lane_token(name) for name in names if kept or name.endswith(".lane")}

    def _is_copied(self, name: str, settled: set[str], erased: dict[str, int], report: PassReport) -> bool:
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
            return not report.failed
        return all(agent in settled or text_hash(agent) in erased for agent in agents)

    def _is_in_store(self, name: str, erased: dict[str, int], report: PassReport) -> bool:
        """Whether the store has what is in a lane of the copy, which it has no more; the merge lock is held.

        A lane that was merged is cited by its agents for an hour. Of one that is cited no more, or was lost unmerged,
        the records themselves are looked for: the copy may be the only one that has them.
        """
        token = lane_token(name)
        reader = LaneReader(self._storage.open_read(os.path.join(self._paths.lanes, name)), token)
        try:
            reader.refresh()
            agents = reader.agents() - self._cited[token]
        except CorruptionError:  # nobody can tell what is in it
            return True
        missing = sum(self._missing_of(agent, reader) for agent in agents if text_hash(agent) not in erased)
        if missing:
            why = f"{missing} record(s) of it are not in the store, which has lost this lane; the second copy keeps it"
            report.failed.append((name, StorageError(why)))
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

    def _remove_lanes(self, catalog: Catalog, names: list[str], report: PassReport) -> None:
        if not names:
            return
        paths = [os.path.join(self._paths.lanes, name) for name in names]
        newest = max(lane_last_commit_us(self._storage, path) for path in paths)
        note_last_commit(catalog, newest)
        for path in paths:
            report.lanes += try_unlink(self._storage, path)
        self._storage.sync_directory(self._paths.lanes)

    def _remove_leftovers(self) -> None:
        """Mirrors that killed processes had begun to make, which they do under this lock."""
        with locked(self._storage, self._paths.lock("store")):
            for entry in self._storage.list_directory(self._paths.lanes):
                if entry.name.startswith(TEMPORARY_PREFIX):
                    try_unlink(self._storage, os.path.join(self._paths.lanes, entry.name))

    # -- the rest

    def _copy_small_files(self) -> None:
        """Holds first: they forbid what the MANIFESTs would allow."""
        ours = self._engine.paths
        for source, target in (
            (ours.holds, self._paths.holds),
            (ours.lifecycle_state, self._paths.lifecycle_state),
        ):
            data = read_file(self._storage, source)
            if data is None:
                if try_unlink(self._storage, target):
                    self._storage.sync_directory(self._paths.root)
            elif data != read_file(self._storage, target):
                replace_file(self._storage, target, data)

    def _follow_forgotten(self, end: int) -> None:
        """Append what the store's FORGOTTEN has up to a length; the file is never replaced while it agrees.

        It may be longer by now: notes of forgetting get there by themselves.
        """
        with locked(self._storage, self._paths.lock("store")):
            ours = read_file(self._storage, self._engine.paths.forgotten) or b""
            data, there = ours[:end], read_file(self._storage, self._paths.forgotten) or b""
            if there.startswith(data) and ours.startswith(there):
                return
            if not data.startswith(there):
                replace_file(self._storage, self._paths.forgotten, data)
                return
            file = self._storage.open_write(self._paths.forgotten)
            try:
                file.write(data[len(there) :], len(there))
                file.sync_data()
            finally:
                file.close()
            self._storage.sync_directory(self._paths.root)


def note_last_commit(catalog: Catalog, newest_us: int) -> None:
    """Say in the copy's STORE.json how young its files are; what is in lanes says so itself."""

    def change(store: StoreFile) -> StoreFile:
        copy = store.copy_of
        if copy is None or copy.last_commit >= newest_us:
            return store
        return msgspec.structs.replace(store, copy_of=msgspec.structs.replace(copy, last_commit=newest_us))

    catalog.update(change)
