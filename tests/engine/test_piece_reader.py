"""Pieces of every tier read alike: verified, repeats in full, hidden lines left out, wherever a crash left the file."""

import os
from pathlib import Path

import pytest
from lifecycle_support import LIVELY, at, failures, iso
from support import flip

from memstore import MemStore
from memstore.clock import ManualClock
from memstore.engine.piece import SlicePiece
from memstore.errors import CorruptionError, StorageError
from memstore.format.lines import id_needle
from memstore.manifest.index import BlockRef, FrameRef

SETTINGS = {**LIVELY, "storage.lifecycle.deduplication_enabled": True}


@pytest.fixture
def engine(tmp_path):
    """An engine whose agent ``bot`` has a day file, a warm file, and a cold file with repeats."""
    with MemStore(tmp_path / "store", settings=SETTINGS, clock=ManualClock(at(0))) as store:
        for day in (-60, -20, 0):
            store.append_many(
                {
                    "agent_id": "bot",
                    "memory_type": "SYSTEM_STATE",
                    "importance": "LOW",
                    "content": "quiet. " * 40,
                    "timestamp_utc": iso(day + n / 86400),
                }
                for n in range(50)
            )
        assert failures(store.maintain()) == []
        yield store._engine


def files_of(engine):
    """The MANIFEST, and the names of its day file, its warm file and its cold file."""
    manifest = engine.builder.manifest("bot")
    (hot,) = manifest.day_files
    warm, cold = sorted(manifest.packed, key=len, reverse=True)
    return manifest, hot, warm, cold


def read(engine, manifest, name):
    return [line for ref in manifest.file_refs(name) for line in engine.pieces.lines(manifest, ref)]


def move_aside(engine, path):
    trash = Path(path).parent / ".trash"
    trash.mkdir(exist_ok=True)
    os.rename(path, trash / os.path.basename(path))
    engine.handles.drop(path)
    engine.pieces.clear()


def test_each_tier_lies_where_the_page_says(engine):
    manifest, hot, warm, cold = files_of(engine)
    archive = f"{engine.paths.root}/memory/archive/bot"
    assert engine.pieces.path_of(manifest, hot) == f"{manifest.directory}/{hot}"
    assert engine.pieces.path_of(manifest, warm) == f"{manifest.directory}/{warm}"
    assert engine.pieces.path_of(manifest, cold) == f"{archive}/{cold}"


def test_every_tier_gives_whole_lines_in_order(engine):
    manifest, *names = files_of(engine)
    assert manifest.repeats_in(names[2])
    for name in names:
        lines = read(engine, manifest, name)
        assert len(lines) == 50
        assert lines == sorted(lines)
        assert all(line.endswith(b"}") and b'"repeat_of"' not in line and b"quiet." in line for line in lines)
    kinds = {type(ref) for name in names for ref in manifest.file_refs(name)}
    assert kinds == {BlockRef, FrameRef}


def test_a_line_is_found_by_its_id_in_every_tier_repeats_in_full(engine):
    manifest, *names = files_of(engine)
    for name in names:
        for line in read(engine, manifest, name)[::7]:
            needle = line[: line.index(b'","timestamp_utc"') + 1]
            found = [engine.pieces.find(manifest, ref, needle) for ref in manifest.file_refs(name)]
            assert [each for each in found if each is not None] == [line]


def test_hidden_lines_are_left_out_and_still_lend_their_content(engine):
    manifest, _, _, cold = files_of(engine)
    original = read(engine, manifest, cold)[0]
    memory_id = original[14 : original.index(b'","timestamp_utc"')].decode()
    with MemStore(engine.paths.root, settings=SETTINGS, clock=ManualClock(at(0))) as other:
        other.forget(memory_id)
    manifest = engine.builder.manifest("bot")
    lines = read(engine, manifest, cold)
    assert len(lines) == 49
    assert all(b"quiet." in line for line in lines)
    first = manifest.file_refs(cold)[0]
    assert engine.pieces.all_lines(manifest, first)[0] == original
    assert engine.pieces.find(manifest, first, id_needle(memory_id)) == original


@pytest.mark.parametrize("tier", [2, 3])
def test_a_packed_file_that_a_crash_left_in_the_trash_is_read_there(engine, tier):
    manifest, *_ = found = files_of(engine)
    before = read(engine, manifest, found[tier])
    move_aside(engine, engine.pieces.path_of(manifest, found[tier]))
    assert read(engine, manifest, found[tier]) == before


def test_a_file_that_is_nowhere_is_a_move_that_went_by(engine):
    manifest, _, warm, _ = files_of(engine)
    path = engine.pieces.path_of(manifest, warm)
    os.unlink(path)
    engine.handles.drop(path)
    engine.pieces.clear()
    with pytest.raises(FileNotFoundError):
        read(engine, manifest, warm)


def test_an_archive_that_is_gone_as_a_whole_is_said(engine):
    manifest, _, _, cold = files_of(engine)
    archive = f"{engine.paths.root}/memory/archive"
    os.rename(archive, f"{engine.paths.root}/elsewhere")
    engine.handles.drop(engine.pieces.path_of(manifest, cold))
    engine.pieces.clear()
    with pytest.raises(StorageError, match="archive is missing; mount its volume"):
        read(engine, manifest, cold)


def test_damage_in_a_frame_names_the_frame_and_a_repaired_file_reads_anew(engine):
    manifest, _, warm, _ = files_of(engine)
    path = engine.pieces.path_of(manifest, warm)
    first, second, *_ = manifest.file_refs(warm)
    flip(path, second.offset + 20)
    engine.pieces.clear()
    assert len(engine.pieces.lines(manifest, first)) == first.records
    with pytest.raises(CorruptionError) as damaged:
        engine.pieces.lines(manifest, second)
    assert (damaged.value.offset_bytes, damaged.value.length_bytes) == (second.offset, second.length)
    assert damaged.value.records == second.records
    assert not engine.pieces.reads_anew(manifest, second)
    flip(path, second.offset + 20)
    assert engine.pieces.reads_anew(manifest, second)


def test_slices_of_lanes_are_pieces_too(engine):
    with MemStore(engine.paths.root, settings=SETTINGS, clock=ManualClock(at(0))) as other:
        memory_id = other.append(agent_id="bot", content="waits in a lane")
        snapshot = engine.builder.snapshot("bot")
        (piece,) = [piece for pieces in snapshot.slices.values() for piece in pieces]
        assert isinstance(piece, SlicePiece)
        (line,) = engine.pieces.lines(snapshot.manifest, piece)
        assert line.startswith(id_needle(memory_id))
