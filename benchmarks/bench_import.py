"""import_tree: a tree of one file per memory into a durable store, against only reading and parsing the same files."""

from __future__ import annotations

import os
import shutil
from time import perf_counter

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks.corpus import unpacked_corpus
from benchmarks.floors import forget_files, read_and_parse
from benchmarks.measure import Publish, conclude, run_rounds
from benchmarks.peers import write_tree
from benchmarks.report import Ratio, Report, Row
from benchmarks.workloads import memories, tree_object
from memstore import MemStore
from memstore.importers.tree import import_tree


@pytest.mark.parametrize("cache", ["cold", "warm"])
@pytest.mark.parametrize("source", ["generated", "corpus"])
def bench_import_tree(  # noqa: PLR0917 - fixtures
    benchmark: BenchmarkFixture,
    scratch: str,
    rounds: int,
    request: pytest.FixtureRequest,
    publish: Publish,
    source: str,
    cache: str,
) -> None:
    """Until the last file is durable in the store; for both sides the tree is on disk (cold) or in memory (warm)."""
    name = f"import_tree[{source}, {cache}]"
    tree = os.path.join(scratch, "tree")
    if source == "generated":
        write_tree(tree, (tree_object(memory, index) for index, memory in enumerate(memories(20_000, agents=50))))
    else:
        missing = unpacked_corpus(request.config.getoption("--corpus"), tree)
        if missing:
            publish(Report(name, scratch, "fsync", 0, 0, [Row("the real corpus", note=missing)]))
            pytest.skip(missing)
    files, size, refused = read_and_parse(tree)
    os.sync()
    root = os.path.join(scratch, "store")
    floors: list[float] = []
    imports: list[float] = []
    whole: list[float] = []

    def before() -> tuple[tuple[MemStore], dict[str, object]]:
        os.sync()
        if cache == "cold":
            forget_files(tree)
        started = perf_counter()
        assert read_and_parse(tree)[0] == files
        floors.append(files / (perf_counter() - started))
        if cache == "cold":
            forget_files(tree)
        return (MemStore(root),), {}

    def load(store: MemStore) -> None:
        started = perf_counter()
        report = import_tree(store, tree)
        imports.append(files / (perf_counter() - started))
        store.close()
        whole.append(files / (perf_counter() - started))
        assert report.files == files
        assert report.damaged >= refused or source == "corpus"

    run_rounds(benchmark, load, setup=before, teardown=lambda _: shutil.rmtree(root), rounds=rounds)
    report = Report(name, scratch, "fsync", files, size)
    report.rows = [
        Row("import, durable", imports, "files/s"),
        Row("import, sealed and merged", whole, "files/s"),
        Row("floor: read and parse", floors, "files/s"),
    ]
    report.ratios = [
        Ratio("import / floor", [a / b for a, b in zip(imports, floors, strict=True)], 0.5),
        Ratio("import and merge / floor", [a / b for a, b in zip(whole, floors, strict=True)]),
    ]
    conclude(benchmark, report, publish)
