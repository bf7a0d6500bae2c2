"""The whole page: on what it was measured, how to repeat it, targets, losses, and every figure."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.page.document import Block, Command, Heading, Items, Table, Text
from benchmarks.page.growth import growth_blocks
from benchmarks.page.peers import peer_blocks
from benchmarks.page.targets import loss_blocks, target_blocks
from benchmarks.page.workloads import detail_blocks, workload_blocks
from benchmarks.results import Run

TITLE = "What memstore was measured to do"
_COMMAND = {"bench": "make bench bench-page", "full": "make bench-full bench-page"}


def page(run: Run) -> list[Block]:
    """All parts in their order."""
    return [
        Heading(TITLE, 1),
        *_opening(run),
        *target_blocks(run),
        *loss_blocks(run),
        *workload_blocks(run),
        *growth_blocks(run),
        *peer_blocks(run),
        *detail_blocks(run),
    ]


def _opening(run: Run) -> Iterator[Block]:
    command = _COMMAND.get(run.size, f"python -m pytest benchmarks --size {run.size}")
    yield Text(
        "Made by `python -m benchmarks.page` from the results of runs; not written by hand. Absolute figures do not "
        "travel from machine to machine, ratios to a floor in the same run do."
    )
    machine = run.machine
    load = " before, ".join(f"{load:.1f}" for load in run.load) + " after"
    yield Table(
        ("", ""),
        (
            ("taken", run.taken.split(".")[0]),
            ("commit", run.commit),
            ("set", f"{run.size}, {run.rounds} rounds, {run.took_s / 60:.0f} minutes"),
            ("processors", f"{machine['cpus']}, {machine['processor']}"),
            ("memory", f"{machine['memory_gib']} GiB"),
            ("system", machine["kernel"]),
            ("file system", machine["file_system"]),
            ("one record written and synced (`fdatasync`)", f"{machine['fdatasync_us']} µs"),
            ("an empty file made", f"{machine.get('create_us', '?')} µs"),
            ("Python", f"{machine['implementation']} {machine['python']}"),
            ("versions", ", ".join(f"{name} {version}" for name, version in machine["versions"].items())),
            ("load of the machine", f"{load}; {_busy(run)}"),
            *(("from another run", text) for text in run.added),
        ),
        words=2,
    )
    yield Heading("How to repeat it")
    yield Command((command, "make bench-compare"))
    yield Items(
        (
            "`make bench` takes ten minutes on two processors; `make bench-full` goes on to 10 million records.",
            "It writes to the temporary directory, which must be on a disk: `BENCH_DIR` names another.",
            "One workload: `.venv/bin/python -m pytest benchmarks -k bench_fill_batch`.",
            "Where its time goes, as a flame graph: `make profile WORKLOAD=fill_batch`.",
            "Targets stand in `benchmarks/targets.py`, sizes in `benchmarks/sizes.py`, floors in `benchmarks/floors`.",
        )
    )


def _busy(run: Run) -> str:
    """Load before the run is of others; the run itself takes about one processor."""
    cpus = int(run.machine["cpus"])
    return "others used it" if run.load and run.load[0] > cpus / 4 else "nothing else to do when it began"
