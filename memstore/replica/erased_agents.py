"""Agents that the store has erased go from the copy; one that is missing there for no such reason stays here."""

from __future__ import annotations

import os

from memstore.engine.catalog import Catalog, check_shard_is_there
from memstore.engine.engine import Engine
from memstore.errors import CorruptionError, StorageError
from memstore.format.forgotten import text_hash
from memstore.format.names import MANIFEST, TRASH_DIRECTORY
from memstore.fs.atomic import make_one_directory
from memstore.fs.storage import Storage
from memstore.fs.trees import remove_tree
from memstore.ids import agent_directory
from memstore.manifest.reader import load_manifest
from memstore.replica.pass_report import PassState


def erased_agents(engine: Engine) -> dict[str, int]:
    """When each agent that was erased as a whole was erased last, by the hash of its id."""
    erased: dict[str, int] = {}
    for entry in engine.forgotten.entries():
        if entry.erasure is not None and not entry.erasure.ids:
            erased[entry.erasure.agent] = max(entry.erasure.at, erased.get(entry.erasure.agent, 0))
    return erased


def remove_erased(engine: Engine, catalog: Catalog, state: PassState) -> None:
    """Remove agents that were erased. One that is missing otherwise stays: the copy is then all there is of it.

    Args:
        engine: the store; its merge lock is held.
        catalog: the copy's.
        state: the pass, with every agent done.

    Raises:
        StorageError: a volume is not there or refused.
    """
    storage = engine.storage
    names = {agent_directory(agent) for agent in state.done}
    for shard in catalog.state.shard_paths.values():
        remove_tree(storage, os.path.join(shard, TRASH_DIRECTORY), last=MANIFEST)
        for entry in storage.list_directory(shard):
            if not entry.is_directory or entry.name.startswith(".") or entry.name in names:
                continue
            home = os.path.join(shard, entry.name)
            try:
                manifest = load_manifest(storage, home)
            except CorruptionError:
                continue
            if manifest is None or _is_there(engine, manifest.agent):
                continue
            if state.erased.get(text_hash(manifest.agent), -1) >= manifest.begun:
                _discard(storage, home)
                remove_tree(storage, catalog.state.archive_of(manifest.agent), last=MANIFEST)
                state.report.erased.add(manifest.agent)
                continue
            why = f"{manifest.agent!r} is missing in the store and was not erased; the second copy keeps it"
            state.report.failed.append((manifest.agent, StorageError(why)))


def _discard(storage: Storage, home: str) -> None:
    """Out of sight of every reader at once, then away."""
    trash = os.path.join(os.path.dirname(home), TRASH_DIRECTORY)
    make_one_directory(storage, trash)
    storage.rename(home, os.path.join(trash, os.path.basename(home)))
    storage.sync_directory(trash)
    storage.sync_directory(os.path.dirname(home))
    remove_tree(storage, trash, last=MANIFEST)


def _is_there(engine: Engine, agent: str) -> bool:
    """Whether the store has files of an agent; the merge lock is held, so it does not move."""
    homes = engine.catalog.reload().homes(agent)
    for home in homes:
        check_shard_is_there(engine.storage, os.path.dirname(home))
    return any(engine.storage.identify(os.path.join(home, MANIFEST)) is not None for home in homes)
