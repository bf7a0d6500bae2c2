"""check_full: every byte, every record, every count, against unpacking and parsing the same records alone."""

from __future__ import annotations

import os
from collections.abc import Iterator
from time import perf_counter

import pytest

from benchmarks.figures import over
from benchmarks.floors import unpack_and_parse
from benchmarks.measure import Bench
from benchmarks.report import Headline, Report, Row
from benchmarks.tiers import PackedTier, fill, tier_all
from memstore import MemStore
from memstore.manifest.index import BlockRef, FrameRef, Manifest
from memstore.store import engine_of

_AGENTS, _DAYS = 4, 5


@pytest.mark.parametrize("tier", ["hot", "warm", "cold", "indexed"])
def bench_check_full(bench: Bench, tier: str) -> None:
    """A store of one tier, the two in turns; or a hot one whose search index is checked with it."""
    root = os.path.join(bench.scratch, "store")
    fill(root, size_bytes=bench.sizes.tier_bytes // 2, agents=_AGENTS, days=_DAYS)
    if tier == "indexed":
        with MemStore(root) as store:
            store.index()
    elif tier != "hot":
        packed: PackedTier = "warm" if tier == "warm" else "cold"
        tier_all(root, packed)
    pieces, records, size = _pieces(root)
    seconds: dict[str, list[float]] = {"check": [], "floor": []}

    def take() -> None:
        began = perf_counter()
        assert unpack_and_parse(pieces) == records
        seconds["floor"].append(perf_counter() - began)
        with MemStore(root, read_only=True) as store, bench.meter.running():
            began = perf_counter()
            report = store.check(full=True)
            seconds["check"].append(perf_counter() - began)
        assert report.is_clean, report.findings
        assert report.checked.records == records

    bench.run(take)
    report = Report(f"check_full[{tier}]", bench.scratch, "reads only", records, size)
    report.headline = Headline(
        "check(full=True)",
        [each * 1e6 for each in seconds["check"]],
        [records / each for each in seconds["check"]],
        "read, unpack and decode the same records, in one thread",
        over(seconds["floor"], seconds["check"]),
        bench.meter.weight(bench.sizes.rounds * size),
    )
    report.rows = [
        Row("check", [size / each / 1e6 for each in seconds["check"]], "MB/s"),
        Row("floor", [size / each / 1e6 for each in seconds["floor"]], "MB/s"),
    ]
    bench.conclude(report)


def _pieces(root: str) -> tuple[list[tuple[str, BlockRef | FrameRef]], int, int]:
    """Every block and frame of a store with its file, how many records there are, and the bytes of their lines."""
    pieces: list[tuple[str, BlockRef | FrameRef]] = []
    with MemStore(root, read_only=True) as store:
        engine = engine_of(store)
        for manifest in _manifests(store):
            for name in (*manifest.day_files, *manifest.packed):
                path = engine.pieces.path_of(manifest, name)
                pieces += [(path, ref) for ref in manifest.file_refs(name)]
    raw = sum(ref.frame.raw_length if isinstance(ref, FrameRef) else ref.length for _, ref in pieces)
    return pieces, sum(ref.records for _, ref in pieces), raw


def _manifests(store: MemStore) -> Iterator[Manifest]:
    for agent in store.agents():
        manifest = engine_of(store).builder.manifest(agent)
        assert manifest is not None
        yield manifest
