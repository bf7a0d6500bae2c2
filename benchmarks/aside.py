"""Files of a round that is over are emptied, not removed, until everything is measured.

ext4 does not give out an inode again within a minute of its removal, or six while that is not written back, and goes
past all of these one by one for each file that is made (``recently_deleted`` in ``fs/ext4/ialloc.c``). After stores had
gone, the first merge of 1,000 agents took six times as long: what is removed between rounds would be charged to
whoever makes files next.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable

MakeDirectory = Callable[[str], str]
"""Gives an empty directory whose name begins so (the fixture ``make_directory``)."""


def put_aside(path: str) -> None:
    """Give back the space of a tree, and its name, but not its inodes; nothing where there is none.

    Its directory is removed at the end of the run. Files that have another name elsewhere are left as they are.
    """
    if not os.path.lexists(path):
        return
    empty_files(path)
    parent, name = os.path.split(path)
    os.rename(path, os.path.join(tempfile.mkdtemp(prefix=f"{name}-aside-", dir=parent), name))


def empty_files(directory: str) -> None:
    """Give back the space of all files in a tree, but of those that have another name elsewhere."""
    for place, _, names in os.walk(directory):
        for name in names:
            path = os.path.join(place, name)
            if os.path.isfile(path) and not os.path.islink(path) and os.stat(path).st_nlink == 1:
                os.truncate(path, 0)
