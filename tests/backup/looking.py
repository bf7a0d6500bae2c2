"""Looks at backups from outside."""

from __future__ import annotations

import os
from typing import Any

from lifecycle_support import Lines

from memstore import MemStore


def lines_at(root: str) -> Lines:
    """Every line of a store that is only read, by agent and id."""
    with MemStore(root, read_only=True) as store:
        return {
            agent: {line.split(b'"', 4)[3].decode(): line for line in store.agent(agent).lines()}
            for agent in store.agents()
        }


def in_one_piece(lines: Lines) -> Lines:
    """Agents that have lines."""
    return {agent: of_agent for agent, of_agent in lines.items() if of_agent}


def inodes(point: str) -> dict[str, int]:
    """The inode of every file of a point, by path below it."""
    return {
        os.path.relpath(os.path.join(directory, name), point): os.stat(os.path.join(directory, name)).st_ino
        for directory, _, names in os.walk(point)
        for name in names
    }


def content(root: str) -> dict[str, Any]:
    """The bytes of every file below a directory, by path below it."""
    found = {}
    for directory, _, names in os.walk(root):
        for name in names:
            path = os.path.join(directory, name)
            with open(path, "rb") as file:
                found[os.path.relpath(path, root)] = file.read()
    return found


def names_in(directory: str) -> list[str]:
    """Names in a directory but for hidden ones, sorted."""
    return sorted(name for name in os.listdir(directory) if not name.startswith("."))
