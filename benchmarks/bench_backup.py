"""Backups against copying the same files, and verifying against reading the same records; they take turns."""

from __future__ import annotations

import os
import shutil
from time import perf_counter

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks.measure import Publish, conclude, over, run_rounds
from benchmarks.report import Ratio, Report, Row
from benchmarks.workloads import batches, memories
from memstore import MemStore, restore

_BATCH = 4000
_DISTINCT = 20_000


def _fill(root: str, records: int, agents: int) -> None:
    with MemStore(root, durability="os") as store:
        for batch in batches(memories(_DISTINCT, agents=agents), size=_BATCH, total=records):
            store.append_many([memory.fields for memory in batch])
        assert not store.drain().pending


def _read_all(root: str) -> tuple[int, float]:
    """Decode every record; how many, and seconds."""
    began = perf_counter()
    with MemStore(root, read_only=True) as store:
        records = sum(sum(1 for _ in store.agent(agent).range()) for agent in store.agents())
    return records, perf_counter() - began


def _read_lines(root: str) -> float:
    """Read and verify every line, and decode none; seconds."""
    began = perf_counter()
    with MemStore(root, read_only=True) as store:
        for agent in store.agents():
            for _ in store.agent(agent).lines():
                pass
    return perf_counter() - began


@pytest.mark.parametrize("agents", [100, 1000])
def bench_backup(  # noqa: PLR0917 - fixtures
    benchmark: BenchmarkFixture,
    scratch: str,
    rounds: int,
    request: pytest.FixtureRequest,
    publish: Publish,
    agents: int,
) -> None:
    """An unchanged store of a million records in under 2 s; verified at half the speed of reading, or more."""
    root, dest, plain = (os.path.join(scratch, name) for name in ("store", "backups", "plain"))
    records = int(request.config.getoption("--records"))
    _fill(root, records, agents)
    seconds: dict[str, list[float]] = {
        name: [] for name in ("first", "cp", "unchanged", "locked", "verify", "range", "lines", "restore")
    }
    size = 0

    def take() -> None:
        nonlocal size
        for directory in (dest, plain):
            shutil.rmtree(directory, ignore_errors=True)
        began = perf_counter()
        shutil.copytree(os.path.join(root, "memory"), plain)
        os.sync()
        seconds["cp"].append(perf_counter() - began)
        shutil.rmtree(plain)
        with MemStore(root) as store:
            began = perf_counter()
            report = store.backup(dest)
            seconds["first"].append(perf_counter() - began)
            size = report.bytes
            assert report.records == records
            began = perf_counter()
            again = store.backup(dest)
            seconds["unchanged"].append(perf_counter() - began)
            seconds["locked"].append(again.locked_s)
            assert again.copied_bytes == 0
            began = perf_counter()
            verified = store.verify_backup(dest)
            seconds["verify"].append(perf_counter() - began)
            assert verified.is_good
            assert verified.records == records
        count, took = _read_all(root)
        assert count == records
        seconds["range"].append(took)
        seconds["lines"].append(_read_lines(root))
        began = perf_counter()
        assert restore(dest, plain).is_complete
        seconds["restore"].append(perf_counter() - began)

    run_rounds(benchmark, take, rounds=rounds)
    report = Report(f"backup[{agents} agents]", scratch, "fsync", records, size)
    report.rows = [Row(name, values, "s") for name, values in seconds.items()]
    report.ratios = [
        Ratio("backup of an unchanged store", seconds["unchanged"], 2.0, at_most=True, unit="s"),
        Ratio("first backup / copying and syncing the same files, speed", over(seconds["cp"], seconds["first"])),
        Ratio("verify / reading every record, speed", over(seconds["range"], seconds["verify"]), 0.5),
        Ratio("verify / reading every line, speed", over(seconds["lines"], seconds["verify"])),
        Ratio("restore / copying and syncing the same files, speed", over(seconds["cp"], seconds["restore"])),
    ]
    conclude(benchmark, report, publish)
