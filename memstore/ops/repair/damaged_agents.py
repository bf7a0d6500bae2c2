"""Which agents a check has found damaged: where each lies, and which must be mended before anything is merged."""

from __future__ import annotations

import os
from collections.abc import Iterable

from memstore.engine.engine import Engine
from memstore.format.names import MANIFEST
from memstore.ids import directory_agent
from memstore.ops.finding import Finding
from memstore.ops.layout import Layout
from memstore.ops.repair.whose_directory import agent_by_records

_OF_AGENTS = frozenset({"manifest", "day_file", "packed_file", "seek_table", "record", "misplaced"})


def is_urgent(engine: Engine, finding: Finding) -> bool:
    """Whether an agent lies where a merge does not look for it, or has lost the whole of its MANIFEST."""
    if finding.severity != "damage" or finding.kind not in ("misplaced", "manifest"):
        return False
    return (
        finding.kind == "misplaced"
        or (finding.length_bytes == 0 and not engine.storage.exists(finding.path))
        or (os.path.basename(finding.path) != MANIFEST)
    )


def damaged_directories(engine: Engine, layout: Layout, findings: Iterable[Finding]) -> list[str]:
    """Directories of the agents in which something was found, each once."""
    shards = dict.fromkeys(layout.shards.values())
    found: dict[str, None] = {}
    for finding in findings:
        if finding.severity != "damage" or finding.kind not in _OF_AGENTS:
            continue
        shard = next((each for each in shards if finding.path.startswith(each + os.sep)), None)
        if shard is not None:
            name = finding.path[len(shard) + 1 :].partition(os.sep)[0]
            found[os.path.join(shard, name)] = None
        elif finding.path.startswith(layout.archive + os.sep):
            name = finding.path[len(layout.archive) + 1 :].partition(os.sep)[0]
            found[_home_of(engine, layout, name)] = None
        elif finding.agent is not None:  # a record that stands in a lane and in a file
            found[next(iter(layout.homes(finding.agent)))] = None
    return list(found)


def _home_of(engine: Engine, layout: Layout, name: str) -> str:
    """The directory in a shard of an agent of which an archive directory is known."""
    for shard in layout.shards.values():
        path = os.path.join(shard, name)
        if engine.storage.identify(path) is not None:
            return path
    first = next(iter(layout.shards.values()))
    agent = directory_agent(name) or agent_by_records(engine, os.path.join(first, name))
    return os.path.join(first, name) if agent is None else layout.homes(agent)[0]
