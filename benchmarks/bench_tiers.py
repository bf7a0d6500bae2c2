"""tier_warm, tier_cold, their sizes and memory, and reads from every tier; zstd and memstore take turns."""

from __future__ import annotations

import os
import random
import subprocess
from collections.abc import Callable
from time import perf_counter
from typing import Any

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks.bench_reads import Turns
from benchmarks.corpus import unpacked_corpus
from benchmarks.measure import Publish, conclude, over, run_rounds
from benchmarks.report import Ratio, Report, Row
from benchmarks.tiers import (
    END_US,
    FRAME_BYTES,
    LINE_BYTES_MEAN,
    PackedTier,
    bytes_of_tier,
    copied,
    fill,
    hot_lines,
    tier_all,
    zstd_alone,
    zstd_program,
    zstd_solid_bytes,
)
from benchmarks.worker import Worker
from benchmarks.workloads import SEED
from memstore import MemStore
from memstore.codec.zstd import compress, decompress
from memstore.filters import build_filter
from memstore.importers.tree import import_tree
from memstore.timestamps import US_PER_DAY, iso_text

_CACHES_OFF = {"recent_memories_mb": 0, "pattern_cache_mb": 0, "agent_stats_cache_mb": 0}


def _megabytes(option: str, request: pytest.FixtureRequest) -> int:
    return int(request.config.getoption(option)) * 1_000_000


def _source(kind: str, scratch: str, request: pytest.FixtureRequest) -> tuple[str, int, int] | str:
    """A store of day files, and the bytes of what it was made of, apparent and allocated; or why there is none."""
    root = os.path.join(scratch, "hot")
    size = _megabytes("--tier-megabytes", request)
    if kind == "one day":
        fill(root, size_bytes=size)
    elif kind == "many agents":
        fill(root, size_bytes=size // 4, agents=200, days=10)
    else:
        tree = os.path.join(scratch, "tree")
        missing = unpacked_corpus(request.config.getoption("--corpus"), tree)
        if missing:
            return missing
        with MemStore(root, durability="os") as store:
            import_tree(store, tree)
            store.drain()
        found = [os.stat(os.path.join(d, n)) for d, _, names in os.walk(tree) for n in names]
        return root, sum(each.st_size for each in found), sum(each.st_blocks * 512 for each in found)
    size = sum(map(len, hot_lines(root)))
    return root, size, size


@pytest.mark.parametrize("kind", ["one day", "many agents", "corpus"])
@pytest.mark.parametrize("tier", ["warm", "cold"])
def bench_tier(  # noqa: PLR0917 - fixtures
    benchmark: BenchmarkFixture,
    scratch: str,
    rounds: int,
    request: pytest.FixtureRequest,
    publish: Publish,
    tier: PackedTier,
    kind: str,
) -> None:
    """Day files to packed ones, `maintain` from end to end, against zstd in memory and as a program; sizes."""
    name = f"tier_{tier}[{kind}]"
    source = _source(kind, scratch, request)
    if isinstance(source, str):
        publish(Report(name, scratch, "os", 0, 0, [Row("the real corpus", note=source)]))
        pytest.skip(source)
    root, size, on_disk = source
    files = hot_lines(root)
    raw = sum(map(len, files))
    ours: dict[str, list[float]] = {"wall": [], "cpu": []}
    alone: dict[str, list[float]] = {"wall": [], "cpu": []}
    program: list[float] = []
    work = os.path.join(scratch, "work")

    def take() -> None:
        spent, _ = zstd_alone(files, tier)
        alone["wall"].append(raw / spent.wall_s / 1e6)
        alone["cpu"].append(raw / spent.cpu_s / 1e6)
        program.append(raw / zstd_program(copied(root, work), tier) / 1e6)
        spent, _ = tier_all(copied(root, work), tier)
        ours["wall"].append(raw / spent.wall_s / 1e6)
        ours["cpu"].append(raw / spent.cpu_s / 1e6)

    run_rounds(benchmark, take, rounds=rounds)
    apparent, allocated = bytes_of_tier(work, tier)
    solid = zstd_solid_bytes(files, scratch)
    records = sum(data.count(b"\n") for data in files)
    of_what = "tree's files" if kind == "corpus" else "lines"
    report = Report(name, scratch, "os", records, raw)
    report.rows = [
        Row(f"{who}, {what}", rates[what], "MB/s")
        for who, rates in (("tiering", ours), ("zstd alone", alone))
        for what in ("wall", "cpu")
    ]
    report.rows.append(Row("zstd --rm of the day files, nothing synced, wall", program, "MB/s"))
    report.rows += [
        Row("packed files", [apparent], "bytes"),
        Row("packed files, as allocated", [allocated], "bytes"),
        Row("one solid zstd -19 --long=27 (the limit)", [solid], "bytes"),
        Row("incompressible half of the ids", [100 * records * 8 / apparent], "% of packed"),
    ]
    limit = {"warm": 3.0, "cold": 1.5}[tier] if kind == "corpus" else None
    report.ratios = [
        Ratio("tiering / zstd alone, wall", over(ours["wall"], alone["wall"]), 0.5),
        Ratio("tiering / zstd alone, cpu", over(ours["cpu"], alone["cpu"])),
        Ratio("tiering / zstd --rm of the day files, wall", over(ours["wall"], program), 0.5),
        Ratio(f"packed / {of_what}", [100 * apparent / size], limit, at_most=True, unit="%"),
        Ratio(f"packed / {of_what}, both as allocated", [100 * allocated / on_disk], limit, at_most=True, unit="%"),
        Ratio(f"solid / {of_what}", [100 * solid / size], unit="%"),
    ]
    conclude(benchmark, report, publish)


@pytest.mark.parametrize("order", ["in order", "runs overlap", "small runs overlap"])
def bench_tier_memory(
    benchmark: BenchmarkFixture, scratch: str, request: pytest.FixtureRequest, publish: Publish, order: str
) -> None:
    """Peak of a process that packs one day: in order; as runs of 8 MiB of all hours; as 2,000 runs of all hours."""
    root = os.path.join(scratch, "store")
    size = _megabytes("--tier-memory-megabytes", request)
    records = fill(root, size_bytes=size, shuffled=order != "in order", drains=2000 if order.startswith("small") else 1)
    peaks: list[float] = []

    def take(tier: PackedTier) -> None:
        worker = Worker("tier", copied(root, root + "-work"), tier)
        worker.begin()
        peaks.append(worker.result()["peak_kib"] / 1024)

    run_rounds(benchmark, take, rounds=1, args=("cold",))
    report = Report(f"tier_memory[{order}]", scratch, "os", records, size)
    report.rows = [Row("peak resident memory", peaks, "MiB")]
    report.ratios = [Ratio("peak resident memory", peaks, 256, at_most=True, unit="MiB")]
    conclude(benchmark, report, publish)


def _store_of_tiers(scratch: str, size_bytes: int) -> dict[str, str]:
    """The same month in each tier."""
    hot = os.path.join(scratch, "hot")
    fill(hot, size_bytes=size_bytes, days=10)
    roots = {"hot": hot}
    for tier in ("warm", "cold"):
        roots[tier] = copied(hot, os.path.join(scratch, tier))
        tier_all(roots[tier], tier)
    return roots


@pytest.mark.parametrize("frame_cache", ["off", "on"])
def bench_get_tiers(  # noqa: PLR0917 - fixtures
    benchmark: BenchmarkFixture,
    scratch: str,
    rounds: int,
    request: pytest.FixtureRequest,
    publish: Publish,
    frame_cache: str,
) -> None:
    """``get`` of records all over, from each tier, record caches off: at most hot plus two decodings of a frame."""
    size = _megabytes("--tier-megabytes", request) // 4
    roots = _store_of_tiers(scratch, size)
    settings: dict[str, dict[str, Any]] = {"storage": {"caching": _CACHES_OFF}}
    if frame_cache == "off":
        settings["reading"] = {"frame_cache_bytes_max": 0}
    stores = {tier: MemStore(root, read_only=True, settings=settings) for tier, root in roots.items()}
    agent = stores["hot"].agents()[0]
    ids = [record.memory_id for record in stores["hot"].agent(agent).range()]
    lines = b"".join(hot_lines(roots["hot"]))
    frames = {tier: lines[: FRAME_BYTES[tier]] for tier in ("warm", "cold")}
    packed = {tier: compress(data, level=3) for tier, data in frames.items()}
    sides: dict[str, Any] = {tier: store.get for tier, store in stores.items()}
    for tier in ("warm", "cold"):
        sides[f"decode {tier}"] = lambda _, tier=tier: decompress(packed[tier], raw_length=len(frames[tier]))
    turns = Turns(sides)
    choose = random.Random(SEED)

    def take() -> None:
        turns.take([choose.choice(ids) for _ in range(300)])

    take()
    turns.forget()
    run_rounds(benchmark, take, rounds=rounds)
    for store in stores.values():
        store.close()
    report = Report(f"get_tiers[frame cache {frame_cache}]", scratch, "does not matter", len(ids), len(lines))
    report.rows = [Row(f"get_{side}" if " " not in side else side, values, "us") for side, values in turns.us.items()]
    for tier in ("warm", "cold"):
        allowed = [
            hot + 2 * decode for hot, decode in zip(turns.medians["hot"], turns.medians[f"decode {tier}"], strict=True)
        ]
        report.ratios.append(
            Ratio(f"get_{tier} / (get_hot + 2 decodings)", over(turns.medians[tier], allowed), 1.0, at_most=True)
        )
    conclude(benchmark, report, publish)


def bench_recent_over_cold(
    benchmark: BenchmarkFixture, scratch: str, rounds: int, request: pytest.FixtureRequest, publish: Publish
) -> None:
    """``recent(50)`` of an agent whose past is a hot week only, and of one with thousands of cold frames before it."""
    size = _megabytes("--tier-megabytes", request)
    roots = {"none": os.path.join(scratch, "none"), "cold": os.path.join(scratch, "cold")}
    fill(roots["cold"], size_bytes=size, days=10)
    # Frames of 64 KiB, so that there are thousands.
    small = {"cold_frame_bytes": 65_536}
    tier_all(roots["cold"], "cold", settings=small)
    now_us = END_US + 120 * US_PER_DAY
    for root in roots.values():
        with MemStore(root, durability="os") as store:
            agent = store.agents()[0] if root == roots["cold"] else "analyst_agent_001"
            times = [now_us - 3_600_000_000 + 1_000_000 * i for i in range(1000)]
            for time_us in times:
                store.append(agent_id=agent, timestamp=iso_text(time_us), content={"text": "x" * 500})
            store.drain()
    settings = {"storage": {"caching": _CACHES_OFF}}
    stores = {name: MemStore(root, read_only=True, settings=settings) for name, root in roots.items()}
    manifest = stores["cold"]._engine.builder.manifest(agent)  # noqa: SLF001 - how many frames there are
    assert manifest is not None
    frames = sum(len(packed.frames) for packed in manifest.packed.values())

    def recent_of(store: MemStore) -> Callable[[Any], object]:
        return lambda _: store.agent(agent).recent(50)

    turns = Turns({name: recent_of(store) for name, store in stores.items()})
    turns.take(range(20))
    turns.forget()
    run_rounds(benchmark, lambda: turns.take(range(200)), rounds=rounds)
    for store in stores.values():
        store.close()
    report = Report("recent50_over_cold", scratch, "does not matter", size // LINE_BYTES_MEAN, size)
    report.rows = [Row(f"recent(50), {n} before", values, "us") for n, values in turns.us.items()]
    report.rows.append(Row("cold frames", [frames], ""))
    report.ratios = [Ratio("recent(50) over cold / over nothing", turns.over("cold", "none"), 1.25, at_most=True)]
    conclude(benchmark, report, publish)


def bench_range_cold(
    benchmark: BenchmarkFixture, scratch: str, rounds: int, request: pytest.FixtureRequest, publish: Publish
) -> None:
    """Every record of a cold month, as lines and decoded, against ``zstdcat`` of the same file."""
    root = os.path.join(scratch, "store")
    fill(root, size_bytes=_megabytes("--tier-megabytes", request) // 2, days=10)
    raw = sum(map(len, hot_lines(root)))
    tier_all(root, "cold")
    paths = [os.path.join(d, n) for d, _, names in os.walk(root) for n in names if n.endswith(".jsonl.zst")]
    rates: dict[str, list[float]] = {"export": [], "range": [], "zstdcat": []}
    with MemStore(root, read_only=True) as store:
        agent = store.agent(store.agents()[0])

        def take() -> None:
            began = perf_counter()
            with open(os.devnull, "wb") as sink:
                subprocess.run(["zstdcat", *paths], stdout=sink, check=True)
            rates["zstdcat"].append(raw / (perf_counter() - began) / 1e6)
            began = perf_counter()
            lines = store._engine.reader.lines(  # noqa: SLF001 - what an export reads
                agent.agent_id,
                build_filter(now_us=END_US),
                newest_first=False,
                on_damage="raise",
            )
            count = sum(1 for _ in lines)
            rates["export"].append(raw / (perf_counter() - began) / 1e6)
            began = perf_counter()
            assert sum(1 for _ in agent.range()) == count
            rates["range"].append(raw / (perf_counter() - began) / 1e6)

        run_rounds(benchmark, take, rounds=rounds)
    report = Report("range_cold", scratch, "does not matter", raw // LINE_BYTES_MEAN, raw)
    report.rows = [Row(name, values, "MB/s") for name, values in rates.items()]
    report.ratios = [
        Ratio("lines / zstdcat", over(rates["export"], rates["zstdcat"])),
        Ratio("range / zstdcat", over(rates["range"], rates["zstdcat"])),
    ]
    conclude(benchmark, report, publish)


def bench_collapse(
    benchmark: BenchmarkFixture, scratch: str, rounds: int, request: pytest.FixtureRequest, publish: Publish
) -> None:
    """What collapsing repeats costs and saves on the way to cold."""
    root, work = os.path.join(scratch, "hot"), os.path.join(scratch, "work")
    fill(root, size_bytes=_megabytes("--tier-megabytes", request) // 2, days=10)
    raw = sum(map(len, hot_lines(root)))
    every = ["INTERACTION", "CONTEXT", "LEARNING", "SYSTEM_STATE", "PERFORMANCE", "ERROR", "GOAL", "BELIEF", "PLAN"]
    choices: dict[str, dict[str, object]] = {
        "off": {},
        "as set": {"deduplication_enabled": True},
        "every type": {"deduplication_enabled": True, "deduplication_types": every},
    }
    seconds: dict[str, list[float]] = {name: [] for name in choices}
    sizes: dict[str, int] = {}

    def take() -> None:
        for name, settings in choices.items():
            copied(root, work)
            spent, _ = tier_all(work, "cold", settings=settings)
            seconds[name].append(spent.cpu_s)
            sizes[name] = bytes_of_tier(work, "cold")[0]

    run_rounds(benchmark, take, rounds=rounds)
    report = Report("collapse", scratch, "os", raw // LINE_BYTES_MEAN, raw)
    report.rows = [Row(f"cpu, {name}", values, "s") for name, values in seconds.items()]
    report.rows += [Row(f"packed, {name}", [size], "bytes") for name, size in sizes.items()]
    report.ratios = [
        Ratio(f"{name} / off, {what}", values)
        for name in ("as set", "every type")
        for what, values in (
            ("cpu", over(seconds[name], seconds["off"])),
            ("size", [sizes[name] / sizes["off"]]),
        )
    ]
    conclude(benchmark, report, publish)
