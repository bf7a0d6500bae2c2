"""Files of a partition that no commit names: a power cut has taken the list of them and left the files.

tantivy writes a segment's next deletions to a name that it makes of the commit's number, and refuses where a file of
that name is there: of a commit that a power cut took, such a file may be left.
"""

from __future__ import annotations

import os
import re

from memstore.fs.atomic import try_unlink
from memstore.fs.storage import Storage
from memstore.search.partition import META, segments_of

_SEGMENT_FILE = re.compile(r"([0-9a-f]{32})\.(?:(\d+)\.)?\w+")


def remove_orphans(storage: Storage, directory: str) -> list[str]:
    """Remove the files of segments, and the deletions, that the last commit does not name; their names.

    The caller holds the index lock: nobody writes. Whoever reads an older commit has its files open.

    Raises:
        IndexFailedError: the list of the commit cannot be read.
    """
    if storage.identify(os.path.join(directory, META)) is None:  # a new one
        return []
    segments = segments_of(storage, directory)
    orphans = [entry.name for entry in storage.list_directory(directory) if _is_orphan(entry.name, segments)]
    for name in orphans:
        try_unlink(storage, os.path.join(directory, name))
    return orphans


def _is_orphan(name: str, segments: dict[str, int | None]) -> bool:
    match = _SEGMENT_FILE.fullmatch(name)
    if match is None:
        return False
    segment, opstamp = match.groups()
    return segment not in segments or (opstamp is not None and int(opstamp) != segments[segment])
