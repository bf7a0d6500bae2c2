"""What operators ask of a store: tiers, retention, holds, forgetting, erasing, checks. A part of `MemStore`."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import Any

from memstore.backup.create import create_backup
from memstore.backup.keeping import KeepPolicy
from memstore.backup.part import restore_part
from memstore.backup.points import BackupInfo, list_backups
from memstore.backup.prune import PruneReport, prune_backups
from memstore.backup.registry import Registration
from memstore.backup.report import BackupReport, RestoreReport
from memstore.backup.verify import VerifyReport, verify_backup
from memstore.engine.engine import Engine
from memstore.errors import UsageError
from memstore.filters import TimeArgument, TypeArgument, build_filter
from memstore.format.holds_file import Hold
from memstore.ids import check_agent_id
from memstore.lifecycle.action import Action
from memstore.lifecycle.forget import ForgetReport, UndeleteReport
from memstore.lifecycle.lifecycle import Lifecycle
from memstore.lifecycle.maintain_report import MaintainReport
from memstore.lifecycle.manager import ALL_PARTS, Part
from memstore.lifecycle.receipt import Receipt
from memstore.lifecycle.tiers import tier_figures
from memstore.ops.check import check_store
from memstore.ops.check_copy import check_copy
from memstore.ops.check_index import check_index
from memstore.ops.finding import Finding
from memstore.ops.report import CheckReport
from memstore.record import MemoryType
from memstore.timestamps import YEAR_10000_US, parse_time

Progress = Callable[[int, int], None]


class Caretaking:
    """The part of `MemStore` that looks after what is stored. Thread-safe."""

    _engine: Engine
    _lifecycle: Lifecycle

    def plan(self, now: TimeArgument | None = None) -> list[Action]:
        """What `maintain` would do, without doing anything: merges aside, a list of actions that say it in words.

        Args:
            now: the moment to plan for, now unless given.

        Raises:
            UsageError: the moment has passed.
            CorruptionError: HOLDS.json is damaged, so that nobody can tell what may be removed.
        """
        self._engine.check_open()
        return self._lifecycle.manager.plan(self._time(now))

    def maintain(
        self,
        now: TimeArgument | None = None,
        *,
        time_limit_s: float | None = None,
        trust_clock: bool = False,
        progress: Progress | None = None,
        parts: Iterable[Part] = ALL_PARTS,
    ) -> MaintainReport:
        """Merge, pack, fold late records in, remove what retention says, clean up. Reads and writes go on meanwhile.

        Can be stopped anywhere and called again; several processes may call it, and one of them does the work.

        Args:
            now: the moment to act for, now unless given. For more than a day ahead of the clock nothing is removed by
                age.
            time_limit_s: begin nothing after so many seconds; the next call goes on.
            trust_clock: remove by age even though the clock has jumped, or for a moment ahead of it.
            progress: told how many actions are done, and how many there are.
            parts: of ``tiers``, ``retention`` and ``growth``, what to look after; all of them unless given.

        Raises:
            UsageError: the moment has passed.
            CorruptionError: HOLDS.json is damaged.
        """
        self._engine.check_writable()
        return self._lifecycle.manager.maintain(
            self._time(now),
            time_limit_s=time_limit_s,
            trust_clock=trust_clock,
            progress=progress,
            parts=frozenset(parts),
        )

    def forget(self, memory_ids: str | Iterable[str]) -> ForgetReport:
        """Hide records at once, from every process; they are gone for good when their file is next rewritten.

        Until then `undelete` brings them back. A record that was imported and forgotten is not imported again.

        Raises:
            UsageError: one is no id of this form.
            HeldError: a legal hold covers one of them; nothing was hidden.
        """
        self._engine.check_writable()
        return self._lifecycle.forgetter.forget(memory_ids)

    def undelete(self, *, agent: str | None = None, ids: str | Iterable[str] | None = None) -> UndeleteReport:
        """Bring back what was forgotten or expired, of one agent or by id, while it is still there.

        What retention took gets a hold, so that it is not taken again at the next run.

        Raises:
            UsageError: neither or both are given.
            NotFoundError: the agent has nothing that could be brought back.
        """
        self._engine.check_writable()
        if (agent is None) == (ids is None):
            raise UsageError("give an agent, or ids")
        if agent is not None:
            return self._lifecycle.forgetter.undelete_agent(check_agent_id(agent))
        return self._lifecycle.forgetter.undelete_ids(ids or ())

    def erase(
        self,
        *,
        agent: str | None = None,
        ids: str | Iterable[str] | None = None,
        progress: Progress | None = None,
    ) -> Receipt:
        """Remove an agent, or single records, from every file of the store, now, and prove it by a scan of all of them.

        Cannot be undone. Backups are outside of it: the receipt names those that the store knows of. A restore from
        them leaves out what was erased, and the bytes go when they are pruned.

        Returns:
            What was removed, where, how it was proved, and what is still pending and why.

        Raises:
            UsageError: neither or both are given, or one is no id of this form.
            NotFoundError: there is no such agent.
            HeldError: a legal hold covers one of the records; nothing was changed.
        """
        self._engine.check_writable()
        if (agent is None) == (ids is None):
            raise UsageError("give an agent, or ids")
        if agent is not None:
            return self._lifecycle.eraser.erase_agent(check_agent_id(agent), progress)
        return self._lifecycle.eraser.erase_ids([ids] if isinstance(ids, str) else list(ids or ()), progress)

    def add_hold(
        self,
        name: str,
        *,
        agent: str | None = None,
        ids: Iterable[str] | None = None,
        memory_type: TypeArgument | None = None,
        since: TimeArgument | None = None,
        until: TimeArgument | None = None,
        reason: str = "",
    ) -> Hold:
        """Forbid to remove records, by retention, forgetting or erasing, until the hold is removed.

        Args:
            name: unique in the store.
            agent: an agent id or a pattern; every agent unless given.
            ids: these records only.
            memory_type: records of this type, or of one of these.
            since: records from this time on.
            until: records before this time.
            reason: for people.

        Raises:
            UsageError: the name is taken, or the hold could cover nothing.
        """
        self._engine.check_writable()
        types = [memory_type] if isinstance(memory_type, str) else list(memory_type or ())
        return self._lifecycle.holds.add(
            Hold(
                name=name,
                at=self._engine.clock.now_us(),
                agent=agent,
                ids=tuple(ids or ()),
                memory_types=tuple(str(MemoryType(each)) if each in tuple(MemoryType) else str(each) for each in types),
                since_us=self._time(since) or 0,
                until_us=YEAR_10000_US if until is None else self._time(until) or 0,
                reason=reason,
            )
        )

    def remove_hold(self, name: str) -> Hold:
        """Remove a hold; what it covered may be removed again.

        Raises:
            NotFoundError: there is no hold of this name.
        """
        self._engine.check_writable()
        return self._lifecycle.holds.remove(name)

    def holds(self) -> list[Hold]:
        """The legal holds, oldest first."""
        self._engine.check_open()
        return list(self._lifecycle.holds.load())

    def tiers(self) -> dict[str, Any]:
        """Files, records and bytes by tier and agent; see `memstore.lifecycle.tiers.tier_figures`."""
        self._engine.check_open()
        return tier_figures(self._engine)

    def check(
        self,
        *,
        full: bool = False,
        copy: bool = False,
        progress: Progress | None = None,
        on_finding: Callable[[Finding], None] | None = None,
    ) -> CheckReport:
        """Whether the store is as it was written; everything goes on meanwhile, and nothing is changed.

        Args:
            full: read every byte, parse every record, compare every count; otherwise its structure only.
            copy: look at the second copy instead, and whether it has all that the store has.
            progress: told how much is done, and how much there is: bytes if ``full``, else lanes and agents; then
                the same of the search index, if there is one: bytes, else months.
            on_finding: told of each finding as it is made.

        Raises:
            NotFoundError: there is no second copy.
            StorageError: the root cannot be read. Damage is not raised but reported.
        """
        self._engine.check_open()
        engine = self._engine
        report = (check_copy if copy else check_store)(
            engine.storage, engine.paths, clock=engine.clock, full=full, progress=progress, on_finding=on_finding
        )
        if not copy:
            check_index(engine, report, progress=progress)
        return report

    def backup(
        self, destination: str | os.PathLike[str], *, anew: bool = False, progress: Progress | None = None
    ) -> BackupReport:
        """Take a backup into a directory while everything goes on; what has not changed since the last is not copied.

        From the first one on the store keeps its lanes until they are in the backup (up to
        ``merging.consumer_lag_bytes``), so that any moment between two backups can be restored.

        Args:
            destination: a directory of its own outside of the store; made if it is not there.
            anew: copy everything, as after damage was found in older backups.
            progress: told how many files are done, and how many there are.

        Raises:
            UsageError: the destination lies in the store, or holds something else, or another store's backups.
            LockedError: another backup is at work there.
            StorageFullError: there is no room; the backups that are there stay.
        """
        self._engine.check_writable()
        return create_backup(self._engine, os.fspath(destination), anew=anew, progress=progress)

    def backups(self, destination: str | os.PathLike[str]) -> list[BackupInfo]:
        """The backups in a directory, oldest first.

        Raises:
            NotFoundError: it holds no backups.
        """
        self._engine.check_open()
        return list_backups(self._engine.storage, os.fspath(destination))

    def verify_backup(
        self,
        destination: str | os.PathLike[str],
        point: str | None = None,
        *,
        scratch: str | os.PathLike[str] | None = None,
        compare: bool = False,
        progress: Progress | None = None,
    ) -> VerifyReport:
        """Restore a backup to a scratch directory, read every record of it, and count and compare them.

        Args:
            destination: where the backups are.
            point: the name of one; the newest unless given.
            scratch: a directory with room for a whole store; the backups' own unless given.
            compare: hold the records against those of this store, too.
            progress: told how many bytes are done, and how many there are.

        Raises:
            NotFoundError: there is no such backup.
            StorageFullError: there is no room for the scratch directory.
        """
        self._engine.check_open()
        return verify_backup(
            self._engine.storage,
            os.fspath(destination),
            clock=self._engine.clock,
            point=point,
            scratch=None if scratch is None else os.fspath(scratch),
            against=self._engine if compare else None,
            progress=progress,
        )

    def prune_backups(
        self,
        destination: str | os.PathLike[str],
        *,
        keep_daily: int = 7,
        keep_weekly: int = 4,
        keep_monthly: int = 12,
        dry_run: bool = False,
    ) -> PruneReport:
        """Remove old backups: of so many days, weeks and months the last one stays, and the newest of all.

        Lanes stay from the oldest of the daily ones on: any moment since then can be restored.

        Raises:
            NotFoundError: the directory holds no backups.
            LockedError: a backup is being taken there.
        """
        self._engine.check_open()
        return prune_backups(
            self._engine.storage,
            os.fspath(destination),
            KeepPolicy(daily=keep_daily, weekly=keep_weekly, monthly=keep_monthly),
            dry_run=dry_run,
            engine=self._engine,
        )

    def detach_backups(self, destination: str | os.PathLike[str]) -> bool:
        """Keep nothing for the backups in a directory any more, nor name it in receipts; whether anything was.

        For a directory that is gone for good: the store keeps lanes for it otherwise. Another backup there registers
        it again.
        """
        self._engine.check_writable()
        return Registration(self._engine, os.path.abspath(os.fspath(destination))).end()

    def restore_part(
        self,
        destination: str | os.PathLike[str],
        *,
        agent: str | Iterable[str] | None = None,
        since: TimeArgument | None = None,
        until: TimeArgument | None = None,
        memory_type: TypeArgument | None = None,
        at: TimeArgument | None = None,
        point: str | None = None,
        progress: Progress | None = None,
    ) -> RestoreReport:
        """Append what this store does not have of a part of a backup, under the ids that the records had.

        Doing it twice adds nothing. What this store has forgotten or erased stays out. `memstore.restore` brings back a
        whole store.

        Args:
            destination: where the backups are.
            agent: of one agent or of these; of all unless given.
            since: records from this time on.
            until: records before this time.
            memory_type: records of this type, or of one of these.
            at: as of this moment, be it between two backups; that of the backup unless given.
            point: the name of a backup; the newest that is not behind the moment unless given.
            progress: told how many agents are done, and how many there are.

        Raises:
            NotFoundError: there is no such backup, or it has no such agent.
            UsageError: the moment is still to come, or a filter is wrong.
            CorruptionError: a file of the backup is not what was backed up; nothing was appended.
        """
        self._engine.check_writable()
        return restore_part(
            self._engine,
            os.fspath(destination),
            wanted=build_filter(now_us=self._engine.clock.now_us(), since=since, until=until, memory_type=memory_type),
            agents=[agent] if isinstance(agent, str) else None if agent is None else list(agent),
            at_us=self._time(at),
            point=point,
            progress=progress,
        )

    def _time(self, value: TimeArgument | None) -> int | None:
        return None if value is None else parse_time(value, now_us=self._engine.clock.now_us())
