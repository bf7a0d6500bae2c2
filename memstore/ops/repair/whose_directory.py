"""Whose a directory is: by its MANIFEST, by its name, or by a record that lies in it or waits for it in a lane."""

from __future__ import annotations

import os

from memstore.engine.engine import Engine
from memstore.errors import MemstoreError
from memstore.format.names import tier_of
from memstore.fs.storage import Storage
from memstore.ids import ID_TAIL_CHARS, agent_directory, directory_agent
from memstore.lifecycle.needles import line_id
from memstore.manifest.reader import load_manifest
from memstore.ops.layout import entries_of
from memstore.ops.repair.record_texts import record_texts
from memstore.wal.reader import agent_of_directory_name


def agent_of_directory(engine: Engine, directory: str) -> str | None:
    """Whose a directory of a shard is; None where nothing can say."""
    return (
        agent_by_manifest(engine.storage, directory)
        or directory_agent(os.path.basename(directory))
        or agent_by_records(engine, directory)
    )


def agent_by_manifest(storage: Storage, directory: str) -> str | None:
    """Whose a directory is, by its MANIFEST; None where that is missing or cannot be read."""
    try:
        manifest = load_manifest(storage, directory)
    except MemstoreError:
        return None
    return None if manifest is None else manifest.agent


def agent_by_records(engine: Engine, directory: str) -> str | None:
    """Whose a directory with a hashed name is, by the records in it, in the archive or in lanes; None where none is."""
    name = os.path.basename(directory)
    archive = os.path.join(engine.catalog.state.archive, name)
    return (
        agent_by_files(engine.storage, directory)
        or agent_by_files(engine.storage, archive)
        or agent_of_directory_name(engine.lanes.refresh(), name)
    )


def agent_by_files(storage: Storage, directory: str) -> str | None:
    """Whose a directory with a hashed name is, by the first record of a file in it; None where none can be read."""
    for entry in entries_of(storage, directory):
        if entry.is_directory or tier_of(entry.name) is None:
            continue
        text = next(record_texts(storage, os.path.join(directory, entry.name)), b"")
        try:
            agent = line_id(text.partition(b"\n")[0])[:-ID_TAIL_CHARS]
        except ValueError:  # of a line that is damaged, or of none
            continue
        if agent_directory(agent) == os.path.basename(directory):
            return agent
    return None
