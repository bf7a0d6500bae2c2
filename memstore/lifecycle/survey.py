"""What there is to decide about: the state of each agent's files, from MANIFESTs, directories and notes of reads."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator

from memstore.engine.engine import Engine
from memstore.errors import StorageError
from memstore.format.manifest import PackedFile
from memstore.format.names import TRASH_DIRECTORY, parse_day_file_name, tier_of
from memstore.fs.atomic import TEMPORARY_PREFIX
from memstore.lifecycle.policy import AgentState, HotFile
from memstore.manifest.index import Manifest

_BLOCK_LINE_BYTES = 75
_FRAME_LINE_BYTES = 100
_KIND_LINE_BYTES = 70
_ID_LINE_BYTES = 70
_FILE_LINE_BYTES = 200
"""What each costs in a compacted MANIFEST, about."""


class Survey:
    """Reads the states of agents. For one thread."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._storage = engine.storage

    def states(self) -> Iterator[AgentState | StorageError]:
        """The state of each agent that has a MANIFEST, one at a time, or why it cannot be known."""
        for agent in self._engine.inventory.agents(skip_damaged=True):
            try:
                manifest = self._engine.builder.manifest(agent)
                error = None if manifest is None else manifest.damage()
                if error is not None:
                    yield error
                elif manifest is not None:
                    yield self.state(manifest)
            except StorageError as refused:
                yield refused

    def state(self, manifest: Manifest) -> AgentState:
        """The state of one agent."""
        return AgentState(
            agent=manifest.agent,
            hot={name: hot_file(manifest, name) for name in manifest.day_files},
            packed=manifest.packed,
            trash=manifest.trash,
            hidden_times=manifest.hidden.times,
            reads=self._engine.read_notes.of(manifest.agent),
            leftovers=tuple(self._leftovers(manifest)),
            manifest_bytes=manifest.end,
            manifest_useful_bytes=_useful_bytes(manifest),
        )

    def _leftovers(self, manifest: Manifest) -> Iterator[str]:
        """Names in the agent's directories that do not count, or that lie where they do not belong."""
        archive = self._engine.catalog.state.archive_of(manifest.agent)
        for home in (manifest.directory, archive):
            for directory, in_trash in ((home, False), (os.path.join(home, TRASH_DIRECTORY), True)):
                for name in self._names(directory):
                    belongs = manifest.trash if in_trash else manifest.packed
                    if (
                        name.startswith(TEMPORARY_PREFIX)
                        or name in manifest.dropped
                        or (tier_of(name) in ("warm", "cold") and name not in belongs)
                    ):
                        yield name

    def _names(self, directory: str) -> Iterable[str]:
        try:
            entries = self._storage.list_directory(directory)
        except FileNotFoundError:
            return ()
        return sorted(entry.name for entry in entries if not entry.is_directory)


def hot_file(manifest: Manifest, name: str) -> HotFile:
    """What a day file holds."""
    parsed = parse_day_file_name(name)
    assert parsed is not None, name
    refs = manifest.file_refs(name)
    return HotFile(
        day=parsed[0],
        bytes=manifest.day_files[name],
        records=sum(ref.records for ref in refs),
        t_min=min(ref.t_min for ref in refs),
        t_max=max(ref.t_max for ref in refs),
        ingested=manifest.ingested[name],
    )


def _useful_bytes(manifest: Manifest) -> int:
    packed: list[PackedFile] = [*manifest.packed.values(), *(each.packed for each in manifest.trash.values())]
    blocks = sum(len(manifest.file_refs(name)) for name in manifest.day_files)
    return (
        400
        + (len(manifest.day_files) + len(packed)) * _FILE_LINE_BYTES
        + blocks * _BLOCK_LINE_BYTES
        + sum(len(each.frames) * _FRAME_LINE_BYTES + len(each.kinds) * _KIND_LINE_BYTES for each in packed)
        + (len(manifest.hidden.ids) + len(manifest.purged)) * _ID_LINE_BYTES
    )
