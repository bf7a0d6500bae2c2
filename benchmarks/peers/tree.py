"""One JSON file per memory, as in the trees that memstore imports."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from typing import Any

import orjson


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
