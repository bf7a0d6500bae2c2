"""Whose a directory is that lost its MANIFEST, and whose name is a hash: a whole record in it says so."""

from __future__ import annotations

from typing import Any

import pytest

from memstore.fs.local import LocalStorage
from memstore.ids import agent_directory
from memstore.ops.repair.whose_directory import agent_by_files

AGENT = "Someone / else"


def line(agent: str) -> bytes:
    return b'{"memory_id":"%b_20250203_100000_0000010000000000000000"}\n' % agent.encode()


@pytest.mark.parametrize("first", [b"", b"\n", b'{"memory_id":"\x00', line(AGENT)[:30], line("another")])
def test_a_file_that_cannot_say_whose_it_is_leaves_that_to_the_next(tmp_path: Any, first: bytes) -> None:
    home = tmp_path / agent_directory(AGENT)
    home.mkdir()
    (home / "20250201.1.jsonl").write_bytes(first)
    assert agent_by_files(LocalStorage(), str(home)) is None
    (home / "20250202.2.jsonl").write_bytes(line(AGENT))
    assert agent_by_files(LocalStorage(), str(home)) == AGENT
