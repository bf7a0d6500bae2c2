"""Erase a whole agent: every directory that is its own goes, wherever it lies.

Its directory is renamed away first, so that it is gone for every reader at once, and is then deleted. A crash in
between leaves directories that are known by their names: the next run deletes them.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterable

from memstore.engine.engine import Engine
from memstore.engine.home import home_for_writing, move_to_trash
from memstore.errors import CorruptionError, StorageError
from memstore.format.forgotten import text_hash
from memstore.format.manifest import State, encode_manifest_header, encode_state
from memstore.format.names import INCOMING_DIRECTORY, MANIFEST, SHARD_LOCK, TRASH_DIRECTORY
from memstore.fs.atomic import replace_file, try_unlink
from memstore.fs.lock import HeldLocks
from memstore.fs.storage import Storage
from memstore.fs.trees import files_below, remove_tree
from memstore.ids import agent_directory, directory_agent
from memstore.lifecycle.erase_records import Traces
from memstore.manifest.index import Manifest
from memstore.manifest.reader import load_manifest


class AgentPlaces:
    """Where anything of one agent may lie, by the name of its directory.

    Args:
        engine: the store.
        name: of the agent's directory.
    """

    def __init__(self, engine: Engine, name: str) -> None:
        self._storage = engine.storage
        self._state = engine.catalog.reload()
        self.name = name

    @classmethod
    def of(cls, engine: Engine, agent: str) -> AgentPlaces:
        """The places of an agent."""
        return cls(engine, agent_directory(agent))

    @property
    def homes(self) -> list[str]:
        """Its directory in every shard, for it may have been left behind in one; those that are there."""
        shards = sorted(self._state.shard_paths.values())
        return [home for shard in shards if self._is_there(home := os.path.join(shard, self.name))]

    @property
    def archive(self) -> str:
        """Directory of its cold files; it need not be there."""
        return os.path.join(self._state.archive, self.name)

    @property
    def copies(self) -> list[str]:
        """What moves between volumes have left of it: in the trash of a shard, or half of it on its way in."""
        found: list[str] = []
        for shard in sorted(self._state.shard_paths.values()):
            for parent in (os.path.join(shard, TRASH_DIRECTORY), os.path.join(shard, INCOMING_DIRECTORY)):
                found += [os.path.join(parent, name) for name in _names(self._storage, parent) if self._is_copy(name)]
        return found

    def are_empty(self) -> bool:
        """Whether there is nothing of the agent."""
        return not (self.homes or self.copies or self._is_there(self.archive))

    def are_within(self, path: str) -> bool:
        """Whether a file lies in the agent's directory or its archive."""
        own = [os.path.join(shard, self.name) for shard in self._state.shard_paths.values()]
        return any(path.startswith(directory + os.sep) for directory in (*own, self.archive))

    def _is_copy(self, name: str) -> bool:
        return name.rpartition(".")[0] == self.name

    def _is_there(self, path: str) -> bool:
        return self._storage.identify(path) is not None


class AgentRemoval:
    """Removes what an agent has. The caller holds the lifecycle lock, the rebalance lock and the merge lock.

    Args:
        engine: the store.
        places: the agent's.
        traces: told what was done.
    """

    def __init__(self, engine: Engine, places: AgentPlaces, traces: Traces) -> None:
        self._engine = engine
        self._storage = engine.storage
        self._places = places
        self._traces = traces

    def remove(self) -> None:
        """Remove every directory of the agent, durably.

        Raises:
            StorageError: one could not be removed; the rest is gone, or goes at the next run.
        """
        homes = self._places.homes
        with HeldLocks(self._storage) as locks:
            for shard in sorted({os.path.dirname(home) for home in homes}):
                locks.take(os.path.join(shard, SHARD_LOCK))
            for home in homes:
                self._traces.removed += list(files_below(self._storage, home))
                move_to_trash(self._storage, home)
                self._engine.manifests.get(home)  # which forgets it
        self.remove_copies()
        self._traces.removed += list(files_below(self._storage, self._places.archive))
        remove_tree(self._storage, self._places.archive, last=MANIFEST)

    def remove_copies(self) -> None:
        """Remove what moves have left of the agent, durably. Raises as `remove`."""
        for copy in self._places.copies:
            remove_tree(self._storage, copy, last=MANIFEST)

    def empty(self, agent: str, tokens: Iterable[str]) -> None:
        """Like `remove`, but leave a MANIFEST that counts lanes as merged which cannot go, so that nobody reads them.

        Args:
            agent: whose directory it is.
            tokens: of the lanes.
        """
        with home_for_writing(self._storage, self._engine.catalog, agent) as home:
            known = readable_manifest(self._storage, home)
            at_us = self._engine.clock.now_us()
            state = State(at=at_us, next_version=1 if known is None else known.next_version, lanes=sorted(tokens))
            self._engine.catalog.raise_version()
            manifest = os.path.join(home, MANIFEST)
            header = encode_manifest_header(agent=agent, at=at_us, compaction_id=secrets.token_hex(8))
            replace_file(self._storage, manifest, header + encode_state(state))
            for path in list(files_below(self._storage, home)):
                if path != manifest:
                    try_unlink(self._storage, path)
                    self._traces.removed.append(path)
            trash = os.path.join(home, TRASH_DIRECTORY)
            remove_tree(self._storage, trash, last=MANIFEST)
            self._storage.sync_directory(home)
        self.remove_copies()
        self._traces.removed += list(files_below(self._storage, self._places.archive))
        remove_tree(self._storage, self._places.archive, last=MANIFEST)


def readable_manifest(storage: Storage, directory: str) -> Manifest | None:
    """What an agent's MANIFEST says; None where there is none or nobody can tell."""
    try:
        return load_manifest(storage, directory)
    except (CorruptionError, FileNotFoundError):
        return None


def find_agent(engine: Engine, agent_hash: str) -> tuple[str | None, str | None]:
    """Whose hash it is: the agent, and the name of its directory; None for what nobody can tell any more."""
    for agent in engine.inventory.agents(skip_damaged=True):
        if text_hash(agent) == agent_hash:
            return agent, agent_directory(agent)
    state = engine.catalog.state
    shards = list(state.shard_paths.values())
    trashes = [os.path.join(shard, TRASH_DIRECTORY) for shard in shards]
    incoming = [os.path.join(shard, INCOMING_DIRECTORY) for shard in shards]
    for parent in (*shards, state.archive, *trashes, *incoming):
        for entry in _names(engine.storage, parent):
            name = entry.rpartition(".")[0] if parent in trashes or parent in incoming else entry
            plain = directory_agent(name)
            if plain is not None and text_hash(plain) == agent_hash and agent_directory(plain) == name:
                return plain, name
            if plain is None and name.endswith(f"~{agent_hash}"):
                manifest = readable_manifest(engine.storage, os.path.join(parent, entry))
                return None if manifest is None else manifest.agent, name
    return None, None


def _names(storage: Storage, directory: str) -> list[str]:
    try:
        return sorted(entry.name for entry in storage.list_directory(directory))
    except FileNotFoundError:
        return []


def check_places(engine: Engine) -> None:
    """See that every shard and the archive are there: what lies on a volume that is not mounted cannot be erased.

    Raises:
        StorageError: one is missing; nothing was changed.
    """
    state = engine.catalog.reload()
    needed = [*state.shard_paths.values(), *([state.archive] if state.store.archive is not None else [])]
    for path in needed:
        if engine.storage.identify(path) is None:
            raise StorageError(
                f"{path} is missing, so what lies there cannot be erased; mount its volume, or restore it from a "
                "backup. Nothing was erased"
            )
