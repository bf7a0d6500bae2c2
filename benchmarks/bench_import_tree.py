"""import_tree: a tree of one JSON file per memory into a durable store, against only reading and parsing the files."""

from __future__ import annotations

import os
from time import perf_counter

from benchmarks.aside import put_aside
from benchmarks.figures import over
from benchmarks.floors import forget_files, read_and_parse
from benchmarks.measure import Bench
from benchmarks.peers import write_tree
from benchmarks.report import Headline, Report, Row
from benchmarks.workloads import memories, tree_object
from memstore import MemStore
from memstore.importers.tree import import_tree

_AGENTS = 50


def bench_import_tree(bench: Bench) -> None:
    """Until the last file is durable; for both sides the tree is on disk and not in memory."""
    tree, root = os.path.join(bench.scratch, "tree"), os.path.join(bench.scratch, "store")
    pool = memories(bench.sizes.import_files, agents=_AGENTS)
    write_tree(tree, (tree_object(memory, index) for index, memory in enumerate(pool)))
    files, size, refused = read_and_parse(tree)
    assert not refused
    os.sync()
    seconds: dict[str, list[float]] = {"floor": [], "import": [], "merged": []}

    def before() -> tuple[tuple[MemStore], dict[str, object]]:
        os.sync()
        forget_files(tree)
        began = perf_counter()
        read_and_parse(tree)
        seconds["floor"].append(perf_counter() - began)
        forget_files(tree)
        return (MemStore(root),), {}

    def load(store: MemStore) -> None:
        with bench.meter.running():
            began = perf_counter()
            report = import_tree(store, tree)
            seconds["import"].append(perf_counter() - began)
            store.close()
            seconds["merged"].append(perf_counter() - began)
        assert report.files == files

    bench.run(load, setup=before, teardown=lambda _: put_aside(root))
    report = Report("import_tree", bench.scratch, "fsync", files, size)
    report.headline = Headline(
        "import of the tree",
        [each * 1e6 for each in seconds["import"]],
        [files / each for each in seconds["import"]],
        "read and parse every file",
        over(seconds["floor"], seconds["import"]),
        bench.meter.weight(bench.sizes.rounds * size),
    )
    report.rows = [
        Row("sealed and merged too", [files / each for each in seconds["merged"]], "records/s"),
        Row("floor", [files / each for each in seconds["floor"]], "records/s"),
    ]
    bench.conclude(report)
