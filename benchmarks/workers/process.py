"""One worker process from the outside: it says ``ready``, begins when it gets a line, and ends with one JSON object.

The times in its answer are of the clock that all processes of a machine share.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from typing import IO, Any

from benchmarks.workloads import SEED

_REPOSITORY = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


class Worker:
    """``python -m benchmarks.workers ...``, started and ready."""

    def __init__(self, *arguments: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.workers", *arguments],
            cwd=_REPOSITORY,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        if self._output.readline() != "ready\n":
            raise RuntimeError(f"worker {arguments} did not start; it ended with {self._process.wait()}")

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
        self._output.close()
        assert self._process.stdin is not None
        self._process.stdin.close()
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
    root: str, *, durability: str, records: int, batch: int, agents: int, seed: int = SEED, kind: str = "fill"
) -> list[str]:
    """Arguments of a worker that appends; ``batch`` 1: one record at a time; ``kind`` floor: to a plain file."""
    return [
        kind,
        root,
        f"--durability={durability}",
        f"--records={records}",
        f"--batch={batch}",
        f"--seed={seed}",
        f"--agents={agents}",
    ]
