"""Build the files that take the place of others: sources in, packed files out, proved equal before they count.

Nothing here takes a lock or writes a MANIFEST: what is built stands under its final name, whole and durable, and counts
for nothing until `memstore.lifecycle.commit` says so. Where it is abandoned, it is an orphan for the clean-up.

Every record of the sources is accounted for: it is in the result, in the result for the trash, or its id is among those
that were dropped on purpose. What is in a result is read back from the disk and its lines are hashed; the hash has to
be that of the lines that went in.
"""

from __future__ import annotations

import dataclasses
import logging
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from memstore.codec.checksum import RunningChecksum
from memstore.engine.engine import Engine
from memstore.engine.piece_reader import PieceReader
from memstore.errors import CorruptionError, StorageError
from memstore.format.lines import agent_prefix, bare_lines
from memstore.format.manifest import PackedFile
from memstore.format.names import TRASH_DIRECTORY, Tier, cold_file_name, warm_file_name
from memstore.fs.atomic import make_durable_directories, temporary_path, try_unlink
from memstore.fs.storage import Storage
from memstore.lifecycle.collapse import Collapser, Expander, OwnRepeatFieldError
from memstore.lifecycle.sources import SortedLines, sorted_lines
from memstore.manifest.index import Hidden, Manifest
from memstore.packed.kinds import KindCounter
from memstore.packed.reader import read_frame, verify_packed
from memstore.packed.writer import PackedLines, PackedWriter
from memstore.timestamps import day_text

_log = logging.getLogger(__name__)
COMPRESS_THREADS = 2
"""zstd lets go of the interpreter lock: with two threads it runs beside the reading and the counting."""

Split = Callable[[list[bytes], int], list[bool]]
"""Which of some lines (with when the youngest was ingested) go to the trash rather than to the result."""
Change = Callable[[bytes], bytes | None]
"""What a line becomes, or None where it stays as it is."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """What becomes of the lines on their way.

    Attributes:
        tier: form of the result.
        frame_bytes_max: bytes of lines in a frame.
        level: of zstd.
        drop: ids that are left out wherever they are met.
        split: see `Split`; None where all of them go to the result.
        change: see `Change`; None where lines stay byte for byte.
        collapser: makes what collapses repeats in one file; None where repeats stay whole.
    """

    tier: Tier
    frame_bytes_max: int
    level: int
    drop: Hidden
    split: Split | None = None
    change: Change | None = None
    collapser: Callable[[], Collapser] | None = None

    def whole(self) -> Recipe:
        """The same without collapsing anything."""
        return dataclasses.replace(self, collapser=None)


@dataclass(frozen=True, slots=True)
class Built:
    """Files that stand under their names and count for nothing yet.

    Attributes:
        live: what is to take the place of the sources; None where nothing is left.
        trash: what is to be hidden; None where nothing is.
        dropped: ids that were in the sources and are in neither.
        changed: lines that are no longer what they were.
        paths: of the files.
    """

    live: PackedFile | None
    trash: PackedFile | None
    dropped: list[str]
    changed: int
    paths: tuple[str, ...]


class Packer:
    """Builds packed files of one agent at a time. Used by one thread.

    Args:
        storage: where everything lies.
        reader: reads the sources.
        directory_of: where files of a tier lie, by agent directory and agent.
    """

    def __init__(self, storage: Storage, *, reader: PieceReader, directory_of: Callable[[Manifest, Tier], str]) -> None:
        self._storage = storage
        self._reader = reader
        self._directory_of = directory_of

    def build(self, manifest: Manifest, sources: Sequence[str], recipe: Recipe) -> Built:
        """Build what takes the place of ``sources``; with repeats whole, where a record could be taken for one.

        Raises:
            CorruptionError: a source is damaged, or the result does not hold what went in.
            FileNotFoundError: a source has gone.
            StorageFullError: no space; nothing is left behind.
        """
        records = sum(ref.records for name in sources for ref in manifest.file_refs(name))

        def built(recipe: Recipe) -> Built:
            return self.build_from(manifest, sorted_lines(self._reader, manifest, sources), recipe, records=records)

        try:
            return built(recipe)
        except OwnRepeatFieldError:
            return built(recipe.whole())

    def build_from(self, manifest: Manifest, parts: Iterable[SortedLines], recipe: Recipe, *, records: int) -> Built:
        """Build files of an agent from lines.

        Args:
            manifest: whose files, and above which version.
            parts: whole records in order.
            recipe: what becomes of them.
            records: how many there have to be.

        Raises: as `build`; OwnRepeatFieldError: a record could be taken for a repeat.
        """
        home = self._directory_of(manifest, recipe.tier)
        outputs = [
            _Output(self._storage, home, manifest, recipe, version=manifest.next_version),
            _Output(
                self._storage, os.path.join(home, TRASH_DIRECTORY), manifest, recipe, version=manifest.next_version + 1
            ),
        ]
        try:
            flow = _Flow(recipe, *outputs)
            for part in parts:
                flow.pass_on(part.data, part.ingested)
            passed = sum(output.records for output in outputs) + len(flow.dropped)
            if records != passed:
                raise CorruptionError(
                    home,
                    offset_bytes=0,
                    length_bytes=0,
                    reason=f"{records} records should have gone into a new file, and {passed} did",
                )
            live, trash = (output.finish() for output in outputs)
        except BaseException:
            for output in outputs:
                output.abandon()
            raise
        paths = tuple(output.path for output in outputs if output.path is not None)
        return Built(live, trash, flow.dropped, flow.changed, paths)

    def drop_under(self, directory: str) -> None:
        """Close what is open below a directory, and forget what was unpacked: a file that is open stays on the disk."""
        self._reader.drop_under(directory)


def store_packer(engine: Engine, reader: PieceReader) -> Packer:
    """A packer that puts each tier where it belongs in an engine's store."""

    def directory_of(manifest: Manifest, tier: Tier) -> str:
        return engine.catalog.state.archive_of(manifest.agent) if tier == "cold" else manifest.directory

    return Packer(engine.storage, reader=reader, directory_of=directory_of)


def _never_asked(needle: bytes) -> bytes:
    """An `Expander` that has been given every line of a file since its first has seen every original."""
    raise AssertionError(needle)


class _Flow:
    """Passes lines on to the result or to the trash, less what is dropped."""

    def __init__(self, recipe: Recipe, live: _Output, trash: _Output) -> None:
        self._recipe = recipe
        self._live = live
        self._trash = trash
        self.dropped: list[str] = []
        self.changed = 0

    def pass_on(self, data: bytes, ingested: int) -> None:
        recipe = self._recipe
        if recipe.split is None and recipe.change is None and not recipe.drop.ids:
            self._live.add(data, ingested)
            return
        lines = bare_lines(data)
        if recipe.drop.ids:
            lines = self._without_dropped(lines)
        if recipe.split is not None and lines:
            goes = recipe.split(lines, ingested)
            self._trash.add_lines([line for line, gone in zip(lines, goes, strict=True) if gone], ingested)
            lines = [line for line, gone in zip(lines, goes, strict=True) if not gone]
        if recipe.change is not None:
            lines = [self._changed(line) for line in lines]
        self._live.add_lines(lines, ingested)

    def _without_dropped(self, lines: list[bytes]) -> list[bytes]:
        drop = self._recipe.drop
        kept = drop.without(lines)
        if len(kept) != len(lines):
            by_needle = drop.by_needle()
            for line in lines:
                memory_id = by_needle.get(line[: drop.needle_bytes])
                if memory_id is not None:
                    self.dropped.append(memory_id)
        return kept

    def _changed(self, line: bytes) -> bytes:
        assert self._recipe.change is not None
        changed = self._recipe.change(line)
        if changed is None:
            return line
        self.changed += 1
        return changed


class _Output:
    """One packed file in the making; there is no file until the first line comes."""

    def __init__(self, storage: Storage, directory: str, manifest: Manifest, recipe: Recipe, *, version: int) -> None:
        self._storage = storage
        self._directory = directory
        # The agent's own directory holds the MANIFEST and the sources: what is lost with its name is lost with them.
        self._may_be_new = directory != manifest.directory
        self._prefix_bytes = len(agent_prefix(manifest.agent))
        self._recipe = recipe
        self._version = version
        self._temporary: str | None = None
        self._writer: PackedWriter | None = None
        self._kinds = KindCounter(whole=True)
        self._collapser = None if recipe.collapser is None else recipe.collapser()
        self._checksum = None if self._collapser is None else RunningChecksum()
        self.path: str | None = None

    @property
    def records(self) -> int:
        """How many were added."""
        return self._kinds.lines

    def add_lines(self, lines: list[bytes], ingested: int) -> None:
        """Lines without their line breaks."""
        if lines:
            self.add(b"\n".join(lines) + b"\n", ingested)

    def add(self, data: bytes, ingested: int) -> None:
        """Whole lines."""
        if self._writer is None:
            if self._may_be_new:
                make_durable_directories(self._storage, self._directory)
            self._temporary = temporary_path(self._directory)
            self._file = self._storage.create(self._temporary)
            self._writer = PackedWriter(
                self._file,
                prefix_bytes=self._prefix_bytes,
                frame_bytes_max=self._recipe.frame_bytes_max,
                level=self._recipe.level,
                threads=COMPRESS_THREADS,
            )
        self._kinds.add(data, ingested_us=ingested)
        stored = data
        if self._collapser is not None and self._checksum is not None:
            self._checksum.update(data)
            stored = self._collapser.feed(data)
        self._writer.add(stored, ingested_us=ingested)

    def finish(self) -> PackedFile | None:
        """Write the rest, sync, read back and compare, give the file its name; None where nothing came."""
        if self._writer is None:
            return None
        assert self._temporary is not None
        lines = self._writer.finish()
        name = self._name(lines)
        packed = PackedFile(
            file=name,
            size=lines.size,
            xxh3=lines.xxh3,
            frames=lines.frames,
            kinds=self._kinds.kinds(),
            own=self._kinds.own,
            repeats=0 if self._collapser is None else self._collapser.repeats,
            saved=0 if self._collapser is None else self._collapser.saved,
        )
        self._file.sync_data()
        self._verify(packed)
        self._file.close()
        path = os.path.join(self._directory, name)
        # It is not this one's to remove: a power cut may bring a line back that names it (see `ManifestWriter.append`).
        if self._storage.identify(path) is not None:
            raise StorageError(f"{path} is there already and belongs to nobody; `memstore maintain` clears it up")
        self.path = path
        self._storage.rename(self._temporary, path)
        self._storage.sync_directory(self._directory)
        return packed

    def abandon(self) -> None:
        """Leave nothing behind."""
        if self._writer is not None:
            self._writer.close()
            self._file.close()
        for path in (self._temporary, self.path):
            if path is not None:
                try:
                    try_unlink(self._storage, path)
                except StorageError as error:
                    _log.info("%s is left for the clean-up: %s", path, error)

    def _verify(self, packed: PackedFile) -> None:
        """Raises: CorruptionError: what can be read back is not what went in."""
        # Against the checksum that the writer took over what it was given, before it packed anything.
        verify_packed(self._file, packed, prefix_bytes=self._prefix_bytes, threads=COMPRESS_THREADS)
        differs = False
        if self._checksum is not None:
            read_back = self._expanded_checksum(packed) if packed.repeats else packed.xxh3
            differs = read_back != self._checksum.text()
        if packed.records != self.records or differs:
            raise CorruptionError(
                self._file.path,
                offset_bytes=0,
                length_bytes=packed.size,
                reason=f"{self.records} records went in and {packed.records} came out, or their lines differ",
                records=packed.records,
            )

    def _expanded_checksum(self, packed: PackedFile) -> str:
        expander = Expander(self._prefix_bytes, _never_asked)
        checksum = RunningChecksum()
        offset = 0
        for frame in packed.frames:
            lines = bare_lines(read_frame(self._file, offset_bytes=offset, frame=frame))
            checksum.update(b"\n".join(expander.expand(lines)) + b"\n")
            offset += frame.length
        return checksum.text()

    def _name(self, lines: PackedLines) -> str:
        first, last = day_text(lines.frames[0].t_min), day_text(lines.frames[-1].t_max)
        if self._recipe.tier == "cold":
            return cold_file_name(first[:6], self._version)
        return warm_file_name(first, last, self._version)
