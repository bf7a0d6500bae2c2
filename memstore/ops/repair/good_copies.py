"""Where good copies of damaged bytes may be had: a second copy, backups, or any tree that has the same files.

The one thing that a source has to do is to give bytes of a file by what the file is; whether they are good is for the
repair to judge, which has their checksum, or what the file's own lines say. So it does not matter how old a source is,
or whether it is damaged itself: the sources are asked in their order until one has what the checksum asks for.

A file of an agent is known by the name of its agent's directory and its own, for every store places agents as it likes
and no name of a file comes back; every other file by its path below the root.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from memstore.errors import StorageError
from memstore.format.names import (
    KEPT_SUFFIX,
    LANE_SUFFIX,
    MANIFEST,
    MERGED_SUFFIX,
    TRASH_DIRECTORY,
    StorePaths,
    parse_cold_file_name,
)
from memstore.fs.storage import FileIdentity, Storage

LANES_DIRECTORY = "lanes"


class FileOfStore(NamedTuple):
    """What a file is, wherever it lies.

    Attributes:
        name: its own; of a file of no agent, its path below the root.
        agent_directory: the name of the directory of the agent that it belongs to; empty for a file of no agent.
    """

    name: str
    agent_directory: str = ""


def file_of_agent(path: str) -> FileOfStore:
    """A file of an agent, given where it lies: in the agent's directory, its archive directory, or the trash there."""
    directory, name = os.path.split(path)
    if os.path.basename(directory) == TRASH_DIRECTORY:
        directory = os.path.dirname(directory)
    return FileOfStore(name, os.path.basename(directory))


def file_of_root(paths: StorePaths, path: str) -> FileOfStore:
    """A file of no agent, given where it lies."""
    return FileOfStore(os.path.relpath(path, paths.root))


@dataclass(frozen=True, slots=True)
class CopiedFile:
    """A file of a source.

    Attributes:
        source: what people call the source.
        path: where the file lies.
        identity: what it is.
    """

    source: str
    path: str
    identity: FileIdentity
    storage: Storage

    def read(self, offset: int, length: int) -> bytes:
        """Bytes of it; fewer where it is shorter or cannot be read."""
        try:
            file = self.storage.open_read(self.path)
        except (StorageError, FileNotFoundError):
            return b""
        try:
            return file.read(offset, length)
        except StorageError:
            return b""
        finally:
            file.close()

    def read_all(self) -> bytes:
        """All of it."""
        return self.read(0, self.identity.size_bytes)


class GoodCopies(Protocol):
    """Gives what there is of a file, the best source first."""

    def of(self, file: FileOfStore) -> Iterator[CopiedFile]:
        """Each copy of a file that there is."""
        ...


class Taken(NamedTuple):
    """Bytes that are what they should be, and what people call the source that had them."""

    data: bytes
    source: str


def take(
    copies: GoodCopies, file: FileOfStore, offset: int, length: int, is_good: Callable[[bytes], bool]
) -> Taken | None:
    """Bytes of a file from the first source that has them as they should be; None where none has."""
    for copied in copies.of(file):
        data = copied.read(offset, length)
        if len(data) == length and is_good(data):
            return Taken(data, copied.source)
    return None


class NoCopies:
    """There is none."""

    def of(self, file: FileOfStore) -> Iterator[CopiedFile]:  # noqa: ARG002 - as the protocol has it
        """See `GoodCopies`."""
        return iter(())


class TreeCopies:
    """A directory that looks like a store: a second copy, a point of a backup, or a copy that somebody made.

    Args:
        storage: reads it.
        root: the directory.
        name: what people call it.
        lanes: directories that hold lanes too, the best first.
    """

    def __init__(self, storage: Storage, root: str, *, name: str, lanes: Sequence[str] = ()) -> None:
        self._storage = storage
        self._paths = StorePaths(root)
        self.name = name
        self._lanes = [self._paths.lanes, *lanes]
        self._shards: list[str] | None = None

    @property
    def root(self) -> str:
        """The directory."""
        return self._paths.root

    def of(self, file: FileOfStore) -> Iterator[CopiedFile]:
        """See `GoodCopies`."""
        for path in self._places(file):
            try:
                identity = self._storage.identify(path)
            except StorageError:
                continue
            if identity is not None:
                yield CopiedFile(self.name, path, identity, self._storage)

    def _places(self, file: FileOfStore) -> Iterator[str]:
        if not file.agent_directory:
            directory, name = os.path.split(file.name)
            if directory == LANES_DIRECTORY:  # it may have been merged, or kept, since the copy was made, or before
                stem = os.path.splitext(name)[0]
                for place in self._lanes:
                    yield from (os.path.join(place, stem + end) for end in (LANE_SUFFIX, KEPT_SUFFIX, MERGED_SUFFIX))
                return
            yield os.path.join(self.root, file.name)
            return
        parents = [self._paths.archive] if parse_cold_file_name(file.name) is not None else self._shard_directories()
        for parent in parents:
            home = os.path.join(parent, file.agent_directory)
            yield os.path.join(home, file.name)
            if file.name != MANIFEST:
                yield os.path.join(home, TRASH_DIRECTORY, file.name)

    def _shard_directories(self) -> list[str]:
        if self._shards is None:
            try:
                entries = self._storage.list_directory(self._paths.shards)
            except (StorageError, FileNotFoundError):
                entries = []
            self._shards = sorted(os.path.join(self._paths.shards, each.name) for each in entries if each.is_directory)
        return self._shards


class OrderedCopies:
    """Several sources, asked one after the other. Of files that are links to the same one only the first is given.

    Args:
        sources: in the order in which they are asked.
        missing: of each copy that the store knows of and that cannot be asked, why, for people.
        second_copy: root of the store's second copy, where it is among the sources.
    """

    def __init__(
        self, sources: Sequence[TreeCopies] = (), *, missing: Sequence[str] = (), second_copy: str | None = None
    ) -> None:
        self.sources = tuple(sources)
        self.missing = tuple(missing)
        self.second_copy = second_copy

    def of(self, file: FileOfStore) -> Iterator[CopiedFile]:
        """See `GoodCopies`."""
        seen: set[tuple[int, int]] = set()
        for source in self.sources:
            for copied in source.of(file):
                key = (copied.identity.device, copied.identity.inode)
                if key not in seen:
                    seen.add(key)
                    yield copied
