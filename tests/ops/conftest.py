from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from typing import Any

import pytest
from kept_store import Kept, keep_copies
from rich_store import rich_store

from memstore.clock import WallClock
from memstore.format.names import StorePaths
from memstore.fs.local import LocalStorage
from memstore.ops.check import check_store
from memstore.ops.report import CheckReport


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, dict[str, dict[str, bytes]]]:
    """A store with a file of every kind, which nobody changes, and the lines that it holds."""
    root = str(tmp_path_factory.mktemp("model") / "store")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CONFIG_HOME", root + ".no-config")
        lines = rich_store(root)
    return root, lines


@pytest.fixture
def lines(model: Any) -> dict[str, dict[str, bytes]]:
    """What reads of the whole store give, by agent and id."""
    return {agent: dict(of_agent) for agent, of_agent in model[1].items()}


@pytest.fixture
def rich(model: Any, tmp_path: Any) -> str:
    """The root of a copy of the model."""
    return shutil.copytree(model[0], os.path.join(tmp_path, "store"))


@pytest.fixture
def look(rich: str) -> Callable[..., CheckReport]:
    """Checks the copy."""

    def call(root: str = rich, **options: Any) -> CheckReport:
        options.setdefault("full", True)
        return check_store(LocalStorage(), StorePaths(root), clock=WallClock(), **options)

    return call


@pytest.fixture
def kept(rich: str, tmp_path: Any) -> Kept:
    """The copy of the model, with a second copy and a backup of its own."""
    return keep_copies(rich, tmp_path)
