"""Files in an agent's directory that count for nothing: temporary ones, and packed ones that no MANIFEST names.

Day files that no line names are none of them: a merge that was killed may be repeated into them.
"""

from __future__ import annotations

import os
from collections.abc import Iterable

from memstore.format.names import TRASH_DIRECTORY, tier_of
from memstore.fs.atomic import TEMPORARY_PREFIX
from memstore.fs.storage import Storage


def orphans_in(storage: Storage, directory: str, known: Iterable[str]) -> list[str]:
    """Paths of such files, by name; the caller keeps everybody from making one. None where there is no directory.

    Args:
        storage: where it lies.
        directory: one of `agent_directories`.
        known: names of the packed files that the MANIFEST lists.
    """
    try:
        names = [entry.name for entry in storage.list_directory(directory) if not entry.is_directory]
    except FileNotFoundError:
        return []
    listed = frozenset(known)
    return [
        os.path.join(directory, name)
        for name in sorted(names)
        if name.startswith(TEMPORARY_PREFIX) or (tier_of(name) in ("warm", "cold") and name not in listed)
    ]


def agent_directories(home: str, archive: str) -> list[str]:
    """Every directory in which files of an agent lie: its own, the archive's, and the trash of each."""
    return [home, os.path.join(home, TRASH_DIRECTORY), archive, os.path.join(archive, TRASH_DIRECTORY)]
