"""One JSON file per memory, as in the trees that memstore imports."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

import orjson

from benchmarks.peers.peer import Peer, Reach, Stored, agent_of


class TreePeer(Peer):
    """``AGENT/YYYYMMDD/ID.memory.json``, written as platforms write it: ``json.dump`` with two spaces."""

    name = "one file per record"
    reaches: ClassVar[dict[Reach, str]] = {
        "fsync": "each file is synced, then its directory",
        "os": "files are written and closed, as platforms do it",
    }

    def __init__(self, directory: str, *, reach: Reach = "fsync", searchable: bool = False) -> None:
        super().__init__(directory, reach=reach, searchable=searchable)
        self._made: set[str] = set()

    def _place(self, memory_id: str) -> tuple[str, str]:
        agent, date = agent_of(memory_id), memory_id.rsplit("_", 3)[1]
        directory = f"{self._directory}/{agent}/{date}"
        return directory, f"{directory}/{memory_id}.memory.json"

    def write(self, records: Sequence[Stored]) -> list[str]:
        """One file after the other."""
        for record in records:
            directory, path = self._place(record["memory_id"])
            if directory not in self._made:
                os.makedirs(directory, exist_ok=True)
                self._made.add(directory)
            with open(path, "w", encoding="utf-8") as file:
                json.dump(record, file, indent=2)
                if self._reach == "fsync":
                    file.flush()
                    os.fsync(file.fileno())
            if self._reach == "fsync":
                _sync_directory(directory)
        return [record["memory_id"] for record in records]

    def get(self, memory_id: str) -> dict[str, Any] | None:
        """By path."""
        try:
            with open(self._place(memory_id)[1], encoding="utf-8") as file:
                found: dict[str, Any] = json.load(file)
        except FileNotFoundError:
            return None
        return found

    def recent(self, agent_id: str, limit: int) -> list[Any]:
        """Newest days first, by name, and no `stat`: the leanest way there is."""
        return tree_recent_by_name(f"{self._directory}/{agent_id}", limit)

    def count(self) -> int:
        """All files."""
        return sum(len(names) for _, _, names in os.walk(self._directory))

    def close(self) -> None:
        """Nothing is open."""


def _sync_directory(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_tree(root: str, files: Iterable[tuple[str, dict[str, Any]]]) -> int:
    """A tree with one JSON file per memory; how many bytes it has."""
    size = 0
    made: set[str] = set()
    for relative, content in files:
        path = os.path.join(root, relative)
        directory = os.path.dirname(path)
        if directory not in made:
            os.makedirs(directory, exist_ok=True)
            made.add(directory)
        data = json.dumps(content, indent=2)
        with open(path, "w", encoding="utf-8") as file:
            file.write(data)
        size += len(data)
    return size


def tree_recent_by_mtime(agent_directory: str, limit: int) -> list[dict[str, Any]]:
    """The newest memories of an agent as platforms with such trees read them: list and stat all, sort, parse."""
    found: list[tuple[float, str]] = []
    for directory, _, names in os.walk(agent_directory):
        for name in names:
            path = os.path.join(directory, name)
            found.append((os.stat(path).st_mtime, path))
    found.sort(reverse=True)
    memories = []
    for _, path in found[:limit]:
        with open(path, encoding="utf-8") as file:
            memories.append(json.load(file))
    return memories


def tree_recent_by_name(agent_directory: str, limit: int) -> list[Any]:
    """The same at its leanest: newest days first, names instead of times, raw reads and orjson."""
    memories: list[Any] = []
    for day in sorted(os.listdir(agent_directory), reverse=True):
        directory = f"{agent_directory}/{day}"
        for name in sorted(os.listdir(directory), reverse=True):
            descriptor = os.open(f"{directory}/{name}", os.O_RDONLY)
            try:
                memories.append(orjson.loads(os.read(descriptor, 1 << 20)))
            finally:
                os.close(descriptor)
            if len(memories) == limit:
                return memories
    return memories
