"""What a benchmark runs in processes of its own: ``python -m benchmarks.worker {fill,open,tier} ...``.

A worker says ``ready`` when it has made its records and opened the store, begins when it gets a line, and ends with one
JSON object; the times in it are of the clock that all processes of a machine share.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
from collections.abc import Sequence
from time import monotonic, perf_counter
from typing import IO, Any

from benchmarks.searching import QUESTIONS
from benchmarks.tiers import tier_all
from benchmarks.workloads import SEED, batches, memories
from memstore import MemStore

_REPOSITORY = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
POOL_RECORDS = 4000
"""Different records a worker has; few, because its memory is measured."""


class Worker:
    """One process, from the outside."""

    def __init__(self, *arguments: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.worker", *arguments],
            cwd=_REPOSITORY,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        if self._output.readline() != "ready\n":
            raise RuntimeError(f"worker {arguments} did not start; it ended with {self._process.wait()}")

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        return self._process.poll() is None

    def begin(self) -> None:
        """Let it work."""
        assert self._process.stdin is not None
        self._process.stdin.write("go\n")
        self._process.stdin.flush()

    def result(self) -> dict[str, Any]:
        """Wait for its end."""
        text = self._output.read()
        code = self._process.wait()
        if code != 0:
            raise RuntimeError(f"a worker ended with {code}")
        found: dict[str, Any] = json.loads(text)
        return found

    @property
    def _output(self) -> IO[str]:
        assert self._process.stdout is not None
        return self._process.stdout


def run_together(commands: Sequence[Sequence[str]]) -> list[dict[str, Any]]:
    """Run workers at the same time; their results."""
    workers = [Worker(*command) for command in commands]
    for worker in workers:
        worker.begin()
    return [worker.result() for worker in workers]


def fill_command(
    root: str, *, durability: str, records: int, batch: int, seed: int = SEED, agents: int = 1000
) -> list[str]:
    """Arguments of a worker that appends; ``batch`` 1: one record at a time."""
    return [
        "fill",
        root,
        f"--durability={durability}",
        f"--records={records}",
        f"--batch={batch}",
        f"--seed={seed}",
        f"--agents={agents}",
    ]


def _fill(options: argparse.Namespace) -> dict[str, Any]:
    records = memories(POOL_RECORDS, agents=options.agents, seed=options.seed)
    store = MemStore(options.root, durability=options.durability)
    _wait_for_start()
    taken: list[float] = []
    parts: list[float] = []  # seconds of each tenth
    tenth = max(options.records // 10, 1)
    done = 0
    started = last = monotonic()
    if options.batch == 1:
        for batch in batches(records, size=POOL_RECORDS, total=options.records):
            for memory in batch:
                began = perf_counter()
                store.append(**memory.fields)
                taken.append((perf_counter() - began) * 1e6)
    else:
        for batch in batches(records, size=options.batch, total=options.records):
            fields = [memory.fields for memory in batch]
            began = perf_counter()
            store.append_many(fields)
            taken.append((perf_counter() - began) * 1e6)
            done += len(batch)
            if done >= tenth * (len(parts) + 1):
                now = monotonic()
                parts.append(now - last)
                last = now
    ended = monotonic()
    store.close()
    taken.sort()
    return {
        "started": started,
        "ended": ended,
        "closed": monotonic(),
        "us": taken[:: max(len(taken) // 1000, 1)],
        "tenths_s": parts,
        "peak_kib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
    }


def _open(options: argparse.Namespace) -> dict[str, Any]:
    _wait_for_start()
    began = perf_counter()
    store = MemStore(options.root, read_only=options.read_only, create=False)
    opened_ms = (perf_counter() - began) * 1e3
    began = perf_counter()
    found = store.agent(options.agent).recent(1)
    recent_ms = (perf_counter() - began) * 1e3
    store.close()
    return {"open_ms": opened_ms, "first_recent_ms": recent_ms, "found": len(found)}


def _tier(options: argparse.Namespace) -> dict[str, Any]:
    _wait_for_start()
    spent, report = tier_all(options.root, options.tier)
    return {
        "wall_s": spent.wall_s,
        "cpu_s": spent.cpu_s,
        "actions": len(report.done),
        "peak_kib": _own_peak_kib(),
    }


def _search(options: argparse.Namespace) -> dict[str, Any]:
    _wait_for_start()
    began = perf_counter()
    store = MemStore(options.root, read_only=True)
    store.search("timeout", memory_type="ERROR")
    first_ms = (perf_counter() - began) * 1e3
    for asked in QUESTIONS:
        store.search(asked.query, facets=["type", "agent", "tags"], **asked.filters)
    store.aggregate(by=["type", "agent"], metrics=["avg(ms)", "p99(ms)"])
    store.aggregate(interval="hour")
    peak = _own_peak_kib()
    private = _rss_anonymous_kib()
    store.close()
    return {"first_ms": first_ms, "peak_kib": peak, "private_kib": private}


def _rss_anonymous_kib() -> int:
    """Resident memory that is not a file's: pages of the index can be dropped at any time."""
    with open("/proc/self/status", encoding="ascii") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("RssAnon:"))


def _own_peak_kib() -> int:
    """Peak resident memory since this program began: ``ru_maxrss`` counts what the parent had when it forked."""
    with open("/proc/self/status", encoding="ascii") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM:"))


def _wait_for_start() -> None:
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.readline()


def main() -> None:
    """Parse and run."""
    parser = argparse.ArgumentParser()
    commands = parser.add_subparsers(required=True)
    fill = commands.add_parser("fill")
    fill.add_argument("root")
    fill.add_argument("--durability", default="fsync")
    fill.add_argument("--records", type=int, required=True)
    fill.add_argument("--batch", type=int, default=1)
    fill.add_argument("--seed", type=int, default=SEED)
    fill.add_argument("--agents", type=int, default=1000)
    fill.set_defaults(run=_fill)
    opening = commands.add_parser("open")
    opening.add_argument("root")
    opening.add_argument("--agent", required=True)
    opening.add_argument("--read-only", action="store_true")
    opening.set_defaults(run=_open)
    searching = commands.add_parser("search")
    searching.add_argument("root")
    searching.set_defaults(run=_search)
    tiering = commands.add_parser("tier")
    tiering.add_argument("root")
    tiering.add_argument("tier", choices=["warm", "cold"])
    tiering.set_defaults(run=_tier)
    options = parser.parse_args()
    print(json.dumps(options.run(options)))


if __name__ == "__main__":
    main()
