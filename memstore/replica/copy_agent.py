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

import os
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import msgspec

from memstore.engine.catalog import Catalog
from memstore.engine.piece_reader import PieceReader
from memstore.engine.syncing import SyncSet
from memstore.errors import CorruptionError
from memstore.format.manifest import encode_manifest_header, encode_state
from memstore.format.names import MANIFEST, TRASH_DIRECTORY, StorePaths, parse_cold_file_name, tier_of
from memstore.fs.atomic import TEMPORARY_PREFIX, make_one_directory, temporary_path, try_unlink
from memstore.fs.local import can_sync_file_system
from memstore.fs.lock import locked
from memstore.fs.storage import Storage
from memstore.manifest.cache import ManifestCache
from memstore.manifest.compaction import compacted_state
from memstore.manifest.index import Manifest
from memstore.replica.compare_manifests import first_line, has_lost, says_the_same
from memstore.replica.copy_files import CopiedFile, FileCopier

FILE_SYNCS_MAX = 64
"""Up to so many files and directories are synced one by one; above it the whole file system is."""
Anew = Mapping[str, frozenset[str]]


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
        self._files = FileCopier(storage, source)
        self._root = root
        self._catalog = catalog
        self._tokens = tokens
        self._anew = anew
        self._erased = erased
        self._manifests = ManifestCache(storage, bytes_max=0)
        self._batch = _Batch()
        self._syncs = self._new_syncs()

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
        anew = self._anew.get(os.path.basename(home), frozenset())
        try:
            known = None if MANIFEST in anew else self._manifests.get(home)
        except CorruptionError:
            known = None
        if known is not None and not anew and says_the_same(known, manifest, self._tokens):
            return False
        if known is not None and has_lost(known, manifest, self._erased):
            raise CorruptionError(
                manifest.path,
                offset_bytes=0,
                length_bytes=len(manifest.header),
                reason=f"it was begun anew, and the agent was not erased: what was there before is in {home}, which "
                "stays as it is. Save it from there; then `memstore replica remove` and `replica add` begin a new copy",
            )
        make_one_directory(self._storage, home)
        renames: list[tuple[str, str]] = []
        for name in manifest.day_files:
            believed = None if name in anew else known
            self._take(self._files.day_file(manifest, believed, os.path.join(home, name)), renames)
        for packed in (*manifest.packed.values(), *(trashed.packed for trashed in manifest.trash.values())):
            believed = None if packed.file in anew else known
            target = self._place(manifest, packed.file)
            self._take(self._files.packed_file(manifest, believed, packed, target), renames)
        temporary = self._write_manifest(home, manifest)
        self._batch.renames += renames
        self._batch.directories.update(os.path.dirname(target) for _, target in renames)
        named = {self._place(manifest, name) for name in (*manifest.day_files, *manifest.packed, *manifest.trash)}
        self._batch.staged.append(_Staged(manifest.agent, home, temporary, named, manifest.hidden.ids))
        return True

    @property
    def copied_bytes(self) -> int:
        """How much was written of files."""
        return self._files.copied_bytes

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

    def _take(self, copied: CopiedFile | None, renames: list[tuple[str, str]]) -> None:
        if copied is not None:
            self._syncs.add_file(copied.file)
            if copied.temporary:
                renames.append((copied.temporary, copied.target))

    def _write_manifest(self, home: str, manifest: Manifest) -> str:
        """One state line: every merge is settled there, for what it names has been synced before it counts."""
        header = encode_manifest_header(agent=manifest.agent, at=manifest.begun, compaction_id=secrets.token_hex(8))
        newest = max((merge.at for merge in manifest.merges), default=manifest.begun)
        state = compacted_state(manifest, at_us=newest, standing=self._tokens, there=())
        state = msgspec.structs.replace(state, of=(first_line(manifest), manifest.end))
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

    def _place(self, manifest: Manifest, name: str) -> str:
        state = self._catalog.state
        is_cold = parse_cold_file_name(name) is not None
        directory = state.archive_of(manifest.agent) if is_cold else state.homes(manifest.agent)[0]
        return os.path.join(directory, *([TRASH_DIRECTORY] if name in manifest.trash else []), name)

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
