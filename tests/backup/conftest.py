from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from typing import Any

import pytest
from lifecycle_support import Lines
from rich_store import open_rich, rich_store

from memstore import MemStore


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Lines]:
    """A store with a file of every kind, which nobody changes, and the lines that it holds."""
    root = str(tmp_path_factory.mktemp("model") / "store")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CONFIG_HOME", root + ".no-config")
        lines = rich_store(root)
    return root, lines


@pytest.fixture
def lines(model: Any) -> Lines:
    """What reads of the whole store give, by agent and id."""
    return {agent: dict(of_agent) for agent, of_agent in model[1].items()}


@pytest.fixture
def rich(model: Any, tmp_path: Any) -> str:
    """The root of a copy of the model."""
    return shutil.copytree(model[0], os.path.join(tmp_path, "store"))


@pytest.fixture
def rich_open(rich: str) -> Iterator[MemStore]:
    """That copy, open."""
    with open_rich(rich) as store:
        yield store


@pytest.fixture
def dest(tmp_path: Any) -> str:
    """Where backups go; not there yet."""
    return os.path.join(tmp_path, "backups")
