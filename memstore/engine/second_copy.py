"""The store's second copy as its processes see it: whether it is there, and whose word counts.

A copy lies in a directory of its own on another volume and looks like a store. Its STORE.json says that it is a copy
(``copy_of``), the store's says where it is and whether it holds everything (``replica``). What both together mean:

::

    copy there, marked as a copy of this store     all is well: the store may be written
    copy there, but made the store by force        it may hold more than this store: read-only unless forced
    copy away, and known to be behind              this store went on alone, durably noted: it may be written
    copy away, and not known to be behind          it may have been made the store meanwhile: read-only unless forced

A copy that is opened by itself cannot know what the store acknowledged after it was cut off: read-only unless forced.
"""

from __future__ import annotations

import os
from typing import Literal

from memstore.engine.catalog import CatalogState
from memstore.errors import CorruptionError, StorageError
from memstore.format.names import MANIFEST, StorePaths, is_lane_name
from memstore.format.store_file import ReplicaEntry, StoreFile, decode_store_file
from memstore.fs.storage import Storage
from memstore.manifest.reader import load_manifest
from memstore.timestamps import iso_text
from memstore.wal.scan import ScannedCommit, scan_lane
from memstore.wal.seal import header_end

Standing = Literal["copy", "away", "promoted", "foreign"]
"""What stands where the copy should be: the copy; nothing, or nothing that can be read; the copy, made the store by
force; or something of another store."""


def read_store_file(storage: Storage, paths: StorePaths) -> StoreFile | None:
    """What a STORE.json says; None where there is none that can be read.

    Raises:
        CorruptionError: it does not verify.
    """
    try:
        file = storage.open_read(paths.store_file)
    except (FileNotFoundError, StorageError):
        return None
    try:
        return decode_store_file(file.read(0, file.identity().size_bytes), paths.store_file)
    except CorruptionError:
        raise
    except StorageError:
        return None
    finally:
        file.close()


def standing_of(storage: Storage, entry: ReplicaEntry, store_id: str, *, root: str) -> Standing:
    """What stands where the copy should be.

    Args:
        storage: reads it.
        entry: says where.
        store_id: the store's.
        root: the store's: a store that was copied or restored elsewhere has the same id, and must not write to the
            copy of the one it was made from.
    """
    try:
        there = read_store_file(storage, StorePaths(entry.path))
    except CorruptionError:
        return "foreign"
    if there is None:
        return "away"
    if there.id != store_id:
        return "foreign"
    if there.copy_of is None:
        return "promoted"
    return "copy" if is_copy_of(there, root) else "foreign"


def is_copy_of(content: StoreFile, root: str) -> bool:
    """Whether a STORE.json is that of the second copy of the store at a root, whatever links lead there."""
    return content.copy_of is not None and os.path.realpath(content.copy_of.of) == os.path.realpath(root)


def why_read_only(storage: Storage, paths: StorePaths, state: CatalogState) -> str | None:
    """Why a store must not be written unless forced; None where it may be."""
    store = state.store
    if store.copy_of is not None:
        last = last_commit_us(storage, paths, store)
        never = "" if store.copy_of.complete else " (which was never complete)"
        return (
            f"{paths.root} is the second copy of {store.copy_of.of}{never}, and its last commit is of "
            f"{'no time' if last == 0 else iso_text(last)}: the store may have acknowledged more. It is open "
            "read-only; if the store is lost, `memstore replica promote` (or storage.force_alone = true) makes this "
            "copy the store"
        )
    if store.replica is None:
        return None
    standing = standing_of(storage, store.replica, store.id, root=paths.root)
    if standing == "copy" or (standing == "away" and store.replica.state == "behind"):
        return None
    last = last_commit_us(storage, paths, store)
    what_is_last = "commit"
    if last == 0:
        last, what_is_last = last_merge_us(storage, state), "merge"
    told = "nothing was ever written here" if last == 0 else f"the last {what_is_last} here is of {iso_text(last)}"
    if standing == "away":
        return (
            f"{paths.root}: its second copy at {store.replica.path} is not there and may have been made the store "
            f"meanwhile; {told}. It is open read-only; bring the volume back, or set storage.force_alone = true to go "
            "on alone"
        )
    what = "was made the store by force" if standing == "promoted" else "is not a copy of this store"
    return (
        f"{paths.root}: what stands at {store.replica.path} {what}; {told}. It is open read-only; open that one, or "
        "set storage.force_alone = true to go on with this one and without a second copy"
    )


def last_commit_us(storage: Storage, paths: StorePaths, store: StoreFile) -> int:
    """Time of the youngest commit that can be seen without reading the agents' files; 0 where there is none."""
    newest = 0 if store.copy_of is None else store.copy_of.last_commit
    try:
        names = [e.name for e in storage.list_directory(paths.lanes) if is_lane_name(e.name)]
    except (FileNotFoundError, StorageError):
        return newest
    for name in names:
        newest = max(newest, lane_last_commit_us(storage, os.path.join(paths.lanes, name)))
    return newest


def last_merge_us(storage: Storage, state: CatalogState) -> int:
    """When lines reached the agents' files last, as far as can be seen; 0 where they never did.

    Looks at every agent, and reads the MANIFEST that was changed last: for a store that cannot be written any more.
    """
    newest: tuple[int, str] | None = None
    for shard in state.shard_paths.values():
        try:
            entries = storage.list_directory(shard)
        except (FileNotFoundError, StorageError):
            continue
        for entry in entries:
            home = os.path.join(shard, entry.name)
            identity = storage.identify(os.path.join(home, MANIFEST))
            if identity is not None and (newest is None or identity.changed_ns > newest[0]):
                newest = (identity.changed_ns, home)
    try:
        manifest = None if newest is None else load_manifest(storage, newest[1])
    except StorageError:
        return 0
    return 0 if manifest is None else max(manifest.ingested.values(), default=0)


def lane_last_commit_us(storage: Storage, path: str) -> int:
    """Time of the last commit line of a lane that verifies; 0 where there is none."""
    newest = 0
    try:
        file = storage.open_read(path)
    except FileNotFoundError:
        return 0
    try:
        for item in scan_lane(file, start=header_end(file), size=file.identity().size_bytes):
            if isinstance(item, ScannedCommit):
                newest = max(newest, item.commit.at)
    except CorruptionError:
        return newest
    finally:
        file.close()
    return newest
