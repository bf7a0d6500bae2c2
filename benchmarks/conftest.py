"""Options, what workloads are given, and the summary at the end."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from time import monotonic
from typing import Any

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks.aside import MakeDirectory, empty_files
from benchmarks.library import Library
from benchmarks.machine import is_in_memory, machine, machine_line
from benchmarks.measure import Bench, Publish
from benchmarks.meter import give_memory_back
from benchmarks.report import Report, summary
from benchmarks.sizes import SIZES, Sizes

_reports = pytest.StashKey[list[Report]]()
_load = pytest.StashKey[list[float]]()
_began = pytest.StashKey[float]()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("memstore")
    group.addoption("--size", default="bench", choices=list(SIZES), help="how much of everything (bench)")
    group.addoption(
        "--rounds", type=int, default=None, help="interleaved rounds of each workload; the size says how many"
    )
    group.addoption(
        "--bench-dir", default=None, help="where to write; the temporary directory, unless that is no real disk"
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "extra: not one of the named workloads; left out where ten minutes are all there is"
    )
    config.stash[_reports] = []
    config.stash[_load] = [os.getloadavg()[0]]
    config.stash[_began] = monotonic()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Unless asked for by name, what is extra is left out of the ten-minute set."""
    if config.getoption("--size") == "bench" and not config.getoption("keyword"):
        extra = [item for item in items if item.get_closest_marker("extra")]
        config.hook.pytest_deselected(items=extra)
        items[:] = [item for item in items if not item.get_closest_marker("extra")]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Variants whose number depends on the size."""
    sizes = SIZES[metafunc.config.getoption("--size")]
    for name, values in (
        ("crowd", sizes.crowds),
        ("grown_records", sizes.growth_records),
        ("grown_agents", sizes.growth_agents),
    ):
        if name in metafunc.fixturenames:
            metafunc.parametrize(name, values)


def pytest_benchmark_update_machine_info(config: pytest.Config, machine_info: dict[str, Any]) -> None:
    """On what it was measured, in words of our own; the host's name is nobody's business."""
    machine_info.clear()
    machine_info.update(machine(_base(config)))


def pytest_benchmark_update_json(config: pytest.Config, output_json: dict[str, Any]) -> None:
    """How much was measured, how long that took, and how busy the machine was at the start and at the end."""
    sizes = _sizes(config)
    load = [*config.stash[_load], os.getloadavg()[0]]
    took_s = monotonic() - config.stash[_began]
    output_json["memstore"] = {"size": sizes.name, "rounds": sizes.rounds, "load": load, "took_s": took_s}


@pytest.fixture(scope="session", autouse=True)
def looked_at_machine(request: pytest.FixtureRequest) -> None:
    """What a sync costs is measured before anything else is written, and kept."""
    machine(_base(request.config))


@pytest.fixture(scope="session")
def sizes(request: pytest.FixtureRequest) -> Sizes:
    """How much of everything."""
    return _sizes(request.config)


@pytest.fixture
def rounds(sizes: Sizes) -> int:
    """How many interleaved rounds."""
    return sizes.rounds


@pytest.fixture(scope="session")
def make_directory(request: pytest.FixtureRequest) -> Iterator[MakeDirectory]:
    """Makes empty directories, which go when everything is measured and not before (`benchmarks.aside`)."""
    made: list[str] = []

    def make(prefix: str) -> str:
        made.append(tempfile.mkdtemp(prefix=prefix, dir=_base(request.config)))
        return made[-1]

    yield make
    for directory in made:
        shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture
def scratch(request: pytest.FixtureRequest, make_directory: MakeDirectory) -> Iterator[str]:
    """An empty directory on a real disk, emptied afterwards."""
    base = _base(request.config)
    if is_in_memory(base) and request.config.getoption("--size") != "smoke":
        pytest.fail(f"{base} is in memory, where syncs cost nothing: choose a directory on a disk with --bench-dir")
    directory = make_directory("memstore-bench-")
    give_memory_back()
    yield directory
    empty_files(directory)


@pytest.fixture
def bench(benchmark: BenchmarkFixture, scratch: str, sizes: Sizes, publish: Publish) -> Bench:
    """All of it together."""
    return Bench(scratch, sizes, benchmark, publish)


@pytest.fixture(scope="session")
def library(make_directory: MakeDirectory, sizes: Sizes) -> Library:
    """Stores that several workloads read."""
    return Library(make_directory("memstore-library-"), sizes)


@pytest.fixture(scope="session")
def grown() -> dict[int, float]:
    """Append rates that growth has measured in this run, by number of records."""
    return {}


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
        terminalreporter.write_line(machine_line(_base(config)))
        terminalreporter.write_line(summary(reports))


def _base(config: pytest.Config) -> str:
    chosen = config.getoption("--bench-dir")
    if chosen is not None:
        os.makedirs(chosen, exist_ok=True)
    return os.path.abspath(chosen or tempfile.gettempdir())


def _sizes(config: pytest.Config) -> Sizes:
    chosen = SIZES[config.getoption("--size")]
    rounds = config.getoption("--rounds")
    return chosen if rounds is None else chosen.with_rounds(rounds)
