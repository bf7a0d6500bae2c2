"""What a store holds, gathered by walking it: for ``stats`` and ``shards``, not for reads."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from memstore.engine.catalog import Catalog, CatalogState, check_shard_is_there
from memstore.engine.lane_set import LaneSet
from memstore.engine.view import ViewBuilder
from memstore.errors import CorruptionError
from memstore.format.manifest import decode_manifest_line
from memstore.format.names import MANIFEST, StorePaths, shard_name
from memstore.fs.storage import Storage
from memstore.ids import directory_agent
from memstore.wal.reader import LaneReader, agent_of_directory_name
from memstore.wal.scan import LineWindow

HEAVIEST_AGENTS = 5


def _pass_over(_: CorruptionError) -> None:
    """Damage is of no concern."""


class Inventory:
    """Thread-safe; everything is read anew at each call."""

    def __init__(
        self, storage: Storage, paths: StorePaths, *, catalog: Catalog, lanes: LaneSet, builder: ViewBuilder
    ) -> None:
        self._storage = storage
        self._paths = paths
        self._catalog = catalog
        self._lanes = lanes
        self._builder = builder

    def agents(
        self, *, skip_damaged: bool = False, on_damage: Callable[[CorruptionError], None] = _pass_over
    ) -> list[str]:
        """Ids of all agents that have a record, sorted.

        Args:
            skip_damaged: leave out directories that no longer say whose they are; `damage` names them.
            on_damage: told of each of these, and of lanes that do not say whose records they hold.

        Raises:
            CorruptionError: there is such a directory.
        """
        # Lanes first: an agent that is merged meanwhile is then seen in its shard.
        found: set[str] = set()
        for lane in self._lanes.refresh():
            found |= lane.agents()
            for error in _unknown(lane):
                on_damage(error)
        for error in self._lanes.unreadable:
            on_damage(error)
        state = self._catalog.reload()
        for path in state.shard_paths.values():
            for _, agent in self._residents(path):
                if isinstance(agent, str):
                    found.add(agent)
                elif not skip_damaged:
                    raise agent
                else:
                    on_damage(agent)
        return sorted(found)

    def records(self, agents: Iterable[str]) -> int:
        """Records that these agents have."""
        total = 0
        for agent in agents:
            snapshot = self._builder.snapshot(agent)
            total += sum(piece.records for pieces in snapshot.slices.values() for piece in pieces)
            total += snapshot.manifest.records() if snapshot.manifest is not None else 0
        return total

    def bytes_on_disk(self) -> int:
        """Sum of the sizes of all files below the root, and of the shards and the archive on other volumes."""
        state = self._catalog.reload()
        places = (*state.shard_paths.values(), state.archive)
        outside = [path for path in places if not path.startswith(self._paths.root + os.sep)]
        return sum(self._tree_bytes(path) for path in (self._paths.root, *outside))

    def ballast_bytes(self) -> int:
        """Size of the reserve, 0 while it is given up."""
        identity = self._storage.identify(self._paths.ballast)
        return 0 if identity is None else identity.size_bytes

    def lanes(self) -> dict[str, int]:
        """``open, sealed, bytes, index_bytes`` of the lanes there are."""
        readers = self._lanes.refresh()
        return {
            "open": sum(not lane.sealed for lane in readers),
            "sealed": sum(lane.sealed for lane in readers),
            "bytes": sum(lane.size_bytes() for lane in readers),
            "index_bytes": self._lanes.memory_bytes,
        }

    def damage(self) -> list[dict[str, Any]]:
        """Damage that is known without reading records.

        Lanes whose header or commit lines do not verify, and MANIFESTs that no longer say whose they are.
        """
        found = [
            {"path": e.path, "offset_bytes": e.offset_bytes, "length_bytes": e.length_bytes, "reason": e.reason}
            for e in self._lanes.unreadable
        ]
        for lane in self._lanes.refresh():
            found += [
                {
                    "path": lane.file.path,
                    "offset_bytes": o,
                    "length_bytes": n,
                    "reason": "a commit line does not verify",
                }
                for o, n in lane.damaged
            ]
        for path in self._catalog.reload().shard_paths.values():
            found += [
                {"path": e.path, "offset_bytes": 0, "length_bytes": e.length_bytes, "reason": e.reason}
                for _, e in self._residents(path)
                if isinstance(e, CorruptionError)
            ]
        return found

    def shards(self) -> list[dict[str, Any]]:
        """One dict per shard: ``name, path, agents, bytes, heaviest`` (at most 5), ``pinned, misplaced``."""
        state = self._catalog.reload()
        return [self._shard(state, index, path) for index, path in sorted(state.shard_paths.items())]

    def _shard(self, state: CatalogState, index: int, path: str) -> dict[str, Any]:
        sizes: list[tuple[int, str]] = []
        misplaced = 0
        for name, resident in self._residents(path):
            # Where nobody can tell any more whose it is, its bytes are there all the same.
            agent = resident if isinstance(resident, str) else name
            sizes.append((self._tree_bytes(os.path.join(path, name)), agent))
            misplaced += state.shard_of(agent) != index
        sizes.sort(reverse=True)
        return {
            "name": shard_name(index),
            "path": path,
            "agents": len(sizes),
            "bytes": sum(size for size, _ in sizes),
            "heaviest": [{"agent": agent, "bytes": size} for size, agent in sizes[:HEAVIEST_AGENTS]],
            "pinned": sorted(agent for agent, shard in state.store.placement.pins.items() if shard == index),
            "misplaced": misplaced,
        }

    def _residents(self, shard: str) -> Iterator[tuple[str, str | CorruptionError]]:
        """Each directory of a shard with its agent, or with why nobody can tell whose it is."""
        for name in self._agent_directories(shard):
            try:
                agent = self._agent_of(shard, name)
            except CorruptionError as error:
                yield name, error
            else:
                if agent is not None:
                    yield name, agent

    def _agent_directories(self, shard: str) -> list[str]:
        check_shard_is_there(self._storage, shard)
        return [e.name for e in self._storage.list_directory(shard) if e.is_directory and not e.name.startswith(".")]

    def _agent_of(self, shard: str, name: str) -> str | None:
        """The agent of a directory; None where it has no MANIFEST yet or has just been moved.

        Raises:
            CorruptionError: its name does not say, and its MANIFEST does not verify.
        """
        path = os.path.join(shard, name, MANIFEST)
        plain = directory_agent(name)
        if plain is not None:
            return plain if self._storage.identify(path) is not None else None
        try:
            file = self._storage.open_read(path)
        except FileNotFoundError:
            return None
        try:
            line = LineWindow(file).line_at(0)
        finally:
            file.close()
        if line is None:
            return None
        decoded = decode_manifest_line(line, path)
        if decoded is not None and decoded.manifest is not None:
            return decoded.manifest.agent
        agent = agent_of_directory_name(self._lanes.refresh(), name)  # reads judge what it means
        if agent is not None:
            return agent
        raise CorruptionError(path, offset_bytes=0, length_bytes=len(line), reason="the first line does not verify")

    def _tree_bytes(self, path: str) -> int:
        total = 0
        try:
            entries = self._storage.list_directory(path)
        except FileNotFoundError:
            return 0
        for entry in entries:
            below = os.path.join(path, entry.name)
            if entry.is_directory:
                total += self._tree_bytes(below)
            else:
                identity = self._storage.identify(below)
                total += 0 if identity is None else identity.size_bytes
        return total


def _unknown(lane: LaneReader) -> list[CorruptionError]:
    """Commit lines of a lane that do not verify, which do not say whose records they were."""
    return [
        CorruptionError(lane.file.path, offset_bytes=at, length_bytes=length, reason="a commit line does not verify")
        for at, length in lane.damaged
    ]
