"""Some agents' files to the second copy: what is new of each, verified as it is read, and the MANIFEST last.

::

    write what is new            day files from their committed length on, packed files under temporary names
    sync                         all of it
    rename the packed files      to their names; sync the directories
    rename the MANIFESTs         each one state line, so that nothing is ever repeated from lanes there; sync
    remove                       what no MANIFEST names any more

So a MANIFEST of the copy never names what it does not have, whenever the machine stops. Files are not copied again: the
name of a packed file does not come back, and what is committed of a day file does not change. Where either is not so
(an agent that was erased and came back, a store that lost power), the checksums differ, and the file is replaced as a
whole.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import msgspec

from memstore.engine.catalog import Catalog
from memstore.engine.piece_reader import PieceReader
from memstore.engine.syncing import SyncSet
from memstore.errors import CorruptionError, StorageError
from memstore.format.forgotten import text_hash
from memstore.format.manifest import PackedFile, decode_manifest_line, encode_manifest_header, encode_state
from memstore.format.names import MANIFEST, TRASH_DIRECTORY, StorePaths, parse_cold_file_name, tier_of
from memstore.fs.atomic import TEMPORARY_PREFIX, temporary_path, try_unlink
from memstore.fs.local import can_sync_file_system
from memstore.fs.lock import locked
from memstore.fs.storage import Storage, StorageFile
from memstore.fs.verified import read_listed
from memstore.manifest.cache import ManifestCache
from memstore.manifest.compaction import compacted_state
from memstore.manifest.index import BlockRef, Manifest, frame_refs

FILE_SYNCS_MAX = 64
"""Up to so many files and directories are synced one by one; above it the whole file system is."""
Anew = Mapping[str, frozenset[str]]
_COPY_BYTES = 4 * 1024 * 1024


@dataclass(slots=True)
class _Staged:
    """One agent whose MANIFEST waits to be renamed into place."""

    agent: str
    home: str
    manifest: str
    named: set[str]
    hidden: frozenset[str]


@dataclass(slots=True)
class _Batch:
    staged: list[_Staged] = field(default_factory=list)
    renames: list[tuple[str, str]] = field(default_factory=list)
    directories: set[str] = field(default_factory=set)


class AgentCopier:
    """Used by one thread, which holds the store's ``locks/replica``.

    Args:
        storage: where both copies lie.
        source: reads and places the store's files.
        root: of the copy.
        catalog: the copy's.
        tokens: of the lanes that the copy has: its MANIFESTs must say which of them are merged.
        anew: by the name of an agent's directory, names of files that are damaged in the copy, or missing, whatever it
            says of them.
        erased: when each agent that was erased as a whole was erased last, by the hash of its id.

    Attributes:
        copied_bytes: how much was written.
    """

    def __init__(
        self,
        storage: Storage,
        *,
        source: PieceReader,
        root: str,
        catalog: Catalog,
        tokens: frozenset[str],
        anew: Anew,
        erased: Mapping[str, int],
    ) -> None:
        self._storage = storage
        self._source = source
        self._root = root
        self._catalog = catalog
        self._tokens = tokens
        self._all_anew = anew
        self._erased = erased
        self._anew: frozenset[str] = frozenset()
        self._manifests = ManifestCache(storage, bytes_max=0)
        self._batch = _Batch()
        self._syncs = self._new_syncs()
        self.copied_bytes = 0

    def stage(self, manifest: Manifest) -> bool:
        """Write what the copy lacks of an agent; it counts with the next `finish`. Whether there was anything.

        Args:
            manifest: what the store's says, durable and whole.

        Raises:
            CorruptionError: a file of the store does not verify; the copy keeps what it had of this agent.
            FileNotFoundError: a file has moved; take the MANIFEST anew.
            StorageError: either volume refused.
        """
        home = self._catalog.state.homes(manifest.agent)[0]
        self._anew = self._all_anew.get(os.path.basename(home), frozenset())
        try:
            known = None if MANIFEST in self._anew else self._manifests.get(home)
        except CorruptionError:
            known = None
        if known is not None and not self._anew and self._says_the_same(known, manifest):
            return False
        if known is not None and self._has_lost(known, manifest):
            raise CorruptionError(
                manifest.path,
                offset_bytes=0,
                length_bytes=len(manifest.header),
                reason=f"it was begun anew, and the agent was not erased: what was there before is in {home}, which "
                "stays as it is. Save it from there; then `memstore replica remove` and `replica add` begin a new copy",
            )
        self._make_directory(home)
        renames: list[tuple[str, str]] = []
        for name in manifest.day_files:
            self._copy_day_file(manifest, known, os.path.join(home, name), renames)
        for packed in manifest.packed.values():
            self._copy_packed(manifest, known, packed, renames)
        for trashed in manifest.trash.values():
            self._copy_packed(manifest, known, trashed.packed, renames)
        temporary = self._write_manifest(home, manifest)
        self._batch.renames += renames
        self._batch.directories.update(os.path.dirname(target) for _, target in renames)
        named = {self._place(manifest, name) for name in (*manifest.day_files, *manifest.packed, *manifest.trash)}
        self._batch.staged.append(_Staged(manifest.agent, home, temporary, named, manifest.hidden.ids))
        return True

    @property
    def staged(self) -> int:
        """Agents that wait for `finish`."""
        return len(self._batch.staged)

    def finish(self, hides_the_same: Callable[[str, frozenset[str]], bool]) -> set[str]:
        """Make everything that was staged count, durably; agents that were forgotten of meanwhile, which do not.

        Tombstones reach the copy's MANIFEST by themselves (`memstore.replica.tombstones`): one that was staged before
        must not take the place of one that has them.

        Args:
            hides_the_same: whether an agent of the store hides just these ids, now.

        Raises:
            StorageError: the copy's volume refused; none of it is believed, and it is copied again.
        """
        batch, self._batch = self._batch, _Batch()
        syncs, self._syncs = self._syncs, self._new_syncs()
        try:
            syncs.sync()
        finally:
            syncs.close()
        for temporary, target in batch.renames:
            self._storage.rename(temporary, target)
        self._sync_directories(batch.directories | {each.home for each in batch.staged})
        with locked(self._storage, StorePaths(self._root).lock("store")):
            counted = [each for each in batch.staged if hides_the_same(each.agent, each.hidden)]
            for each in counted:
                self._storage.rename(each.manifest, os.path.join(each.home, MANIFEST))
            self._sync_directories({each.home for each in counted})
        removed = {directory for each in counted for directory in self._remove_unnamed(each)}
        self._sync_directories(removed)  # of what was erased, no name may come back
        late = [each for each in batch.staged if each not in counted]
        for each in late:
            try_unlink(self._storage, each.manifest)
        return {each.agent for each in late}

    def close(self) -> None:
        """Let go of what was staged and not finished."""
        self._syncs.close()

    # -- files

    def _copy_day_file(
        self, manifest: Manifest, known: Manifest | None, target: str, renames: list[tuple[str, str]]
    ) -> None:
        name = os.path.basename(target)
        blocks = _blocks(manifest, name)
        had = _blocks(known, name) if known is not None and name in known.day_files else []
        start = 0
        if name not in self._anew and had and [_content(b) for b in had] == [_content(b) for b in blocks[: len(had)]]:
            start = len(had)
            identity = self._storage.identify(target)
            if identity is None or identity.size_bytes < had[-1].offset + had[-1].length:
                start = 0  # gone or cut there: the whole of it once more
        if start == len(blocks):
            return
        if start == 0 and self._storage.identify(target) is not None:  # it may be all there is until this one counts
            path = temporary_path(os.path.dirname(target))
            renames.append((path, target))
        else:
            path = target
        file = self._storage.open_write(path)
        try:
            file.truncate(blocks[start].offset)
            for block in blocks[start:]:
                data = self._source.data(manifest, block)
                file.write(data, block.offset)
                self.copied_bytes += len(data)
        except BaseException:
            file.close()
            raise
        self._syncs.add_file(file)

    def _copy_packed(
        self, manifest: Manifest, known: Manifest | None, packed: PackedFile, renames: list[tuple[str, str]]
    ) -> None:
        target = self._place(manifest, packed.file)
        if known is not None and packed.file not in self._anew and self._has(known, packed, target):
            return
        directory = os.path.dirname(target)
        if os.path.basename(directory) == TRASH_DIRECTORY:
            self._make_directory(os.path.dirname(directory))
        self._make_directory(directory)
        source = self._storage.open_read(self._source.path_of(manifest, packed.file))
        temporary = temporary_path(directory)
        try:
            file = self._storage.create(temporary)
            try:
                self._copy_frames(source, file, packed)
            except BaseException:
                file.close()
                try_unlink(self._storage, temporary)
                raise
        finally:
            source.close()
        self._syncs.add_file(file)
        renames.append((temporary, target))

    def _copy_frames(self, source: StorageFile, file: StorageFile, packed: PackedFile) -> None:
        if source.identity().size_bytes != packed.size:
            raise CorruptionError(
                source.path,
                offset_bytes=0,
                length_bytes=source.identity().size_bytes,
                reason=f"it is not {packed.size} bytes long",
                records=packed.records,
            )
        position = 0
        for ref in frame_refs(packed):
            data = read_listed(source, ref)
            file.write(data, ref.offset)
            position = ref.offset + ref.length
        while position < packed.size:  # the seek table, which has checksums of its own
            data = source.read(position, min(_COPY_BYTES, packed.size - position))
            if not data:
                raise StorageError(f"{source.path}: it was cut while it was copied")
            file.write(data, position)
            position += len(data)
        self.copied_bytes += packed.size

    def _has(self, known: Manifest, packed: PackedFile, target: str) -> bool:
        there = known.packed.get(packed.file)
        if there is None and packed.file in known.trash:
            there = known.trash[packed.file].packed
        if there is None or (there.frames, there.size) != (packed.frames, packed.size):
            return False
        identity = self._storage.identify(target)
        return identity is not None and identity.size_bytes == packed.size

    def _write_manifest(self, home: str, manifest: Manifest) -> str:
        """One state line: every merge is settled there, for what it names has been synced before it counts."""
        header = encode_manifest_header(agent=manifest.agent, at=manifest.begun, compaction_id=secrets.token_hex(8))
        newest = max((merge.at for merge in manifest.merges), default=manifest.begun)
        state = compacted_state(manifest, at_us=newest, standing=self._tokens, there=())
        state = msgspec.structs.replace(state, of=(_first_line(manifest), manifest.end))
        temporary = temporary_path(home)
        file = self._storage.create(temporary)
        try:
            file.write(header + encode_state(state), 0)
        except BaseException:
            file.close()
            raise
        self._syncs.add_file(file)
        return temporary

    def _remove_unnamed(self, staged: _Staged) -> set[str]:
        """Remove files that the agent's MANIFEST does not name; directories that lost one."""
        lost: set[str] = set()
        archive = self._catalog.state.archive_of(staged.agent)
        for parent in (staged.home, archive):
            for directory in (parent, os.path.join(parent, TRASH_DIRECTORY)):
                try:
                    names = [entry.name for entry in self._storage.list_directory(directory)]
                except FileNotFoundError:
                    continue
                for name in names:
                    path = os.path.join(directory, name)
                    ours = tier_of(name) is not None or name.startswith(TEMPORARY_PREFIX)
                    if ours and path not in staged.named and try_unlink(self._storage, path):
                        lost.add(directory)
        return lost

    # -- places

    def _place(self, manifest: Manifest, name: str) -> str:
        state = self._catalog.state
        is_cold = parse_cold_file_name(name) is not None
        directory = state.archive_of(manifest.agent) if is_cold else state.homes(manifest.agent)[0]
        return os.path.join(directory, *([TRASH_DIRECTORY] if name in manifest.trash else []), name)

    def _make_directory(self, path: str) -> None:
        make_one_directory(self._storage, path)

    def _has_lost(self, known: Manifest, manifest: Manifest) -> bool:
        """Whether the store's MANIFEST is not the one that the copy knows, nor what was made of it.

        A merge begins one for an agent that has none. One that was compacted or repaired has an id.
        """
        line = decode_manifest_line(manifest.header.rstrip(b"\n"), manifest.path)
        is_compacted = line is not None and line.manifest is not None and bool(line.manifest.id)
        was_erased = self._erased.get(text_hash(manifest.agent), -1) >= known.begun
        return known.begun < manifest.begun and not is_compacted and not was_erased

    def _says_the_same(self, known: Manifest, manifest: Manifest) -> bool:
        if known.of is None or known.of[0] != _first_line(manifest):
            return False  # of another compaction: a repair could not know what its lines had said
        if known.damaged or known.end != known.identity.size_bytes:
            return False
        if not (self._tokens & manifest.merged.keys()) <= known.merged.keys():
            return False
        ours, theirs = (compacted_state(each, at_us=0, standing=frozenset(), there=()) for each in (known, manifest))
        return (ours.days, ours.ingested, ours.packed, ours.trash, ours.hidden, ours.purged, ours.next_version) == (
            theirs.days,
            theirs.ingested,
            theirs.packed,
            theirs.trash,
            theirs.hidden,
            theirs.purged,
            theirs.next_version,
        )

    def _new_syncs(self) -> SyncSet:
        return SyncSet(self._storage, [self._root], file_syncs_max=FILE_SYNCS_MAX)

    def _sync_directories(self, directories: set[str]) -> None:
        if len(directories) > FILE_SYNCS_MAX and can_sync_file_system():
            root = self._storage.open_directory(self._root)
            try:
                root.sync_file_system()
            finally:
                root.close()
            return
        for directory in sorted(directories):
            self._storage.sync_directory(directory)


def make_one_directory(storage: Storage, path: str) -> None:
    """Create a directory, durably, and none above it: where a volume has gone, nothing is made at its mount point.

    Raises:
        FileNotFoundError: the one above it is not there.
    """
    if storage.identify(path) is not None:
        return
    with contextlib.suppress(FileExistsError):
        storage.make_directory(path)
    storage.sync_directory(os.path.dirname(path))


def _blocks(manifest: Manifest, name: str) -> list[BlockRef]:
    refs = [ref for ref in manifest.file_refs(name) if isinstance(ref, BlockRef)]
    return sorted(refs, key=lambda ref: ref.offset)


def _content(block: BlockRef) -> tuple[int, int, str]:
    return block.offset, block.length, block.xxh3


def _first_line(manifest: Manifest) -> str:
    return manifest.header.rstrip(b"\n").decode()
