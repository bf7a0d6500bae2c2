"""One of several processes that write into one store of a peer: ``python -m benchmarks.peers.writer NAME DIRECTORY``.

It says ``open`` or why it could not open, begins when it gets a line, and ends with one JSON object. From the outside:
`write_together`.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from time import monotonic
from typing import IO, Any

from benchmarks.peers.ours import MemstorePeer
from benchmarks.peers.peer import Peer
from benchmarks.peers.registry import PEERS
from benchmarks.workloads import SEED, batches, memories

_REPOSITORY = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
_FAILURES_MAX = 3
"""After so many refused batches a writer gives up: each may have waited for seconds."""
_WAIT_S = 60


@dataclass(frozen=True, slots=True)
class Written:
    """What one process came to.

    Attributes:
        refused: why it could not open the store, or None.
        acknowledged: records whose write came back without an error.
        errors: how often what was raised.
        started: by the clock that all processes of a machine share.
        ended: when the last write came back.
    """

    refused: str | None = None
    acknowledged: int = 0
    errors: dict[str, int] | None = None
    started: float = 0.0
    ended: float = 0.0


def write_together(name: str, directory: str, *, processes: int, records: int, batch: int) -> list[Written]:
    """Have processes write into one store at the same time.

    Args:
        name: of the peer.
        directory: of its store.
        processes: how many.
        records: of each.
        batch: records at a time.
    """
    started = [_start(name, directory, number, records, batch) for number in range(processes)]
    said = [_line(process.stdout) for process in started]  # all are open, or were refused, before any writes
    for process, word in zip(started, said, strict=True):
        if word == "open":
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
    return [_end(process, word) for process, word in zip(started, said, strict=True)]


def _start(name: str, directory: str, number: int, records: int, batch: int) -> subprocess.Popen[str]:
    options = [f"--number={number}", f"--records={records}", f"--batch={batch}"]
    return subprocess.Popen(
        [sys.executable, "-m", "benchmarks.peers.writer", name, directory, *options],
        cwd=_REPOSITORY,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )


def _line(output: IO[str] | None) -> str:
    assert output is not None
    return output.readline().strip()


def _end(process: subprocess.Popen[str], word: str) -> Written:
    try:
        text, _ = process.communicate(timeout=_WAIT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        return Written(refused=f"it did not end within {_WAIT_S} s")
    if word != "open":
        return Written(refused=word or f"it ended with {process.returncode}")
    if process.returncode != 0:
        return Written(refused=f"it ended with {process.returncode} while it wrote")
    return Written(**json.loads(text.splitlines()[-1]))


def _write(options: argparse.Namespace) -> dict[str, Any]:
    kinds: tuple[type[Peer], ...] = (MemstorePeer, *PEERS)
    [kind] = [kind for kind in kinds if kind.name == options.name]
    made = memories(options.records, agents=100, seed=SEED + options.number)
    for memory in made:
        memory.stored["memory_id"] += f"{options.number:x}"  # nobody else's
    try:
        peer = kind(options.directory)
    except Exception as error:  # noqa: BLE001 - that it cannot be opened is the finding
        print(_said(error), flush=True)
        return {}
    print("open", flush=True)
    sys.stdin.readline()
    errors: Counter[str] = Counter()
    acknowledged = 0
    started = monotonic()
    for batch in batches(made, size=options.batch, total=options.records):
        try:
            acknowledged += len(peer.write(peer.form(batch)))
        except Exception as error:  # noqa: BLE001 - what is raised is the finding
            errors[_said(error)] += 1
            if errors.total() == _FAILURES_MAX:
                break
    ended = monotonic()
    peer.close()
    return {"acknowledged": acknowledged, "errors": errors, "started": started, "ended": ended}


def _said(error: Exception) -> str:
    """One line, and no path of the machine it happened on."""
    text = " ".join(str(error).split())
    words = ["…" if word.strip("\"'(:").startswith("/") else word for word in text.split(" ")]
    return f"{type(error).__name__}: {' '.join(words)[:160]}"


def main() -> None:
    """Parse and write."""
    parser = argparse.ArgumentParser()
    parser.add_argument("name")
    parser.add_argument("directory")
    parser.add_argument("--number", type=int, required=True)
    parser.add_argument("--records", type=int, required=True)
    parser.add_argument("--batch", type=int, required=True)
    print(json.dumps(_write(parser.parse_args())), flush=True)


if __name__ == "__main__":
    main()
