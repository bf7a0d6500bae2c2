"""What is to be said of the second copy: for ``stats`` and ``memstore replica status``."""

from __future__ import annotations

import os
from typing import Any

from memstore.engine.engine import Engine
from memstore.engine.second_copy import last_commit_us, read_store_file, standing_of, why_read_only
from memstore.errors import StorageError
from memstore.format.names import StorePaths, is_lane_name, lane_token, tier_of
from memstore.fs.storage import Storage
from memstore.timestamps import iso_text


def replica_status(engine: Engine) -> dict[str, Any] | None:
    """State of the second copy, or of this one where it is the second; None where the store has a single copy.

    Returns:
        ``role`` (``store``, or ``copy`` where this is the second one), ``path`` of the other one, ``state``: ``ok``
        (holds every acknowledged record), ``behind`` (may lack some), ``away`` (cannot be reached; ``noted`` says what
        is noted of it), ``promoted`` (was made the store by force), ``foreign``, or ``alone`` of a second copy.
        ``since``, ``why``, ``last_commit`` (the youngest one it is known to hold), ``bytes_behind`` (of files and lanes
        that it lacks, None where nobody can tell), ``lanes_waiting`` (whose content its files do not hold yet),
        ``read_only`` (why this store must not be written, or None).
    """
    storage, store = engine.storage, engine.catalog.reload().store
    if store.copy_of is not None:
        return {
            "role": "copy",
            "path": store.copy_of.of,
            "state": "alone",
            "noted": "complete" if store.copy_of.complete else "incomplete: the first copying has not ended",
            "since": None,
            "why": None,
            "last_commit": _time(last_commit_us(storage, engine.paths, store)),
            "bytes_behind": None,
            "lanes_waiting": None,
            "read_only": why_read_only(storage, engine.paths, engine.catalog.state),
        }
    entry = store.replica
    if entry is None:
        return None
    standing = standing_of(storage, entry, store.id, root=engine.paths.root)
    paths = StorePaths(entry.path)
    there = standing == "copy"
    content = read_store_file(storage, paths) if there else None
    noted = "ok" if entry.state == "ok" else "behind"
    return {
        "role": "store",
        "path": entry.path,
        "state": noted if there else standing,
        "noted": entry.state,
        "since": iso_text(entry.since),
        "why": entry.why or None,
        "last_commit": None if content is None else _time(last_commit_us(storage, paths, content)),
        "bytes_behind": _bytes_behind(engine, paths) if there else None,
        "lanes_waiting": len(_lanes(storage, paths)) if there else None,
        "read_only": why_read_only(storage, engine.paths, engine.catalog.state),
    }


def _time(at_us: int) -> str | None:
    return None if at_us == 0 else iso_text(at_us)


def _bytes_behind(engine: Engine, copy: StorePaths) -> int | None:
    """Bytes of agents' files and of lanes that the copy does not have, as far as sizes tell.

    What is merged in the store and still in a lane of the copy is not behind: the copy has it.
    """
    storage, state = engine.storage, engine.catalog.state
    try:
        ours, theirs = _lanes(storage, engine.paths), _lanes(storage, copy)
        missing = sum(max(size - theirs.get(token, 0), 0) for token, size in ours.items() if token not in theirs)
        if set(theirs) - set(ours):
            return missing  # the files that it lacks are in these
        places = [*state.shard_paths.values(), state.archive]
        had = _files(storage, [*_children(storage, copy.shards), copy.archive])
        for key, size in _files(storage, places).items():
            missing += max(size - had.get(key, 0), 0)
    except (FileNotFoundError, StorageError):
        return None
    return missing


def _lanes(storage: Storage, paths: StorePaths) -> dict[str, int]:
    """Size of each lane that is not merged, by token."""
    found: dict[str, int] = {}
    for entry in storage.list_directory(paths.lanes):
        identity = storage.identify(os.path.join(paths.lanes, entry.name)) if is_lane_name(entry.name) else None
        if identity is not None:
            found[lane_token(entry.name)] = identity.size_bytes
    return found


def _files(storage: Storage, parents: list[str]) -> dict[tuple[str, str], int]:
    """Size of each agent's files, by the name of its directory and their own, wherever it lies."""
    found: dict[tuple[str, str], int] = {}
    for parent in parents:
        for directory in _children(storage, parent):
            agent = os.path.basename(directory)
            if agent.startswith("."):
                continue
            for entry in storage.list_directory(directory):
                identity = storage.identify(os.path.join(directory, entry.name)) if tier_of(entry.name) else None
                if identity is not None:
                    found[agent, entry.name] = identity.size_bytes
    return found


def _children(storage: Storage, parent: str) -> list[str]:
    try:
        return [os.path.join(parent, e.name) for e in storage.list_directory(parent) if e.is_directory]
    except FileNotFoundError:
        return []
