"""The second copy of a store, awaitable. A part of `AsyncMemStore`; arguments and errors: `memstore.replicating`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

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

    async def replica_status(self) -> dict[str, Any] | None:
        """See `MemStore.replica_status`."""
        found: dict[str, Any] | None = await self._call(self._store.replica_status)
        return found
