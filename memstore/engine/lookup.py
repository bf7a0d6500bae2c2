"""One record of an agent by its id, or several: the short ways around a whole `Reading`."""

from __future__ import annotations

import bisect
from collections.abc import Mapping, Sequence
from operator import attrgetter

from memstore.engine.piece_reader import PieceReader
from memstore.engine.reading import ReadHandler, Reading
from memstore.engine.view import ViewBuilder
from memstore.errors import StorageError
from memstore.format.lines import id_needle
from memstore.manifest.index import BlockRef, FrameRef, Manifest
from memstore.timestamps import day_text

FEW_MAX = 16
"""So many records of one agent are looked for one after the other; more are worth a look at all there is of it."""
TRIED_MAX = 3
"""So many pieces are just tried one after the other; more are put in order first."""


def find_line(
    builder: ViewBuilder, agent: str, memory_id: str, time_us: int, *, on_read: ReadHandler | None = None
) -> bytes | None:
    """The line of one record without its line break, or None where there is none or it is hidden.

    Raises:
        CorruptionError: a piece that may hold it is damaged.
    """
    needle = id_needle(memory_id)
    try:
        found = _find_in(builder.reader, builder.manifest(agent), needle, time_us, on_read)
    except (StorageError, FileNotFoundError):
        found = None  # the longer way below follows moves and says what is damaged
    return found if found is not None else Reading(builder, agent, on_read=on_read).find(needle, time_us)


def find_few(
    builder: ViewBuilder, agent: str, wanted: Mapping[str, int], *, on_read: ReadHandler | None = None
) -> dict[str, bytes]:
    """Like `find_lines`, for a few records that lie apart, as hits of a search do: each the short way, if it is merged.

    Raises:
        CorruptionError: a piece that may hold one of them is damaged.
    """
    found: dict[str, bytes] = {}
    try:
        manifest = builder.manifest(agent)
        for memory_id, time_us in wanted.items():
            line = _find_in(builder.reader, manifest, id_needle(memory_id), time_us, on_read)
            if line is not None:
                found[memory_id] = line
    except (StorageError, FileNotFoundError):
        pass  # as for one
    left = {memory_id: time_us for memory_id, time_us in wanted.items() if memory_id not in found}
    if left:
        found.update(Reading(builder, agent, on_read=on_read).find_many(left))
    return found


def find_lines(
    builder: ViewBuilder, agent: str, wanted: Mapping[str, int], *, forgotten: bool = False
) -> dict[str, bytes]:
    """The lines of those of these memory ids of an agent that are stored, by id, without line breaks.

    Args:
        builder: where snapshots come from.
        agent: whose ids they all are.
        wanted: time of each id, microseconds.
        forgotten: give an empty line for each that is hidden, or that was imported, forgotten and purged.

    Raises:
        CorruptionError: a piece that may hold one of them is damaged.
    """
    reading = Reading(builder, agent)
    found = reading.find_many(wanted)
    if forgotten:
        found.update((memory_id, b"") for memory_id in wanted if reading.forgot(memory_id))
    return found


def _find_in(
    reader: PieceReader, manifest: Manifest | None, needle: bytes, time_us: int, on_read: ReadHandler | None
) -> bytes | None:
    """The short way to one record: the files of its day only, without looking at the lanes."""
    if manifest is None or needle in manifest.hidden.needles:
        return None
    refs = manifest.refs_within(day_text(time_us), time_us, time_us)
    for ref in refs if len(refs) <= TRIED_MAX else _likeliest_first(reader, manifest, refs, needle):
        line = reader.find(manifest, ref, needle)
        if line is not None:
            if on_read is not None:
                on_read(manifest.agent, ref.file)
            return line
    return None


def _likeliest_first(
    reader: PieceReader, manifest: Manifest, refs: Sequence[BlockRef | FrameRef], needle: bytes
) -> list[BlockRef | FrameRef]:
    """Pieces that may hold a record, the one before all others in which it would be if all of them were one run.

    Records that were appended in one call share a time, and fill many pieces of it. Within a run their ids are in
    order, so the beginnings of the pieces are bisected; they are not verified, and nothing is believed but the order.
    """
    ordered = sorted(refs, key=attrgetter("file", "offset"))
    place = bisect.bisect_right(ordered, needle, key=lambda ref: reader.beginning(manifest, ref, len(needle))) - 1
    return ordered if place < 0 else [ordered[place], *ordered[:place], *ordered[place + 1 :]]
