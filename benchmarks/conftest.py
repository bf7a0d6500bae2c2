"""Options, a scratch directory on a real disk, and the summary at the end."""

from __future__ import annotations

import gc
import os
import shutil
import tempfile
from collections.abc import Iterator

import pytest

from benchmarks.measure import Publish
from benchmarks.report import Report, machine_line, summary
from benchmarks.searching import fill_for_search
from memstore import MemStore

_reports = pytest.StashKey[list[Report]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("memstore")
    group.addoption(
        "--bench-dir", default=None, help="where to write; the temporary directory, unless that is no real disk"
    )
    group.addoption("--records", type=int, default=1_000_000, help="records of the growth benchmark (1000000)")
    group.addoption("--rounds", type=int, default=5, help="interleaved rounds of each benchmark (5)")
    group.addoption("--fill-records", type=int, default=400_000, help="records per round of fill_batch (400000)")
    group.addoption("--search-records", type=int, default=1_000_000, help="records of the search benchmarks (1000000)")
    group.addoption("--tier-megabytes", type=int, default=200, help="lines of the tier benchmarks, in MB (200)")
    group.addoption("--tier-memory-megabytes", type=int, default=1000, help="lines of tier_memory, in MB (1000)")
    group.addoption(
        "--corpus", default=None, help="a tree of real memories (a directory, or a .tar.zst of one) for import_tree"
    )


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_reports] = []


@pytest.fixture
def rounds(request: pytest.FixtureRequest) -> int:
    """How many interleaved rounds."""
    return int(request.config.getoption("--rounds"))


@pytest.fixture
def scratch(request: pytest.FixtureRequest) -> Iterator[str]:
    """An empty directory on a real disk, gone afterwards."""
    chosen = request.config.getoption("--bench-dir")
    if chosen is not None:
        os.makedirs(chosen, exist_ok=True)
    base = os.path.abspath(chosen or tempfile.gettempdir())
    if "tmpfs" in machine_line(base):
        pytest.fail(f"{base} is in memory, where syncs cost nothing: choose a directory on a disk with --bench-dir")
    directory = tempfile.mkdtemp(prefix="memstore-bench-", dir=base)
    gc.collect()
    yield directory
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture(scope="session")
def searched(request: pytest.FixtureRequest) -> Iterator[tuple[str, int, int]]:
    """A store of ``--search-records`` records with its index, shared by the search benchmarks: root, records, bytes."""
    records = int(request.config.getoption("--search-records"))
    base = os.path.abspath(request.config.getoption("--bench-dir") or tempfile.gettempdir())
    os.makedirs(base, exist_ok=True)
    directory = tempfile.mkdtemp(prefix="memstore-search-", dir=base)
    size = fill_for_search(os.path.join(directory, "store"), records)
    with MemStore(os.path.join(directory, "store"), settings={"search.background": False}) as store:
        store.index()
    yield os.path.join(directory, "store"), records, size
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture
def publish(request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]) -> Publish:
    """Print a report and keep it for the summary."""

    def show(report: Report) -> None:
        request.config.stash[_reports].append(report)
        with capsys.disabled():
            print(f"\n\n{report.text()}")

    return show


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    reports = config.stash[_reports]
    if reports:
        terminalreporter.section("targets")
        terminalreporter.write_line(machine_line(reports[0].directory))
        terminalreporter.write_line(summary(reports))
