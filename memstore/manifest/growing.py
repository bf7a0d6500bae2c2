"""What a MANIFEST says after some more of its lines: each kind of line, and what it changes."""

from __future__ import annotations

from memstore.errors import CorruptionError
from memstore.format.manifest import Chunk, ManifestLine, Merge, Move, PackedFile, State
from memstore.format.names import file_version, parse_day_file_name
from memstore.fs.storage import FileIdentity
from memstore.ids import is_derived_id
from memstore.manifest.index import SETTLED, BlockRef, FrameRef, Hidden, Manifest, MergeRef, frame_refs
from memstore.timestamps import US_PER_DAY, day_text

Refs = dict[str, list[BlockRef | FrameRef]]


class GrowingManifest:
    """A MANIFEST that lines are added to; shares nothing mutable with the one it began from."""

    def __init__(self, known: Manifest) -> None:
        self._known = known
        self._days: dict[str, tuple[BlockRef | FrameRef, ...]] = dict(known.days)
        self._touched: Refs = {}
        self._day_files = dict(known.day_files)
        self._ingested = dict(known.ingested)
        self._packed = dict(known.packed)
        self._trash = dict(known.trash)
        self._dropped = dict(known.dropped)
        self._hidden = set(known.hidden.ids)
        self._purged = set(known.purged)
        self._next_version = known.next_version
        self._merged = dict(known.merged)
        self._merges = list(known.merges)
        self._ids = {merge.id for merge in known.merges}
        self._of = known.of
        self._position = 0
        self._length = 0
        self.damaged = list(known.damaged)

    def add(self, line: ManifestLine, position: int, length: int) -> None:
        """One verified line.

        Raises:
            CorruptionError: it names what cannot be a file of an agent.
        """
        self._position, self._length = position, length
        if line.merge is not None:
            self._add_merge(line.merge)
        elif line.move is not None:
            self._add_move(line.move)
        elif line.hide is not None:
            self._hidden.update(line.hide.ids)
        elif line.show is not None:
            self._hidden.difference_update(line.show.ids)
        elif line.state is not None:
            self._add_state(line.state)

    def _add_merge(self, merge: Merge) -> None:
        """One merge line; a repeated one (same id) says nothing new."""
        if merge.id in self._ids:
            return
        self._ids.add(merge.id)
        index = len(self._merges)
        self._merges.append(MergeRef(merge.id, self._position, self._length, merge.at, tuple(merge.lanes)))
        self._merged.update(dict.fromkeys(merge.lanes, index))
        for chunk in merge.chunks:
            self._add_chunk(chunk, index, merge.at)

    def _add_chunk(self, chunk: Chunk, merge: int, ingested: int) -> None:
        day = parse_day_file_name(chunk.file)
        if day is None:
            raise self._nonsense(chunk.file, "day file")
        refs = self._refs(day[0])
        offset = chunk.offset
        for block in chunk.blocks:
            refs.append(
                BlockRef(
                    t_min=block.t_min,
                    t_max=block.t_max,
                    offset=offset,
                    length=block.length,
                    records=block.records,
                    file=chunk.file,
                    xxh3=block.xxh3,
                    merge=merge,
                )
            )
            offset += block.length
        self._see(chunk.file)
        self._day_files[chunk.file] = max(self._day_files.get(chunk.file, 0), offset)
        self._ingested[chunk.file] = max(self._ingested.get(chunk.file, 0), ingested)

    def _add_move(self, move: Move) -> None:
        for name in move.sources:
            self._drop(name, move.at)
        for packed in move.to:
            self._dropped.pop(packed.file, None)
            self._add_packed(packed)
        for trashed in move.trash:
            self._dropped.pop(trashed.packed.file, None)
            self._see(trashed.packed.file)
            self._trash[trashed.packed.file] = trashed
        self._hidden.difference_update(move.purged)
        self._purged.update(memory_id for memory_id in move.purged if is_derived_id(memory_id))

    def _add_state(self, state: State) -> None:
        for token in state.lanes:
            self._merged[token] = SETTLED
        for chunk in state.days:
            self._add_chunk(chunk, SETTLED, state.ingested.get(chunk.file, state.at))
        for packed in state.packed:
            self._add_packed(packed)
        for trashed in state.trash:
            self._trash[trashed.packed.file] = trashed
        self._hidden.update(state.hidden)
        self._purged.update(state.purged)
        self._dropped.update(state.dropped)
        self._of = state.of
        self._next_version = max(self._next_version, state.next_version)

    def _add_packed(self, packed: PackedFile) -> None:
        self._see(packed.file)
        self._packed[packed.file] = packed
        for ref in frame_refs(packed):
            for day in _days_between(ref.t_min, ref.t_max):
                self._refs(day).append(ref)

    def _drop(self, name: str, at: int) -> None:
        day = parse_day_file_name(name)
        days: list[str] = []
        if day is not None:
            if self._day_files.pop(name, None) is not None:
                days = [day[0]]
            self._ingested.pop(name, None)
        elif name in self._packed:
            packed = self._packed.pop(name)
            days = sorted({d for frame in packed.frames for d in _days_between(frame.t_min, frame.t_max)})
        else:
            self._trash.pop(name, None)
        for each in days:
            self._touched[each] = [ref for ref in self._refs(each) if ref.file != name]
        self._dropped[name] = at

    def _refs(self, day: str) -> list[BlockRef | FrameRef]:
        refs = self._touched.get(day)
        if refs is None:
            refs = self._touched[day] = list(self._days.get(day, ()))
        return refs

    def _see(self, name: str) -> None:
        version = file_version(name)
        if version is None:
            raise self._nonsense(name, "file of an agent")
        self._next_version = max(self._next_version, version + 1)

    def _nonsense(self, name: str, what: str) -> CorruptionError:
        return CorruptionError(
            self._known.path,
            offset_bytes=self._position,
            length_bytes=self._length,
            reason=f"{name!r} is no name of a {what}",
        )

    def manifest(self, identity: FileIdentity, end: int) -> Manifest:
        """What it says now."""
        days = self._days
        for day, refs in self._touched.items():
            if refs:
                days[day] = tuple(refs)
            else:
                days.pop(day, None)
        known = self._known
        same_days = days.keys() == known.days.keys()
        return Manifest(
            path=known.path,
            directory=known.directory,
            agent=known.agent,
            header=known.header,
            begun=known.begun,
            identity=identity,
            end=end,
            days=days,
            sorted_days=known.sorted_days if same_days else tuple(sorted(days)),
            day_files=self._day_files,
            ingested=self._ingested,
            packed=self._packed,
            trash=self._trash,
            dropped=self._dropped,
            hidden=known.hidden if self._hidden == known.hidden.ids else Hidden.of(self._hidden),
            purged=frozenset(self._purged),
            next_version=self._next_version,
            merged=self._merged,
            merges=tuple(self._merges),
            damaged=tuple(self.damaged),
            of=self._of,
            # A copy: another thread may be adding to it.
            day_times={day: times for day, times in known.day_times.copy().items() if day not in self._touched},
        )


def _days_between(t_min: int, t_max: int) -> list[str]:
    """UTC days that a time range touches."""
    return [day_text(day * US_PER_DAY) for day in range(t_min // US_PER_DAY, t_max // US_PER_DAY + 1)]
