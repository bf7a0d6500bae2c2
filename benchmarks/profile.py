"""``python -m benchmarks.profile fill_batch``: a workload under py-spy, with all threads and workers, as a flame graph.

py-spy samples from outside (it is compiled code and stops nothing), so that threads of the committer and the merger are
seen, which profilers inside the process of pytest's thread do not see. What it draws is of the whole run: preparing
records and the floor are in it too, under names of their own.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Sequence

from benchmarks.results import DIRECTORY

_RATE = 200
"""Samples a second: a workload of a second still gives enough."""


def command(workload: str, target: str, *, size: str, rounds: int) -> list[str]:
    """What is run."""
    run = [sys.executable, "-m", "pytest", "benchmarks", "-k", f"bench_{workload}", "--size", size]
    return [
        os.path.join(os.path.dirname(sys.executable), "py-spy"),
        "record",
        f"--rate={_RATE}",
        "--subprocesses",
        "--format=flamegraph",
        f"--output={target}",
        "--",
        *run,
        f"--rounds={rounds}",
        "--quiet",
    ]


def main(arguments: Sequence[str]) -> int:
    """Exit code of the profiler."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.profile", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("workload", help="its name: fill_batch, get_hot, ...")
    parser.add_argument("--size", default="bench")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--directory", default=DIRECTORY, help="where the flame graph is written (%(default)s)")
    options = parser.parse_args(arguments)
    os.makedirs(options.directory, exist_ok=True)
    target = os.path.join(options.directory, f"profile-{options.workload}.svg")
    code = subprocess.run(
        command(options.workload, target, size=options.size, rounds=options.rounds), check=False
    ).returncode
    if not code:
        print(f"{target} is the flame graph: open it in a browser")
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
