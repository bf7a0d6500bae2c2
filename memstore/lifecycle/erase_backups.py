"""Which backups may still hold what an erasure removed: the store knows where its backups lie.

An erasure does not reach into them: they may be on a disk that is not here. A restore from them leaves out what was
erased; the bytes go when the backups are pruned.
"""

from __future__ import annotations

import os

from memstore.engine.engine import Engine
from memstore.errors import CorruptionError, StorageError
from memstore.format.backup_names import CONSUMER_PREFIX, point_time
from memstore.lifecycle.receipt import Pending

_STAYS = "a restore leaves out what was erased, and the bytes go when they are pruned"


def backups_before(engine: Engine, at_us: int) -> tuple[Pending, ...]:
    """The places of backups that were taken before a time and are, or may be, there.

    Args:
        engine: the store.
        at_us: when the erasure began.
    """
    found: list[Pending] = []
    for name in engine.consumers.names():
        if not name.startswith(CONSUMER_PREFIX):
            continue
        try:
            state = engine.consumers.read(name)
        except CorruptionError as error:
            found.append(Pending(error.path, "it does not verify, and where these backups lie is unknown"))
            continue
        content = {} if state is None else state.content.state
        destination, points = content.get("destination"), content.get("points", [])
        older = [point for point in points if (point_time(point) or 0) <= at_us]
        if not destination or not older:
            continue
        try:
            is_here = engine.storage.exists(destination)
            there = [point for point in older if engine.storage.exists(os.path.join(destination, point))]
        except StorageError:
            is_here, there = False, []
        if not is_here:
            found.append(Pending(destination, f"it is not here, and had {len(older)} backup(s) from before; {_STAYS}"))
        elif there:
            found.append(Pending(destination, f"it has {len(there)} backup(s) from before; {_STAYS}"))
    return tuple(found)
