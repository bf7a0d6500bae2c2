"""The second copy of a store: given, looked at, taken away. A part of `MemStore`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from memstore.engine.engine import Engine
from memstore.ops.repair.repair_copy import repair_copy
from memstore.ops.repair.repair_report import RepairReport
from memstore.ops.repair.repair_step import RepairStep
from memstore.replica.replicator import Replicator
from memstore.replica.setup import add_replica, remove_replica
from memstore.replica.status import replica_status


class Replicating:
    """The part of `MemStore` that looks after the second copy. Thread-safe."""

    _engine: Engine
    _replicator: Replicator

    def add_replica(self, volume: str) -> dict[str, Any]:
        """Give the store a second copy on another volume: from now on an append is acknowledged once both have it.

        What is there already is copied before this returns; should it be stopped, the copying goes on in the
        background.

        Args:
            volume: a directory on another volume.

        Returns:
            What `replica_status` says.

        Raises:
            UsageError: there is a second copy already, or the directory cannot hold one.
            NotFoundError: the directory is not there.
            StorageError: a volume refused; `sync_replica` goes on.
        """
        add_replica(self._engine, volume)
        self._replicator.run_in_turn()
        return self.replica_status() or {}

    def remove_replica(self) -> str:
        """Write to the second copy no more; its root, where its files stay.

        Raises:
            UsageError: there is none.
        """
        return remove_replica(self._engine)

    def sync_replica(self) -> dict[str, Any]:
        """Bring the second copy up to date now, one that was away too; what `replica_status` says then.

        Raises:
            StorageError: a volume refused; the next call goes on.
            LockedError: another process was at it for a minute.
        """
        self._engine.check_writable()
        self._replicator.run_in_turn()
        return self.replica_status() or {}

    def repair_replica(
        self,
        *,
        plan_only: bool = False,
        progress: Callable[[int, int], None] | None = None,
        on_step: Callable[[RepairStep], None] | None = None,
    ) -> RepairReport:
        """Check the second copy, and copy once more from the store what is damaged or missing there.

        Args:
            plan_only: change nothing.
            progress: told how many bytes the checks have read, and of how many.
            on_step: told of each step before it is done.

        Raises:
            NotFoundError: there is no second copy.
            StorageError: a volume refused; what was mended stays so.
        """
        if plan_only:
            self._engine.check_open()
        else:
            self._engine.check_writable()
        return repair_copy(self._engine, self._replicator, plan_only=plan_only, progress=progress, on_step=on_step)

    def replica_status(self) -> dict[str, Any] | None:
        """State of the second copy, or None where there is none: see `memstore.replica.status`."""
        self._engine.check_open()
        return replica_status(self._engine)
