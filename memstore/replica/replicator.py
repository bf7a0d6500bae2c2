"""Keeps the second copy up to date in the background, and brings one that was away up to date again.

A copy that fell behind joins in this order, and each step makes the next one true:

1. The state becomes ``joining``: every lane that is made from now on is mirrored.
2. A drain: writers give up the lanes that are not, and what was in them is merged.
3. Lanes that still stand are looked at: mirrored, or copied whole; one that is neither lets the joining fail for now.
4. One pass over all agents.
5. The state becomes ``ok``, unless somebody has noted ``behind`` since (the turn has moved).
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import msgspec

from memstore.engine.catalog import Catalog
from memstore.engine.engine import Engine
from memstore.engine.second_copy import Standing, last_commit_us, last_merge_us, standing_of
from memstore.errors import LockedError, MemstoreError, StorageError
from memstore.format.names import StorePaths, is_lane_name
from memstore.format.store_file import ReplicaEntry, ReplicaState, StoreFile
from memstore.fs.atomic import make_one_directory
from memstore.fs.lock import locked, try_lock_file
from memstore.replica.copied_state import mark_complete, note_last_commit
from memstore.replica.copy_agent import Anew
from memstore.replica.copy_store import StoreCopier
from memstore.replica.covered_lanes import cover
from memstore.replica.pass_report import PassReport

_log = logging.getLogger(__name__)
JOIN_DRAIN_S = 5.0
"""How long other processes get to give up lanes that are not mirrored; they look for it every second."""
WAIT_S = 60.0
"""How long those wait who must have it done now: an erasure, or a user who asked for it."""


@dataclass(frozen=True, slots=True)
class ReplicaReport:
    """What bringing the copy up to date came to.

    Attributes:
        state: of the copy now.
        copied: what was copied; None where the copy could not be reached.
        waiting: why it is not ``ok`` yet, for people.
    """

    state: ReplicaState
    copied: PassReport | None
    waiting: tuple[str, ...] = field(default=())


class Replicator:
    """One per open store that writes. Thread-safe; of all processes one at a time is at work.

    Args:
        engine: the store.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._storage = engine.storage
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._again = False
        self._stop = threading.Event()
        self._copier: StoreCopier | None = None
        self._told = ""

    def rejoin(self) -> None:
        """At the opening of a store: `catch_up`, if the copy is behind; what only waits goes with the next merge."""
        entry = self._engine.catalog.state.store.replica
        if entry is not None and entry.state != "ok":
            self.catch_up()

    def catch_up(self) -> None:
        """Bring the copy up to date in a thread of its own, where there is a copy. Returns at once."""
        engine = self._engine
        if engine.read_only or engine.catalog.reload().store.replica is None:
            return
        with self._lock:
            if self._stop.is_set():
                return
            self._again = True
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._work, name="memstore-replica", daemon=True)
                self._thread.start()

    def close(self) -> None:
        """Stop between two agents. Idempotent."""
        with self._lock:
            self._stop.set()
            thread = self._thread
        if thread is not None:
            thread.join()

    def forget_after_fork(self) -> None:
        """In a forked child: the thread is the parent's."""
        self._lock = threading.Lock()
        self._thread, self._stop, self._copier = None, threading.Event(), None

    def run(self, stop: Callable[[], bool] | None = None) -> ReplicaReport | None:
        """Bring the copy up to date now; None where there is none, or where somebody else is at it.

        Raises:
            StorageError: a volume refused; what was copied stays, and the next run goes on.
            LockedError: a merge did not end in time.
        """
        lock = try_lock_file(self._storage, self._engine.paths.lock("replica"))
        if lock is None:
            return None
        try:
            return self._run(stop or self._stop.is_set)
        finally:
            lock.close()

    def run_in_turn(self, *, anew: Anew | None = None) -> ReplicaReport | None:
        """Bring the copy to what the store is now, after whoever is at it: he may have passed what is new since.

        Args:
            anew: files of the copy that are damaged, and are to be copied whatever it says of them; see `AgentCopier`.

        Returns:
            What `run` gives; None where there is no copy.

        Raises:
            StorageError: as of `run`.
            LockedError: somebody else was at it for a minute, or a merge did not end in time.
        """
        with locked(self._storage, self._engine.paths.lock("replica"), timeout_s=WAIT_S):
            return self._run(self._stop.is_set, anew)

    def settle(self) -> str | None:
        """Bring the copy to what the store is now, for an erasure: why it could not be, or None."""
        try:
            report = self.run_in_turn()
        except MemstoreError as error:
            return str(error)
        return None if report is None or not report.waiting else "; ".join(report.waiting)

    def _work(self) -> None:
        while True:
            with self._lock:
                if not self._again or self._stop.is_set():
                    self._thread = None
                    return
                self._again = False
            try:
                report = self.run()
                told = "" if report is None else "; ".join(report.waiting)
            except MemstoreError as error:
                told = str(error)
            except Exception as error:  # noqa: BLE001 - logged; the thread goes on with the next request
                told = repr(error)
                _log.exception("the second copy could not be brought up to date")
            if told and told != self._told:
                _log.warning("the second copy is not up to date yet: %s", told)
            self._told = told

    def _run(self, stop: Callable[[], bool], anew: Anew | None = None) -> ReplicaReport | None:
        entry = self._engine.catalog.reload().store.replica
        if entry is None:
            return None
        standing = self._standing(entry)
        if standing != "copy":
            if entry.state != "behind":
                self._engine.mirroring.note_behind(why_not(entry, standing))
            return ReplicaReport("behind", None, (why_not(entry, standing),))
        # Held on the copy's side too: whoever makes it the store must not find it changed under his hands.
        lock = try_lock_file(self._storage, StorePaths(entry.path).lock("replica"))
        if lock is None:
            raise LockedError(f"{entry.path}: somebody is just making this copy the store, or at it from elsewhere")
        try:
            # It may have been left out, for it was empty, by a tool that copied the copy.
            make_one_directory(self._storage, StorePaths(entry.path).lanes)
            return self._bring_up_to_date(entry, stop, anew)
        except FileNotFoundError as error:
            raise StorageError(
                f"{error.filename or error}: it has gone in the middle of copying; is the volume there?"
            ) from error
        finally:
            lock.close()

    def _standing(self, entry: ReplicaEntry) -> Standing:
        engine = self._engine
        return standing_of(self._storage, entry, engine.catalog.state.store.id, root=engine.paths.root)

    def _bring_up_to_date(self, entry: ReplicaEntry, stop: Callable[[], bool], anew: Anew | None) -> ReplicaReport:
        standing = self._standing(entry)
        if standing != "copy":
            return ReplicaReport("behind", None, (why_not(entry, standing),))
        if entry.state != "ok":
            return self._join(entry, stop, anew)
        if self._copier is None or self._copier.root != entry.path or anew:  # a new one has seen nothing
            self._copier = StoreCopier(self._engine, entry.path)
        report = self._copier.run(stop, anew=anew)
        return ReplicaReport("ok", report, tuple(f"{agent}: {error}" for agent, error in report.failed))

    # -- joining

    def _join(self, entry: ReplicaEntry, stop: Callable[[], bool], anew: Anew | None) -> ReplicaReport:
        engine = self._engine
        if entry.state == "behind":
            entry = self._turn(entry, "joining") or entry
        state = engine.catalog.state
        newest = last_commit_us(self._storage, engine.paths, state.store) or last_merge_us(self._storage, state)
        engine.drain(timeout_s=JOIN_DRAIN_S)
        copy = StorePaths(entry.path)
        names = [e.name for e in self._storage.list_directory(engine.paths.lanes) if is_lane_name(e.name)]
        open_lanes = [name for name in sorted(names) if not self._is_covered(name, copy)]
        # A new one: what another saw of a copy that was away may not be there any more.
        self._copier = StoreCopier(engine, entry.path)
        report = self._copier.run(stop, anew=anew, joins=True)
        waiting = [f"{agent}: {error}" for agent, error in report.failed]
        waiting += [f"{name} is written by a process that has not taken notice of the copy yet" for name in open_lanes]
        if report.stopped:
            waiting.append("it was stopped")
        if waiting:
            return ReplicaReport("joining", report, tuple(waiting))
        note_last_commit(Catalog(self._storage, copy), newest)
        mark_complete(Catalog(self._storage, copy))
        if self._turn(entry, "ok") is None:
            return ReplicaReport("behind", report, ("it fell behind again meanwhile",))
        _log.info("the second copy at %s is up to date: it holds every acknowledged record", entry.path)
        return ReplicaReport("ok", report)

    def _turn(self, entry: ReplicaEntry, state: ReplicaState) -> ReplicaEntry | None:
        """Change the state, unless it has been changed since ``entry`` was read; the new entry."""
        at_us = self._engine.clock.now_us()
        wanted = ReplicaEntry(path=entry.path, state=state, since=at_us, turn=entry.turn + 1)
        found = self._engine.catalog.update(partial(_turned, before=entry, wanted=wanted)).store.replica
        return wanted if found == wanted else None

    def _is_covered(self, name: str, copy: StorePaths) -> bool:
        return cover(self._storage, name, lanes=self._engine.paths.lanes, copy_lanes=copy.lanes)


def why_not(entry: ReplicaEntry, standing: Standing) -> str:
    """Why nothing can be copied, for people."""
    if standing == "promoted":
        return f"{entry.path} was made the store by force: it is a copy no more"
    if standing == "foreign":
        return f"{entry.path} holds something that is no copy of this store, or its STORE.json is damaged"
    return f"{entry.path} is not there: mount its volume, or take it out with `memstore replica remove`"


def _turned(store: StoreFile, *, before: ReplicaEntry, wanted: ReplicaEntry) -> StoreFile:
    return msgspec.structs.replace(store, replica=wanted) if store.replica == before else store
