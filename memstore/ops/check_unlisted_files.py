"""What lies in an agent's directories and is named by no line of its MANIFEST: a crash may have left it, or a move."""

from __future__ import annotations

import os

from memstore.format.names import MANIFEST, tier_of
from memstore.fs.atomic import TEMPORARY_PREFIX
from memstore.manifest.index import Manifest
from memstore.ops.agent_findings import CLEAN_UP, AgentFindings
from memstore.ops.agent_place import AgentPlace
from memstore.ops.check_surplus import SurplusCheck


def check_unlisted_files(place: AgentPlace, manifest: Manifest, surplus: SurplusCheck, found: AgentFindings) -> None:
    """Tell of each such file what it is.

    Args:
        place: the agent's directories.
        manifest: what is to be there.
        surplus: judges day files that a merge has begun and not committed: all of one has to be in lanes.
        found: where findings go.

    Raises:
        FileNotFoundError: a file has gone.
        StorageError: one cannot be read.
    """
    for directory, name in place.files():
        if name in manifest.day_files or name in manifest.packed or name in manifest.trash:
            continue
        if name == MANIFEST and directory == place.directory:
            continue
        path = os.path.join(directory, name)
        tier = tier_of(name)
        if name.startswith(TEMPORARY_PREFIX):
            reason = "it is being built, or was when a process died"
            found.find("temporary", reason, path=path, severity="note", repair=CLEAN_UP)
        elif name in manifest.dropped:
            found.find("orphan", "others have taken its place", path=path, severity="note", repair=CLEAN_UP)
        elif tier in ("warm", "cold"):
            reason = "no line of the MANIFEST names it: it is about to count, or was when a process died"
            found.find("orphan", reason, path=path, severity="note", repair=CLEAN_UP)
        elif tier == "hot":
            surplus.check(manifest, path, 0)
        else:
            found.find("unknown_name", "no file of an agent has such a name", path=path, severity="note")
