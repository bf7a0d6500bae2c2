"""What is found good of a file can be read again, as it was found, whatever had to be done to find it so."""

from __future__ import annotations

import os
import shutil
from typing import Any

import pytest
from support import files_named, flip

from memstore.codec.checksum import checksum
from memstore.fs.local import LocalStorage
from memstore.manifest.index import SETTLED, BlockRef
from memstore.ops.record_lines import RecordLines
from memstore.ops.repair.bit_search import SEARCH_BYTES_MAX
from memstore.ops.repair.good_copies import NoCopies, OrderedCopies, TreeCopies
from memstore.ops.repair.good_pieces import piece_lines
from memstore.ops.repair.salvage_day_file import DayFilePlace, salvage_day_file


@pytest.mark.parametrize("how", ["by its bit", "from a copy"])
def test_a_mended_block_of_which_the_index_says_what_is_not_so_is_read_piece_by_piece(
    rich: str, tmp_path: Any, how: str
) -> None:
    storage = LocalStorage()
    path = files_named(rich, "a/20250203.11.jsonl")[0]  # of two merges that overlap in time: in two blocks
    with open(path, "rb") as file:
        data = file.read()
    assert len(data) < SEARCH_BYTES_MAX
    shutil.copytree(rich, tmp_path / "copy")
    flip(path, len(data) - 9)
    if how == "from a copy":
        flip(path, len(data) - 99)  # two bits nobody can search
    sources = [TreeCopies(storage, str(tmp_path / "copy"), name="the copy")]
    copies = OrderedCopies(sources) if how == "from a copy" else NoCopies()
    one = BlockRef(0, 0, 0, len(data), 99, os.path.basename(path), checksum(data), SETTLED)
    found = salvage_day_file(
        storage,
        DayFilePlace(path, listed=True),
        [one],
        lines=RecordLines("a"),
        copies=copies,
        refuse=None,
        ingested_us=0,
    )
    assert len(found.pieces) > 1
    assert not found.lost
    assert b"".join(piece_lines(storage, found, piece, copies=copies) for piece in found.pieces) == data
