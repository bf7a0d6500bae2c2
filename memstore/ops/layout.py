"""Where everything of a store lies, also where STORE.json cannot say: then the directories below the root do."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field

from memstore.engine.catalog import agent_homes
from memstore.engine.vacant_root import holds_anything
from memstore.errors import CorruptionError, NotFoundError, StorageError
from memstore.format.names import StorePaths, shard_name
from memstore.format.store_file import StoreFile, decode_store_file
from memstore.fs.atomic import read_file
from memstore.fs.storage import DirectoryEntry, Storage
from memstore.ids import agent_directory

_SHARD = re.compile(r"shard_(\d{3,})")


@dataclass(frozen=True, slots=True)
class Layout:
    """What a store's root says about itself.

    Attributes:
        store: content of STORE.json; None where it is missing or does not verify.
        error: why; None where it does.
        shards: directory of each shard by index.
        archive: directory under which each agent has one for its cold files.
    """

    store: StoreFile | None
    error: CorruptionError | None
    shards: dict[int, str] = field(default_factory=dict)
    archive: str = ""

    def homes(self, agent: str) -> list[str]:
        """Directories where the agent may be; every shard where STORE.json cannot say."""
        if self.store is None:
            return [os.path.join(path, agent_directory(agent)) for path in self.shards.values()]
        return agent_homes(self.store, self.shards, agent)

    def archive_of(self, agent: str) -> str:
        """Directory of the agent's cold files."""
        return os.path.join(self.archive, agent_directory(agent))


def read_layout(storage: Storage, paths: StorePaths) -> Layout:
    """What stands at a root.

    Raises:
        NotFoundError: no store.
        VersionError: written by a newer format.
        StorageError: STORE.json cannot be read.
    """
    data = read_file(storage, paths.store_file)
    if data is None:
        error = CorruptionError(paths.store_file, offset_bytes=0, length_bytes=0, reason="it is missing", records=0)
        layout = _from_directories(storage, paths, error)
        # No store, or one whose making was cut off: its file comes last.
        if not holds_anything(storage, paths):
            raise NotFoundError(f"{paths.root} holds no store; name another root")
        return layout
    try:
        store = decode_store_file(data, paths.store_file)
    except CorruptionError as error:
        return _from_directories(storage, paths, error)
    shards = {shard.index: shard.path or os.path.join(paths.shards, shard_name(shard.index)) for shard in store.shards}
    return Layout(store, None, shards, store.archive or paths.archive)


def _from_directories(storage: Storage, paths: StorePaths, error: CorruptionError) -> Layout:
    shards = {
        int(match[1]): os.path.join(paths.shards, entry.name)
        for entry in entries_of(storage, paths.shards)
        if entry.is_directory and (match := _SHARD.fullmatch(entry.name))
    }
    return Layout(None, error, dict(sorted(shards.items())), paths.archive)


def entries_of(storage: Storage, directory: str) -> list[DirectoryEntry]:
    """Entries of a directory by name; none where it is not there.

    Raises:
        StorageError: it cannot be listed.
    """
    try:
        return sorted(storage.list_directory(directory), key=lambda entry: entry.name)
    except FileNotFoundError:
        return []


def size_of(storage: Storage, path: str) -> int:
    """Size of a file; 0 where it is gone or cannot be asked."""
    try:
        identity = storage.identify(path)
    except StorageError:
        return 0
    return 0 if identity is None else identity.size_bytes
