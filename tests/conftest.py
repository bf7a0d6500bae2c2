"""Fixtures of all tests. Plain functions are in ``support.py``, which this file's place makes importable."""

from __future__ import annotations

import json

import pytest

from memstore import MemStore


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """The user's own settings file must not decide what a test sees."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path_factory.getbasetemp() / "no-config"))


@pytest.fixture
def store(tmp_path):
    """An empty store that is drained only when it is asked to."""
    with MemStore(tmp_path / "store", settings={"merging.background": False, "storage.ballast_bytes": 0}) as opened:
        yield opened


@pytest.fixture
def tree(tmp_path):
    """A function that writes a file of a one-file-per-memory tree; its ``root`` is the tree."""
    root = tmp_path / "tree"
    root.mkdir()

    def write(path, value):
        target = root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(value if isinstance(value, bytes) else json.dumps(value).encode())

    write.root = root
    return write
