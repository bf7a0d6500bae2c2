"""Whether there is room on the disk for an action; and the ballast, which is given up where there is none else."""

from __future__ import annotations

import logging
import os

from memstore.engine.engine import Engine
from memstore.format.names import tier_of
from memstore.lifecycle.action import Action, Pack

_log = logging.getLogger(__name__)


class Room:
    """Asks the disk anew each time.

    Args:
        engine: the store.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    @property
    def reserve_bytes(self) -> int:
        """How much stays free whatever is done."""
        return self._engine.settings.storage.lifecycle.reserve_bytes

    def has(self, action: Action) -> bool:
        """Whether there is room for what an action writes."""
        return not action.needs_bytes or self.free_bytes(action) >= action.needs_bytes + self.reserve_bytes

    def free_bytes(self, action: Action) -> int:
        """Free space where the result goes."""
        return self._engine.storage.free_bytes(self._goes_to(action))

    def _goes_to(self, action: Action) -> str:
        """A directory of the file system that the result goes to."""
        storage, state = self._engine.storage, self._engine.catalog.state
        tier = action.tier if isinstance(action, Pack) else tier_of(next(iter(action.touched), ""))
        if tier == "cold":
            volume = self._engine.settings.storage.lifecycle.archive_volume
            # Before the first cold file is made there is no archive yet, only where it will be.
            for directory in (state.archive, volume if state.store.archive is None else None):
                if directory and storage.identify(directory) is not None:
                    return directory
        if action.agent:
            shard = os.path.dirname(state.homes(action.agent)[0])
            if storage.identify(shard) is not None:
                return shard
        return self._engine.paths.root

    def give_up_ballast(self, action: Action) -> bool:
        """Make room with the reserve that is kept for this; what the action frees restores it."""
        storage, path = self._engine.storage, self._engine.paths.ballast
        ballast = storage.identify(path)
        if ballast is None or action.frees_bytes <= 0:
            return False
        target = storage.identify(self._goes_to(action))
        if target is None or target.device != ballast.device:
            return False  # it would make room where none is needed
        if self.free_bytes(action) + ballast.size_bytes < action.needs_bytes:
            return False
        _log.warning("%s: the disk is nearly full; giving up the ballast to make room", path)
        storage.unlink(path)
        return self.free_bytes(action) >= action.needs_bytes
