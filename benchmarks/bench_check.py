"""``check --full`` against unpacking and parsing the same records alone; the two take turns."""

from __future__ import annotations

import os
from collections.abc import Iterator
from time import perf_counter, process_time

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks.measure import Publish, conclude, over, run_rounds
from benchmarks.report import Ratio, Report, Row
from benchmarks.tiers import PackedTier, fill, tier_all
from memstore import MemStore
from memstore.codec.zstd import decompress
from memstore.manifest.index import BlockRef, FrameRef, Manifest
from memstore.record import decode_records


def _pieces(root: str) -> tuple[list[tuple[str, BlockRef | FrameRef]], int, int]:
    """Every block and frame of a store with its file, how many records there are, and the bytes of their lines."""
    pieces: list[tuple[str, BlockRef | FrameRef]] = []
    with MemStore(root, read_only=True) as store:
        engine = store._engine  # noqa: SLF001 - what the floor has to read
        for manifest in _manifests(store):
            for name in (*manifest.day_files, *manifest.packed):
                path = engine.pieces.path_of(manifest, name)
                pieces += [(path, ref) for ref in manifest.file_refs(name)]
    raw = sum(ref.frame.raw_length if isinstance(ref, FrameRef) else ref.length for _, ref in pieces)
    return pieces, sum(ref.records for _, ref in pieces), raw


def _manifests(store: MemStore) -> Iterator[Manifest]:
    for agent in store.agents():
        manifest = store._engine.builder.manifest(agent)  # noqa: SLF001 - what the floor has to read
        assert manifest is not None
        yield manifest


def unpack_and_parse(pieces: list[tuple[str, BlockRef | FrameRef]]) -> int:
    """Read each piece, unpack it, decode its records, and nothing else; how many records that were."""
    records = 0
    descriptors: dict[str, int] = {}
    for path, ref in pieces:
        if path not in descriptors:
            for descriptor in descriptors.values():
                os.close(descriptor)
            descriptors = {path: os.open(path, os.O_RDONLY)}
        data = os.pread(descriptors[path], ref.length, ref.offset)
        if isinstance(ref, FrameRef):
            data = decompress(data, raw_length=ref.frame.raw_length)
        lines = data.split(b"\n")
        lines.pop()
        records += len(decode_records(lines))
    for descriptor in descriptors.values():
        os.close(descriptor)
    return records


@pytest.mark.parametrize("agents", [1, 200])
@pytest.mark.parametrize("tier", ["hot", "warm", "cold"])
def bench_check_full(  # noqa: PLR0917 - fixtures
    benchmark: BenchmarkFixture,
    scratch: str,
    rounds: int,
    request: pytest.FixtureRequest,
    publish: Publish,
    tier: str,
    agents: int,
) -> None:
    """Every byte, every record, every count, at half the speed of unpacking and parsing alone, or more."""
    root = os.path.join(scratch, "store")
    size = int(request.config.getoption("--tier-megabytes")) * 500_000
    fill(root, size_bytes=size, agents=agents, days=10)
    if tier != "hot":
        packed: PackedTier = "warm" if tier == "warm" else "cold"
        tier_all(root, packed)
    pieces, records, raw = _pieces(root)
    rates: dict[str, list[float]] = {"check": [], "alone": [], "check cpu": [], "alone cpu": []}

    def take() -> None:
        began, began_cpu = perf_counter(), process_time()
        assert unpack_and_parse(pieces) == records
        rates["alone"].append(raw / (perf_counter() - began) / 1e6)
        rates["alone cpu"].append(raw / (process_time() - began_cpu) / 1e6)
        with MemStore(root, read_only=True) as store:
            began, began_cpu = perf_counter(), process_time()
            report = store.check(full=True)
            rates["check"].append(raw / (perf_counter() - began) / 1e6)
            rates["check cpu"].append(raw / (process_time() - began_cpu) / 1e6)
        assert report.is_clean, report.findings
        assert report.checked.records == records

    run_rounds(benchmark, take, rounds=rounds)
    report = Report(f"check_full[{tier}, {agents} agents]", scratch, "does not matter", records, raw)
    report.rows = [
        Row("check --full", rates["check"], "MB/s"),
        Row("unpack and parse alone", rates["alone"], "MB/s"),
    ]
    report.ratios = [
        Ratio("check / alone, wall", over(rates["check"], rates["alone"]), 0.5),
        Ratio("check / alone, cpu", over(rates["check cpu"], rates["alone cpu"]), 0.5),
    ]
    conclude(benchmark, report, publish)
