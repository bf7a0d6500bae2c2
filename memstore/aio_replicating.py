"""The second copy of a store, awaitable. A part of `AsyncMemStore`; arguments and errors: `memstore.replicating`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from memstore.ops.repair.repair_report import RepairReport
from memstore.ops.repair.repair_step import RepairStep
from memstore.store import MemStore


class AsyncReplicating:
    """The part of `AsyncMemStore` that looks after the second copy; each call runs in a thread."""

    _store: MemStore
    _call: Callable[..., Awaitable[Any]]

    async def add_replica(self, volume: str) -> dict[str, Any]:
        """See `MemStore.add_replica`."""
        found: dict[str, Any] = await self._call(self._store.add_replica, volume)
        return found

    async def remove_replica(self) -> str:
        """See `MemStore.remove_replica`."""
        root: str = await self._call(self._store.remove_replica)
        return root

    async def sync_replica(self) -> dict[str, Any]:
        """See `MemStore.sync_replica`."""
        found: dict[str, Any] = await self._call(self._store.sync_replica)
        return found

    async def repair_replica(
        self,
        *,
        plan_only: bool = False,
        progress: Callable[[int, int], None] | None = None,
        on_step: Callable[[RepairStep], None] | None = None,
    ) -> RepairReport:
        """See `MemStore.repair_replica`; ``progress`` and ``on_step`` are called from another thread."""
        report: RepairReport = await self._call(
            lambda: self._store.repair_replica(plan_only=plan_only, progress=progress, on_step=on_step)
        )
        return report

    async def replica_status(self) -> dict[str, Any] | None:
        """See `MemStore.replica_status`."""
        found: dict[str, Any] | None = await self._call(self._store.replica_status)
        return found
