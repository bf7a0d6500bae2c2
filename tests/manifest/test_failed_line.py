"""A line of a MANIFEST that was refused stays refused: what it names is thrown away next."""

from __future__ import annotations

from typing import Any

import pytest
from test_manifests import merge_line

from memstore.errors import StorageError, StorageFullError, WriterBrokenError
from memstore.manifest.reader import load_manifest
from memstore.manifest.writer import open_manifest
from memstore.testing.crashing import CrashingStorage

DISKS = 60


def full(path: str) -> StorageFullError:
    return StorageFullError(f"{path}: no space left (injected)")


def refused_line(storage: CrashingStorage, *, then: Any = None) -> StorageError:
    """What befalls a line of which all bytes reach the page cache before the write is refused."""
    storage.make_directory("/bot")
    storage.sync_directory("/")
    writer = open_manifest(storage, "/bot", "bot", known=None, at_us=1, on_torn=lambda *_: None)
    writer.append(merge_line(1))
    writer.file.sync_data()
    storage.sync_directory("/bot")
    storage.power.fail("write", error=full, written_bytes=10_000)
    if then is not None:
        then()
    with pytest.raises(StorageError) as refused:
        writer.append(merge_line(2))
    return refused.value


def merges_of(storage: CrashingStorage, seed: int) -> int:
    manifest = load_manifest(storage.crash(seed), "/bot")
    assert manifest is not None
    return len(manifest.merges)


def test_no_power_cut_brings_a_line_back_that_was_refused() -> None:
    storage = CrashingStorage()
    assert isinstance(refused_line(storage), StorageFullError)
    storage.power.cut()
    assert {merges_of(storage, seed) for seed in range(DISKS)} == {1}


@pytest.mark.parametrize("call", ["truncate", "sync_data"])
def test_where_it_cannot_be_taken_back_for_certain_that_is_said(call: str) -> None:
    storage = CrashingStorage()
    error = refused_line(storage, then=lambda: storage.power.fail(call))
    assert isinstance(error, WriterBrokenError)
    storage.power.cut()
    assert {merges_of(storage, seed) for seed in range(DISKS)} == {1, 2}
