"""Where the files of an agent lie: its directory in a shard, the one in the archive, and the trash of each."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass

from memstore.format.names import TRASH_DIRECTORY, parse_cold_file_name
from memstore.fs.storage import Storage
from memstore.ops.layout import entries_of


@dataclass(frozen=True, slots=True)
class AgentPlace:
    """The directories of one agent, and the names of the files in them as they were when they were listed.

    Attributes:
        directory: in a shard.
        archive: of its cold files.
        names: by directory; of the trash only where there is one.
    """

    directory: str
    archive: str
    names: dict[str, set[str]]

    def places_of(self, name: str, *, in_trash: bool) -> tuple[str, str]:
        """Where a packed file belongs, and where a crash may have left it instead."""
        home = self.directory if parse_cold_file_name(name) is None else self.archive
        counted, trashed = os.path.join(home, name), os.path.join(home, TRASH_DIRECTORY, name)
        return (trashed, counted) if in_trash else (counted, trashed)

    def files(self) -> Iterator[tuple[str, str]]:
        """Every directory and name, in order of names within each directory."""
        for directory, names in self.names.items():
            for name in sorted(names):
                yield directory, name


def list_agent(storage: Storage, directory: str, archive: str) -> AgentPlace:
    """List the directories of an agent. Raises: StorageError: one cannot be listed."""
    names: dict[str, set[str]] = {}
    for home in (directory, archive):
        entries = entries_of(storage, home)
        names[home] = {entry.name for entry in entries if not entry.is_directory}
        if any(entry.name == TRASH_DIRECTORY for entry in entries):
            trash = os.path.join(home, TRASH_DIRECTORY)
            names[trash] = {entry.name for entry in entries_of(storage, trash)}
    return AgentPlace(directory, archive, names)


def is_in_trash(path: str) -> bool:
    """Whether a file lies in the trash of an agent."""
    return os.path.basename(os.path.dirname(path)) == TRASH_DIRECTORY
