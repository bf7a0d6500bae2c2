"""Agents that the second copy has and the store has lost with their MANIFESTs, of which nothing here may tell."""

from __future__ import annotations

import os

from memstore.engine.catalog import Catalog
from memstore.engine.engine import Engine
from memstore.engine.second_copy import standing_of
from memstore.errors import CorruptionError
from memstore.format.names import MANIFEST, StorePaths
from memstore.manifest.reader import load_manifest
from memstore.ops.layout import entries_of
from memstore.ops.removed_records import removed_records


def lost_agents(engine: Engine) -> dict[str, str]:
    """Where the directory of each such agent belongs, and whose it is; none where no copy has all that the store has.

    None either where the volume of a shard is not there: what lies on it is not lost.
    """
    state = engine.catalog.reload()
    entry = state.store.replica
    if entry is None or entry.state != "ok":
        return {}
    if standing_of(engine.storage, entry, state.store.id, root=engine.paths.root) != "copy":
        return {}
    here: set[str] = set()
    for shard in state.shard_paths.values():
        if engine.storage.identify(shard) is None:
            return {}
        names = [each.name for each in entries_of(engine.storage, shard) if each.is_directory]
        here.update(name for name in names if engine.storage.identify(os.path.join(shard, name, MANIFEST)) is not None)
    found: dict[str, str] = {}
    for shard in Catalog(engine.storage, StorePaths(entry.path)).state.shard_paths.values():
        for each in entries_of(engine.storage, shard):
            if each.is_directory and not each.name.startswith(".") and each.name not in here:
                agent = _agent_of(engine, os.path.join(shard, each.name))
                if agent is not None:
                    found[state.homes(agent)[0]] = agent
    return found


def _agent_of(engine: Engine, home: str) -> str | None:
    """Whose a directory of the copy is; None where nobody can tell, or where the agent was erased."""
    try:
        manifest = load_manifest(engine.storage, home)
    except CorruptionError:
        return None
    if manifest is None:
        return None
    removed = removed_records(engine.forgotten.entries(), manifest.agent)
    return None if removed.erased_until >= manifest.begun else manifest.agent
