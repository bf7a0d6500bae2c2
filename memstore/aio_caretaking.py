"""What operators ask of a store, awaitable. A part of `AsyncMemStore`; arguments and errors: `memstore.caretaking`."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, TypeVar

from memstore.backup.points import BackupInfo
from memstore.backup.prune import PruneReport
from memstore.backup.report import BackupReport, RestoreReport
from memstore.backup.verify import VerifyReport
from memstore.caretaking import Progress
from memstore.filters import TimeArgument, TypeArgument
from memstore.format.holds_file import Hold
from memstore.lifecycle.action import Action
from memstore.lifecycle.forget import ForgetReport, UndeleteReport
from memstore.lifecycle.maintain_report import MaintainReport
from memstore.lifecycle.manager import ALL_PARTS, Part
from memstore.lifecycle.receipt import Receipt
from memstore.ops.finding import Finding
from memstore.ops.report import CheckReport
from memstore.store import MemStore

T = TypeVar("T")


class AsyncCaretaking:
    """The part of `AsyncMemStore` that looks after what is stored; each call runs in a thread."""

    _store: MemStore
    _call: Callable[..., Awaitable[Any]]

    async def plan(self, now: TimeArgument | None = None) -> list[Action]:
        """See `MemStore.plan`."""
        found: list[Action] = await self._call(self._store.plan, now)
        return found

    async def maintain(
        self,
        now: TimeArgument | None = None,
        *,
        time_limit_s: float | None = None,
        trust_clock: bool = False,
        progress: Progress | None = None,
        parts: Iterable[Part] = ALL_PARTS,
    ) -> MaintainReport:
        """See `MemStore.maintain`; ``progress`` is called from another thread."""
        report: MaintainReport = await self._call(
            lambda: self._store.maintain(
                now, time_limit_s=time_limit_s, trust_clock=trust_clock, progress=progress, parts=parts
            )
        )
        return report

    async def forget(self, memory_ids: str | Iterable[str]) -> ForgetReport:
        """See `MemStore.forget`."""
        report: ForgetReport = await self._call(self._store.forget, memory_ids)
        return report

    async def undelete(self, *, agent: str | None = None, ids: str | Iterable[str] | None = None) -> UndeleteReport:
        """See `MemStore.undelete`."""
        report: UndeleteReport = await self._call(lambda: self._store.undelete(agent=agent, ids=ids))
        return report

    async def erase(
        self,
        *,
        agent: str | None = None,
        ids: str | Iterable[str] | None = None,
        progress: Progress | None = None,
    ) -> Receipt:
        """See `MemStore.erase`; ``progress`` is called from another thread."""
        receipt: Receipt = await self._call(lambda: self._store.erase(agent=agent, ids=ids, progress=progress))
        return receipt

    async def add_hold(
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
        """See `MemStore.add_hold`."""
        hold: Hold = await self._call(
            lambda: self._store.add_hold(
                name, agent=agent, ids=ids, memory_type=memory_type, since=since, until=until, reason=reason
            )
        )
        return hold

    async def remove_hold(self, name: str) -> Hold:
        """See `MemStore.remove_hold`."""
        hold: Hold = await self._call(self._store.remove_hold, name)
        return hold

    async def holds(self) -> list[Hold]:
        """See `MemStore.holds`."""
        found: list[Hold] = await self._call(self._store.holds)
        return found

    async def tiers(self) -> dict[str, Any]:
        """See `MemStore.tiers`."""
        found: dict[str, Any] = await self._call(self._store.tiers)
        return found

    async def check(
        self,
        *,
        full: bool = False,
        copy: bool = False,
        progress: Progress | None = None,
        on_finding: Callable[[Finding], None] | None = None,
    ) -> CheckReport:
        """See `MemStore.check`; ``progress`` and ``on_finding`` are called from another thread."""
        report: CheckReport = await self._call(
            lambda: self._store.check(full=full, copy=copy, progress=progress, on_finding=on_finding)
        )
        return report

    async def backup(
        self, destination: str | os.PathLike[str], *, anew: bool = False, progress: Progress | None = None
    ) -> BackupReport:
        """See `MemStore.backup`; ``progress`` is called from another thread."""
        report: BackupReport = await self._call(lambda: self._store.backup(destination, anew=anew, progress=progress))
        return report

    async def backups(self, destination: str | os.PathLike[str]) -> list[BackupInfo]:
        """See `MemStore.backups`."""
        found: list[BackupInfo] = await self._call(self._store.backups, destination)
        return found

    async def verify_backup(
        self,
        destination: str | os.PathLike[str],
        point: str | None = None,
        *,
        scratch: str | os.PathLike[str] | None = None,
        compare: bool = False,
        progress: Progress | None = None,
    ) -> VerifyReport:
        """See `MemStore.verify_backup`; ``progress`` is called from another thread."""
        report: VerifyReport = await self._call(
            lambda: self._store.verify_backup(destination, point, scratch=scratch, compare=compare, progress=progress)
        )
        return report

    async def restore_part(
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
        """See `MemStore.restore_part`; ``progress`` is called from another thread."""
        report: RestoreReport = await self._call(
            lambda: self._store.restore_part(
                destination,
                agent=agent,
                since=since,
                until=until,
                memory_type=memory_type,
                at=at,
                point=point,
                progress=progress,
            )
        )
        return report

    async def prune_backups(
        self,
        destination: str | os.PathLike[str],
        *,
        keep_daily: int = 7,
        keep_weekly: int = 4,
        keep_monthly: int = 12,
        dry_run: bool = False,
    ) -> PruneReport:
        """See `MemStore.prune_backups`."""
        report: PruneReport = await self._call(
            lambda: self._store.prune_backups(
                destination,
                keep_daily=keep_daily,
                keep_weekly=keep_weekly,
                keep_monthly=keep_monthly,
                dry_run=dry_run,
            )
        )
        return report

    async def detach_backups(self, destination: str | os.PathLike[str]) -> bool:
        """See `MemStore.detach_backups`."""
        known: bool = await self._call(self._store.detach_backups, destination)
        return known
