"""Erase: remove an agent, or single records, from every file of a store now, and prove it by a scan of all of them.

::

    drain, under the merge lock          all that was appended lies in files; lanes that stay are named as pending
    read what is to go                   a legal hold refuses here, before anything is changed
    note the intent in FORGOTTEN         from here on a crash does not undo the erasure: `Eraser.resume` goes on
    remove directories, rewrite files    under the agent's lock
    note the act in FORGOTTEN            caches of every process are stale
    bring the second copy to that        where there is one; one that is away is named as pending
    scan                                 without the merge lock: writers go on
    note the end in FORGOTTEN

What counts is what was there when the erasure began. Whatever is written later, of the same agent too, is in lanes that
were made after the drain, or was merged from them into a directory that was empty by then; the scan leaves it out.

An erasure ends at the store's directories. Backups that the store knows of are named (`erase_backups`); exports and
copies elsewhere have to be erased where they are; a
file that another process has open stays on the disk until it closes it. What a foreign program put below the root is
searched, and reported where it holds an erased line, and left to its owner.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager

from memstore.engine.engine import Engine
from memstore.errors import CorruptionError, HeldError, NotFoundError, UsageError
from memstore.format.forgotten import Erasure, ForgottenRecords, text_hash
from memstore.format.names import KEPT_SUFFIX, is_lane_name, lane_token
from memstore.fs.lock import locked
from memstore.ids import check_agent_id, parse_id
from memstore.lifecycle.commit import LOCK_WAIT_S, Committer, MergeUnfinishedError
from memstore.lifecycle.erase_agent import AgentPlaces, AgentRemoval, check_places, find_agent, readable_manifest
from memstore.lifecycle.erase_picker import Picked, Picker
from memstore.lifecycle.erase_proof import EraseJob, EraseProof
from memstore.lifecycle.erase_records import RecordRemoval
from memstore.lifecycle.erase_selection import Chosen, ChosenByHash, Everything, UpTo
from memstore.lifecycle.holds import HoldsFile
from memstore.lifecycle.needles import AgentLines, HashedLines, IdLines
from memstore.lifecycle.pack import Packer
from memstore.lifecycle.receipt import Pending, Receipt
from memstore.lifecycle.turn import own_turn
from memstore.manifest.index import Manifest
from memstore.timestamps import YEAR_10000_US

_log = logging.getLogger(__name__)
DRAIN_WAIT_S = 30.0
"""How long other processes get to seal their lanes; they look for it every second."""
Progress = Callable[[int, int], None]


class Eraser:
    """Erases. Thread-safe: locks exclude threads too.

    Args:
        engine: the store.
        committer: lets changes of files count.
        packer: writes files anew.
        holds: what may not be removed.
        drop_derived: see `Lifecycle`.
        settle_copy: see `Lifecycle`.
        drain_wait_s: how long other processes get to seal their lanes.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        committer: Committer,
        packer: Packer,
        holds: HoldsFile,
        drop_derived: Callable[[str | None], list[str]],
        settle_copy: Callable[[], str | None],
        drain_wait_s: float = DRAIN_WAIT_S,
    ) -> None:
        self._engine = engine
        self._storage = engine.storage
        self._committer = committer
        self._packer = packer
        self._holds = holds
        self._drop_derived = drop_derived
        self._drain_wait_s = drain_wait_s
        self._proof = EraseProof(engine, settle_copy=settle_copy)

    def erase_agent(self, agent: str, progress: Progress | None = None) -> Receipt:
        """Remove everything of an agent.

        Args:
            agent: whose.
            progress: told how many of all files the scan has looked at.

        Raises:
            UsageError: no agent can have this id.
            NotFoundError: there is nothing of this agent.
            HeldError: a legal hold covers one of its records; nothing was changed.
            LockedError: maintenance or a merge did not end in time; nothing was changed.
            StorageError: the disk refused. Where the intent was noted, the next maintenance goes on.
        """
        check_agent_id(agent)
        job = EraseJob(AgentLines(agent))
        with self._lifecycle_lock(), self._rebalance_lock():
            with self._drained(job):
                places = AgentPlaces.of(self._engine, agent)
                if places.are_empty() and not self._lanes_of(agent):
                    raise NotFoundError(f"there is nothing of an agent {agent!r}; nothing was erased")
                manifest = self._manifest_of(agent)
                picked = self._picker(job, keep_ids=False).pick(manifest, agent, Everything())
                self._check_unreadable(agent, manifest)
                job.at = self._begin_us(manifest)
                self._note_intent(job, {agent: []})
                self._remove_agent(job, agent, places, picked)
            return self._proof.finish(job, agent=agent, progress=progress)

    def erase_ids(self, ids: Iterable[str], progress: Progress | None = None) -> Receipt:
        """Remove single records, of one agent or of several.

        Args:
            ids: theirs; those that no record has are listed in the receipt.
            progress: told how many of all files the scan has looked at.

        Raises:
            UsageError: one is no id of this form.
            HeldError: a legal hold covers one of the records; nothing was changed.
            LockedError: maintenance or a merge did not end in time; nothing was changed.
            StorageError: the disk refused. Where the intent was noted, the next maintenance goes on.
        """
        by_agent: dict[str, list[str]] = {}
        for memory_id in dict.fromkeys(ids):
            by_agent.setdefault(parse_id(memory_id).agent_id, []).append(memory_id)
        listed = [memory_id for of_agent in by_agent.values() for memory_id in of_agent]
        if not listed:
            raise UsageError("no ids were given; nothing was erased")
        job = EraseJob(IdLines(listed))
        with self._lifecycle_lock(), self._rebalance_lock():
            with self._drained(job):
                picker = self._picker(job)
                picks = {agent: self._pick_ids(job, picker, agent, wanted) for agent, wanted in by_agent.items()}
                job.at = self._engine.clock.now_us()
                self._note_intent(job, by_agent)
                for agent, picked in picks.items():
                    self._remove_records(job, picked, wanted=by_agent[agent])
            found = {memory_id for picked in picks.values() for memory_id in (*picked.ids, *picked.named)}
            not_found = tuple(memory_id for memory_id in listed if memory_id not in found)
            return self._proof.finish(job, ids=len(listed), not_found=not_found, progress=progress)

    def resume(self, progress: Progress | None = None) -> list[Receipt]:
        """Carry out erasures that were begun and interrupted; the caller holds the lifecycle lock.

        What an agent has written since its erasure began stays. One that a hold forbids by now waits for it to go.

        Raises:
            LockedError: a merge did not end in time.
            StorageError: the disk refused; the next call goes on.
        """
        begun: dict[str, list[Erasure]] = {}
        for entry in self._engine.forgotten.entries():
            if entry.erasure is not None:
                begun.setdefault(entry.erasure.id, []).append(entry.erasure)
            elif entry.erased is not None:
                begun.pop(entry.erased.id, None)
        receipts: list[Receipt] = []
        for intent, erasures in begun.items():
            _log.info("an erasure that was interrupted is carried out: %s", intent)
            try:
                receipts.append(self._resume(intent, erasures, progress))
            except HeldError as error:
                _log.warning("an erasure that was begun waits: %s", error)
        return receipts

    def _resume(self, intent: str, erasures: Sequence[Erasure], progress: Progress | None) -> Receipt:
        job = EraseJob(HashedLines({each.agent: each.ids for each in erasures}), at=erasures[0].at, intent=intent)
        agent = None
        with self._rebalance_lock():
            with self._drained(job):
                found = [(each, *find_agent(self._engine, each.agent)) for each in erasures]
                removals = [self._prepared(job, *each) for each in found]  # a hold refuses here
                for remove in removals:
                    remove()
                for each, whose, _ in found:
                    agent = None if each.ids else whose
                    self._note_act(each.agent, 0)
            ids = sum(len(each.ids) for each in erasures)
            return self._proof.finish(job, agent=agent, ids=ids, progress=progress)

    def _prepared(self, job: EraseJob, erasure: Erasure, agent: str | None, name: str | None) -> Callable[[], None]:
        """What has to be done for an erasure that was interrupted; nothing has been changed when this returns."""
        if name is None or (agent is None and erasure.ids):
            # All of it is gone, but for what may have been made of it before.
            return lambda: job.traces.removed.extend(self._drop_derived(None))
        places = AgentPlaces(self._engine, name)
        if agent is None:
            return lambda: self._remove_agent(job, None, places, Picked(""))
        manifest = self._manifest_of(agent)
        self._check_unreadable(agent, manifest)
        if erasure.ids:
            picked = self._picker(job).pick(manifest, agent, ChosenByHash(erasure.ids))
            return lambda: self._remove_records(job, picked)
        if manifest is None or _newest_us(manifest) <= erasure.at:
            everything = self._picker(job, keep_ids=False).pick(manifest, agent, Everything())
            return lambda: self._remove_agent(job, agent, places, everything)
        old = self._picker(job).pick(manifest, agent, UpTo(erasure.at, late=erasure.late))

        def remove() -> None:
            self._remove_records(job, old)
            job.emptied = places

        return remove

    # -- before anything is changed

    def _lifecycle_lock(self) -> AbstractContextManager[None]:
        return own_turn(self._storage, self._engine.paths)

    def _rebalance_lock(self) -> AbstractContextManager[None]:
        """No agent is moved from a directory that is still to be scanned into one that was."""
        return locked(self._storage, self._engine.paths.lock("rebalance"), timeout_s=LOCK_WAIT_S)

    @contextmanager
    def _drained(self, job: EraseJob) -> Iterator[None]:
        """Hold the merge lock, with everything merged that can be."""
        check_places(self._engine)
        with locked(self._storage, self._engine.paths.lock("merge"), timeout_s=LOCK_WAIT_S):
            job.lanes = self._lane_tokens()
            self._engine.drain_locked(timeout_s=self._drain_wait_s)
            job.late = not job.lanes.isdisjoint(self._lane_tokens())
            self._engine.lanes.refresh()  # which closes those that are gone
            yield

    def _lane_tokens(self) -> frozenset[str]:
        names = [entry.name for entry in self._storage.list_directory(self._engine.paths.lanes)]
        return frozenset(lane_token(name) for name in names if is_lane_name(name))

    def _picker(self, job: EraseJob, *, keep_ids: bool = True) -> Picker:
        return Picker(self._engine, self._holds.load(), job.traces.hashes, keep_ids=keep_ids)

    def _pick_ids(self, job: EraseJob, picker: Picker, agent: str, ids: Sequence[str]) -> Picked:
        try:
            manifest = self._engine.builder.manifest(agent)
            error = None if manifest is None else manifest.damage()
        except CorruptionError as damage:
            manifest, error = None, damage
        if error is not None:
            self._refuse_in_doubt(agent, error)
            job.traces.pending.append(Pending(error.path, f"it is damaged ({error.reason}), and what it lists unknown"))
            return Picked(agent)
        return picker.pick(manifest, agent, Chosen(ids))

    def _manifest_of(self, agent: str) -> Manifest | None:
        """What the agent's MANIFEST says; None where it has none, or where it does not verify."""
        for home in self._engine.catalog.state.homes(agent):
            manifest = readable_manifest(self._storage, home)
            if manifest is not None:
                return manifest
        return None

    def _check_unreadable(self, agent: str, manifest: Manifest | None) -> None:
        """See that no hold covers an agent of whose records nobody can tell."""
        if manifest is None and AgentPlaces.of(self._engine, agent).homes:
            self._refuse_in_doubt(agent, None)
        elif manifest is not None and manifest.damaged:
            self._refuse_in_doubt(agent, manifest.damage())

    def _refuse_in_doubt(self, agent: str, error: CorruptionError | None) -> None:
        names = self._holds.load().names_over(agent, 0, YEAR_10000_US)
        if names:
            why = "no MANIFEST of it can be read" if error is None else str(error)
            raise HeldError(
                f"hold {', '.join(names)} may cover records of {agent}: {why}. Nothing was erased; repair it or remove "
                "the hold first"
            )

    def _begin_us(self, manifest: Manifest | None) -> int:
        """Now; never before what the agent has, should the clock have been set back."""
        now_us = self._engine.clock.now_us()
        return now_us if manifest is None else max(now_us, _newest_us(manifest))

    def _note_intent(self, job: EraseJob, by_agent: Mapping[str, Sequence[str]]) -> None:
        self._engine.catalog.raise_version()
        job.intent = secrets.token_hex(8)
        for agent, ids in by_agent.items():
            hashes = [text_hash(each) for each in ids]
            self._engine.forgotten.note(
                Erasure(id=job.intent, at=job.at, agent=text_hash(agent), ids=hashes, late=job.late)
            )

    # -- what is changed

    def _remove_copies(self, job: EraseJob, agent: str | None) -> None:
        """What holds copies of an agent's lines, or words of them, beside its own files; None: of anybody's."""
        job.traces.removed += self._engine.consumers.give_up_agent(agent)
        job.traces.removed += self._drop_derived(agent)

    def _remove_agent(self, job: EraseJob, agent: str | None, places: AgentPlaces, picked: Picked) -> None:
        self._remove_copies(job, agent)
        removal = AgentRemoval(self._engine, places, job.traces)
        kept = [] if agent is None else self._lanes_of(agent, suffix=KEPT_SUFFIX)
        directories = [*places.homes, places.archive]
        if agent is not None and kept:
            removal.empty(agent, kept)
        else:
            removal.remove()
        job.traces.removed += self._drop_derived(agent)  # what was made since of what was still there
        job.traces.records += picked.count
        job.emptied = places
        if agent is not None:
            self._engine.read_notes.forget(agent)
            self._note_act(text_hash(agent), picked.count)
        self._let_go(directories)

    def _remove_records(self, job: EraseJob, picked: Picked, *, wanted: Sequence[str] = ()) -> None:
        self._remove_copies(job, picked.agent)
        places = AgentPlaces.of(self._engine, picked.agent)
        if places.homes or picked.lanes:
            try:
                with self._committer.homed_agent(picked.agent) as held:
                    RecordRemoval(self._engine, self._committer, self._packer, job.traces).remove(
                        held, picked, at_us=self._engine.clock.now_us(), wanted=wanted
                    )
            except CorruptionError as error:
                job.traces.pending.append(Pending(error.path, f"it is damaged ({error.reason}); repair it first"))
            except MergeUnfinishedError as error:
                job.traces.pending.append(Pending(self._engine.paths.lanes, str(error)))
        AgentRemoval(self._engine, places, job.traces).remove_copies()
        job.traces.removed += self._drop_derived(picked.agent)
        self._note_act(text_hash(picked.agent), len(picked.ids))
        self._let_go([*places.homes, places.archive])

    def _note_act(self, agent_hash: str, records: int) -> None:
        self._engine.forgotten.note(
            ForgottenRecords(at=self._engine.clock.now_us(), act="erase", agent=agent_hash, records=records)
        )

    def _let_go(self, directories: Iterable[str]) -> None:
        """Nothing that was erased stays in memory or open in this process."""
        self._engine.reader.clear_caches()
        for directory in directories:
            self._engine.pieces.drop_under(directory)
            self._packer.drop_under(directory)

    def _lanes_of(self, agent: str, suffix: str = "") -> list[str]:
        """Tokens of the lanes that hold something of an agent."""
        kept = {lane_token(name) for name in self._engine.lanes.names() if name.endswith(suffix)}
        lanes = self._engine.lanes.refresh()
        return [lane.token for lane in lanes if lane.token in kept and lane.agent_slices(agent).slices]


def _newest_us(manifest: Manifest) -> int:
    """When the youngest record of an agent reached its files."""
    packed = (*manifest.packed.values(), *(trashed.packed for trashed in manifest.trash.values()))
    return max((*manifest.ingested.values(), *(each.ingested for each in packed)), default=0)
