from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from memstore.cli.main import main


@dataclass(frozen=True)
class Result:
    code: int
    out: str
    err: str


Memstore = Callable[..., Result]


class _Stdin(io.TextIOWrapper):
    def __init__(self, data: bytes, *, terminal: bool) -> None:
        super().__init__(io.BufferedReader(io.BytesIO(data)), encoding="utf-8")
        self._terminal = terminal

    def isatty(self) -> bool:
        return self._terminal


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    for name in ("MEMSTORE_ROOT", "MEMSTORE_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "no-user-config"))
    monkeypatch.setenv("COLUMNS", "100")


@pytest.fixture
def root(tmp_path) -> str:
    return str(tmp_path / "store")


@pytest.fixture
def memstore(root: str, capsysbinary, monkeypatch: pytest.MonkeyPatch) -> Memstore:
    """The command line in this process, on a store of the test's own."""

    def call(*arguments: str, stdin: bytes | None = None, with_root: bool = True) -> Result:
        monkeypatch.setattr(sys, "stdin", _Stdin(stdin or b"", terminal=stdin is None))
        capsysbinary.readouterr()
        code = main([*(("--root", root) if with_root else ()), *arguments])
        out, err = capsysbinary.readouterr()
        return Result(code, out.decode(), err.decode())

    return call


@pytest.fixture
def run_process(root: str) -> Callable[..., subprocess.CompletedProcess[bytes]]:
    """The command line as a process of its own."""

    def call(*arguments: str, **options) -> subprocess.CompletedProcess[bytes]:
        command = [sys.executable, "-m", "memstore", "--root", root, *arguments]
        return subprocess.run(command, capture_output=True, timeout=60, check=False, **options)

    return call
