"""A store of which there are copies: a second copy, and a backup."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from rich_store import open_rich

Lines = dict[str, dict[str, bytes]]


@dataclass
class Kept:
    """A store with a second copy and a backup, and a lane that is in the copy only."""

    root: str
    copy: str
    volume: str
    backups: str
    lines: Lines

    def same_in_copy(self, path: str) -> str:
        """A file of the store, in the second copy, which places agents by a ring of its own."""
        if "/lanes/" in path:
            return os.path.join(self.copy, "lanes", os.path.basename(path))
        tail = path.split(os.sep)[-3 if "/.trash/" in path else -2 :]
        (found,) = [
            str(each) for each in Path(self.copy, "memory").rglob(tail[-1]) if each.parts[-len(tail) :] == (*tail,)
        ]
        return found

    def points(self) -> list[str]:
        return sorted(str(each) for each in Path(self.backups).iterdir() if (each / "BACKUP.json").exists())


def keep_copies(root: str, directory: Path) -> Kept:
    """Give the rich store a second copy and a backup, and then some records more, which are in lanes."""
    volume = directory / "second"
    volume.mkdir()
    backups = str(directory / "backups")
    with open_rich(root) as store:
        copy = store.add_replica(str(volume))["path"]
        store.backup(backups)
        store.append_many({"agent_id": a, "content": f"late {n} " + "z" * 50} for a in ("a", "new") for n in range(5))
    lines: Lines = {}
    with open_rich(root, read_only=True) as store:
        for agent in store.agents():
            lines[agent] = {line[14 : line.index(b'"', 14)].decode(): line for line in store.agent(agent).lines()}
    return Kept(root, copy, str(volume), backups, {agent: of_agent for agent, of_agent in lines.items() if of_agent})
