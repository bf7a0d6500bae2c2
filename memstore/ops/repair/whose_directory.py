"""Whose a directory is: by its MANIFEST, by its name, or by a record that lies in it or waits for it in a lane."""

from __future__ import annotations

import os

from memstore.codec.zstd import unpack_parts
from memstore.engine.engine import Engine
from memstore.errors import StorageError
from memstore.format.names import tier_of
from memstore.ids import ID_TAIL_CHARS, agent_directory, directory_agent
from memstore.lifecycle.needles import line_id
from memstore.manifest.reader import load_manifest
from memstore.ops.layout import entries_of
from memstore.wal.reader import agent_of_directory_name

_FIRST_LINE_BYTES_MAX = 1 << 20


def agent_of_directory(engine: Engine, directory: str) -> str | None:
    """Whose a directory of a shard is; None where nothing in it can say."""
    try:
        manifest = load_manifest(engine.storage, directory)
    except StorageError:
        manifest = None
    if manifest is not None:
        return manifest.agent
    return directory_agent(os.path.basename(directory)) or agent_by_records(engine, directory)


def agent_by_records(engine: Engine, directory: str) -> str | None:
    """Whose a directory with a hashed name is, by the records in it; None where none can be read."""
    name = os.path.basename(directory)
    archive = os.path.join(engine.catalog.state.archive, name)
    for home in (directory, archive):
        for entry in entries_of(engine.storage, home):
            if entry.is_directory or tier_of(entry.name) is None:
                continue
            line = _first_line(engine, os.path.join(home, entry.name))
            if line is not None:
                agent = line_id(line)[:-ID_TAIL_CHARS]
                if agent_directory(agent) == name:
                    return agent
    return agent_of_directory_name(engine.lanes.refresh(), name)


def _first_line(engine: Engine, path: str) -> bytes | None:
    file = engine.storage.open_read(path)
    try:
        data = file.read(0, _FIRST_LINE_BYTES_MAX)
        if path.endswith(".zst"):
            data = next(iter(unpack_parts(file.read, 0, file.identity().size_bytes)), b"")
    except ValueError:
        return None
    finally:
        file.close()
    line = data.partition(b"\n")[0]
    return line if line.startswith(b'{"memory_id":"') else None
