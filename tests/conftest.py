"""Fixtures of all tests. Plain functions are in ``support.py``, which this file's place makes importable."""

from __future__ import annotations

import json
import os
import signal
import tempfile
from collections.abc import Iterator

import pytest
import tally
from hypothesis import settings

from memstore import MemStore

TOLD_CHARACTERS_MAX = 4000
# `make test` tries the same examples each time; a long run (`LIFECYCLE_EXAMPLES=500`) others.
settings.register_profile("the same each time", derandomize=True, database=None)
if "LIFECYCLE_EXAMPLES" not in os.environ:
    settings.load_profile("the same each time")


@pytest.hookimpl(trylast=True)
def pytest_configure(config: pytest.Config) -> None:
    """Let Ctrl-C be heard: a shell that runs tests in the background has them ignore it, and some of them send it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    terminal = config.pluginmanager.get_plugin("terminalreporter")
    if terminal is not None:
        config.pluginmanager.register(ToldAtOnce(terminal))


@pytest.hookimpl(wrapper=True)
def pytest_sessionstart(session: pytest.Session) -> Iterator[None]:
    """One file of counts for this run and all its workers, unless one is given."""
    if tally.FILE not in os.environ and not hasattr(session.config, "workerinput"):
        descriptor, os.environ[tally.FILE] = tempfile.mkstemp(prefix="memstore-tally-")
        os.close(descriptor)
        session.config.add_cleanup(lambda: os.unlink(os.environ.pop(tally.FILE)))
    return (yield)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What is marked so goes first: a fork costs by the size of its process, and workers grow with what they have run.

    And whatever takes a minute is not what one worker is still at when the others have nothing left.
    """
    items.sort(key=lambda item: item.get_closest_marker("first") is None)


class ToldAtOnce:
    """Failures are told when they happen, not only at the end: a run may be cut off before it."""

    def __init__(self, terminal: pytest.TerminalReporter) -> None:
        self._terminal = terminal

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Of this process, or of a worker."""
        if report.failed:
            self._terminal.write_line(f"\n{report.when} of {report.nodeid} failed after {report.duration:.1f} s:")
            self._terminal.write_line(report.longreprtext[-TOLD_CHARACTERS_MAX:])


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """What was tried."""
    lines = tally.sentences(os.environ[tally.FILE]) if os.path.exists(os.environ.get(tally.FILE, "")) else []
    if lines:
        terminalreporter.section("tried")
        for line in lines:
            terminalreporter.write_line(line)


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
