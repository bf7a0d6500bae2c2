"""What a store consists of at one moment: the list by which a point is made.

It is taken under the merge lock, in which no MANIFEST changes and no file of an agent is moved or removed, so nothing
is half moved in it. Lanes are taken as long as they are: what is acknowledged before is in them, or in the files that
the MANIFESTs name. Copied under the lock are only the MANIFESTs that have changed since the point before, for they may
be written anew afterwards; sealed files keep their content as long as they have their name, and day files their
committed bytes, so those are copied later.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import msgspec

from memstore.backup.copying import copy_whole
from memstore.codec.checksum import checksum
from memstore.engine.catalog import CatalogState, check_shard_is_there
from memstore.engine.engine import Engine
from memstore.errors import CorruptionError
from memstore.format.backup_file import BackedUpAgent, BackedUpFile
from memstore.format.names import (
    MANIFEST,
    TRASH_DIRECTORY,
    is_lane_name,
    is_merged_lane_name,
    lane_token,
    parse_cold_file_name,
    shard_name,
    tier_of,
)
from memstore.format.store_file import ShardEntry, StoreFile, encode_store_file
from memstore.fs.atomic import read_file
from memstore.fs.storage import FileIdentity, StorageFile
from memstore.fs.trees import files_below
from memstore.manifest.index import Manifest

SHARDS = os.path.join("memory", "shards")
ARCHIVE = os.path.join("memory", "archive")


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file that a point needs.

    Attributes:
        path: below the point.
        source: where it lies in the store.
        elsewhere: where it lies if the machine stopped between a move's line and its rename.
        size: how much of it belongs to the point.
        mark: see `BackedUpFile`.
        pieces: ``(length, xxh3)`` of what follows each other from its start, as the MANIFEST says; may end before
            ``size``.
    """

    path: str
    source: str
    elsewhere: str
    size: int
    mark: str
    pieces: tuple[tuple[int, str], ...] = ()


@dataclass(frozen=True, slots=True)
class ListedAgent:
    """One agent of a listing.

    Attributes:
        agent, directory, mark, records: as in `BackedUpAgent`.
        known: the same agent in the point before, where nothing of it has changed.
        manifest: its MANIFEST, copied already; None where ``known`` is.
        files: all others; empty where ``known`` is there.
        cites: whether it names a lane that still stands: then a block that does not verify is no damage.
        damaged: it cannot be read: everything in its directories is taken.
    """

    agent: str
    directory: str
    mark: str
    records: int
    known: BackedUpAgent | None = None
    manifest: BackedUpFile | None = None
    files: tuple[SourceFile, ...] = ()
    cites: bool = False
    damaged: bool = False


@dataclass(frozen=True, slots=True)
class ListedLane:
    """A lane, open: it stays readable when it is unlinked."""

    name: str
    file: StorageFile
    size: int


@dataclass(slots=True)
class Listing:
    """A store at one moment.

    Attributes:
        at: that moment, microseconds: whatever was acknowledged before is in it.
        store: STORE.json as the point has it: with everything below its root.
        small: other small files, by path below the root.
        lanes: every lane there is, those included that only wait for a consumer.
        agents: every agent that has a MANIFEST.
        roots: where each directory of ``SHARDS``, and ``ARCHIVE``, lies in the store.
    """

    at: int
    store: StoreFile
    small: dict[str, bytes]
    lanes: list[ListedLane]
    agents: list[ListedAgent] = field(default_factory=list)
    roots: dict[str, str] = field(default_factory=dict)

    def source_of(self, path: str) -> str:
        """Where a file of the point lies in the store."""
        for below, root in self.roots.items():
            if path.startswith(below + os.sep):
                return os.path.join(root, path[len(below) + 1 :])
        raise AssertionError(path)

    def close(self) -> None:
        """Let go of the lanes."""
        for lane in self.lanes:
            lane.file.close()


class Lister:
    """Takes listings of one store; the caller holds the merge lock.

    Args:
        engine: the store.
        known: agents of the point before, by directory.
    """

    def __init__(self, engine: Engine, known: Mapping[str, BackedUpAgent]) -> None:
        self._engine = engine
        self._storage = engine.storage
        self._known = known

    def take(self, staging: str) -> Listing:
        """List all there is, and copy changed MANIFESTs to ``staging``.

        Raises:
            StorageError: a shard's volume is missing, or the disk refused.
        """
        state = self._engine.catalog.reload()
        roots = {os.path.join(SHARDS, shard_name(index)): path for index, path in sorted(state.shard_paths.items())}
        for path in roots.values():
            check_shard_is_there(self._storage, path)
        lanes = list(self._lanes())
        listing = Listing(
            at=self._engine.clock.now_us(),
            store=_in_one_place(state.store),
            small=dict(self._small_files()),
            lanes=lanes,
            roots={**roots, ARCHIVE: state.archive},
        )
        try:
            standing = {lane_token(lane.name) for lane in lanes if is_lane_name(lane.name)}
            residents = {path: self._residents(path) for path in roots.values()}
            strays = self._strays(state, residents)
            for below, path in roots.items():
                names = [name for name in residents[path] if os.path.join(path, name) not in strays]
                listing.agents.extend(self._agents(state, below, path, names, staging=staging, standing=standing))
        except BaseException:
            listing.close()
            raise
        return listing

    def _lanes(self) -> Iterator[ListedLane]:
        directory = self._engine.paths.lanes
        for name in sorted(entry.name for entry in self._storage.list_directory(directory)):
            if is_lane_name(name) or is_merged_lane_name(name):
                file = self._storage.open_read(os.path.join(directory, name))
                yield ListedLane(name, file, file.size_bytes())

    def _small_files(self) -> Iterator[tuple[str, bytes]]:
        paths = self._engine.paths
        for path in (paths.holds, paths.forgotten):
            data = read_file(self._storage, path)
            if data is not None:
                yield os.path.basename(path), data

    def _residents(self, shard: str) -> list[str]:
        """Names of the directories of a shard that have a MANIFEST, sorted.

        Those that have none were left by a merge that was stopped: what is in them comes from lanes that stand.
        """
        names = [e.name for e in self._storage.list_directory(shard) if e.is_directory and not e.name.startswith(".")]
        return [name for name in sorted(names) if self._storage.exists(os.path.join(shard, name, MANIFEST))]

    def _strays(self, state: CatalogState, residents: Mapping[str, list[str]]) -> set[str]:
        """Directories of agents that have another one, from which they are read: a move between volumes was stopped.

        An agent's cold files, which do not move with it, would otherwise be in a point twice.
        """
        places: dict[str, list[str]] = {}
        for shard, names in residents.items():
            for name in names:
                places.setdefault(name, []).append(os.path.join(shard, name))
        return {
            place
            for found in places.values()
            if len(found) > 1
            for place in found
            if place != self._read_from(state, found)
        }

    def _read_from(self, state: CatalogState, places: list[str]) -> str:
        """Which of its directories an agent is read from."""
        for place in places:
            try:
                manifest = self._engine.manifests.get(place)
            except CorruptionError:
                continue
            if manifest is not None:
                return next((home for home in state.homes(manifest.agent) if home in places), place)
        return places[0]

    def _agents(
        self, state: CatalogState, below: str, shard: str, names: list[str], *, staging: str, standing: set[str]
    ) -> Iterator[ListedAgent]:
        for name in names:
            directory, relative = os.path.join(shard, name), os.path.join(below, name)
            identity = self._storage.identify(os.path.join(directory, MANIFEST))
            if identity is None:  # gone since its shard was listed
                continue
            mark = _mark_of(identity)
            known = self._known.get(relative)
            if known is not None and known.mark == mark:
                yield ListedAgent(known.agent, relative, mark, known.records, known=known)
                continue
            path = os.path.join(relative, MANIFEST)
            size, xxh3 = copy_whole(self._storage, os.path.join(directory, MANIFEST), os.path.join(staging, path))
            yield self._changed(state, directory, BackedUpFile(path, size, xxh3, mark), standing)

    def _changed(
        self, state: CatalogState, directory: str, manifest_file: BackedUpFile, standing: set[str]
    ) -> ListedAgent:
        relative, mark = os.path.dirname(manifest_file.path), manifest_file.mark
        name = os.path.basename(directory)
        try:
            manifest = self._engine.manifests.get(directory)
        except CorruptionError:
            manifest = None
        if manifest is None or manifest.damaged:
            agent = name if manifest is None else manifest.agent
            files = tuple(self._whatever_is_there(directory, relative, os.path.join(state.archive, name)))
            return ListedAgent(agent, relative, mark, 0, manifest=manifest_file, files=files, damaged=True)
        return ListedAgent(
            manifest.agent,
            relative,
            mark,
            manifest.records(),
            manifest=manifest_file,
            files=tuple(files_of(manifest, relative, state.archive_of(manifest.agent))),
            cites=manifest.cites(standing),
        )

    def _whatever_is_there(self, directory: str, relative: str, archive: str) -> Iterator[SourceFile]:
        """Every file of an agent of which nobody can tell which ones count."""
        for root, below in ((directory, relative), (archive, os.path.join(ARCHIVE, os.path.basename(directory)))):
            for path in files_below(self._storage, root):
                identity = self._storage.identify(path)
                if tier_of(os.path.basename(path)) is not None and identity is not None:
                    listed = os.path.join(below, os.path.relpath(path, root))
                    yield SourceFile(listed, path, path, identity.size_bytes, "")


def files_of(manifest: Manifest, relative: str, archive: str) -> Iterator[SourceFile]:
    """The files that a MANIFEST names, itself aside.

    Args:
        manifest: the agent's.
        relative: its directory below the point.
        archive: its directory in the store's archive.
    """
    for name, size in sorted(manifest.day_files.items()):
        refs = sorted(manifest.file_refs(name), key=lambda ref: ref.offset)
        pieces = tuple((ref.length, ref.xxh3) for ref in refs)
        source = os.path.join(manifest.directory, name)
        yield SourceFile(os.path.join(relative, name), source, source, size, _mark_of_pieces(size, pieces), pieces)
    for name in sorted((*manifest.packed, *manifest.trash)):
        packed = manifest.packed_file(name)
        pieces = tuple((frame.length, frame.xxh3) for frame in packed.frames)
        is_cold = parse_cold_file_name(name) is not None
        home = archive if is_cold else manifest.directory
        below = os.path.join(ARCHIVE, os.path.basename(manifest.directory)) if is_cold else relative
        plain, trash = os.path.join(home, name), os.path.join(home, TRASH_DIRECTORY, name)
        is_trash = name in manifest.trash
        yield SourceFile(
            os.path.join(below, TRASH_DIRECTORY, name) if is_trash else os.path.join(below, name),
            trash if is_trash else plain,
            plain if is_trash else trash,
            packed.size,
            _mark_of_pieces(packed.size, pieces),
            pieces,
        )


def store_bytes(store: StoreFile) -> bytes:
    """STORE.json of a point."""
    return encode_store_file(store)


def _in_one_place(store: StoreFile) -> StoreFile:
    """The same store with everything below its root: a point is complete in itself, and no half of a pair."""
    return msgspec.structs.replace(
        store,
        shards=[ShardEntry(index=entry.index) for entry in store.shards],
        archive=None,
        replica=None,
        copy_of=None,
    )


def _mark_of(identity: FileIdentity) -> str:
    return f"{identity.device:x}.{identity.inode:x}.{identity.size_bytes:x}.{identity.changed_ns:x}"


def _mark_of_pieces(size: int, pieces: tuple[tuple[int, str], ...]) -> str:
    return f"{size:x}.{checksum(msgspec.json.encode(pieces))}"
