"""A process without threads that forks writers and mergers for ``test_kill``: 200 rounds, one interpreter start.

Commands on standard input, one a line, answers on standard output: ``spawn ROLE SEED ROOT`` answers with a pid, ``wait
PID`` with how it ended (minus the signal, or the exit code). Children write ``ack AGENT ID`` lines to the descriptor
given as the first argument, after the store has acknowledged; a write is shorter than PIPE_BUF, so no kill tears it.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import sys
import traceback
from collections.abc import Callable, Mapping

from support import TINY

from memstore import LockedError, MemStore

AGENTS = ["first", "Second.Agent", "third", "4"]


def write(root: str, seed: int, acks: int) -> None:
    """Append for ever, one record or a batch at a time."""
    chance = random.Random(seed)
    store = MemStore(root, settings=TINY)
    for number in itertools.count():
        if chance.random() < 0.6:
            agent = chance.choice(AGENTS)
            memory_id = store.append(
                agent_id=agent, content={"batch": f"{seed}-{number}", "size": 1, "pad": "x" * chance.randrange(900)}
            )
            os.write(acks, f"ack {agent} {memory_id}\n".encode())
            continue
        size = chance.randrange(2, 12)
        records = [
            {
                "agent_id": chance.choice(AGENTS),
                "content": {"batch": f"{seed}-{number}", "size": size, "pad": "y" * chance.randrange(600)},
                "timestamp_utc": f"2025-01-{chance.randrange(10, 14)}T{chance.randrange(24):02}:00:00Z"
                if chance.random() < 0.5
                else None,
            }
            for _ in range(size)
        ]
        ids = store.append_many(records)
        line = "".join(f"ack {r['agent_id']} {i}\n" for r, i in zip(records, ids, strict=True))
        assert len(line) < 4096
        os.write(acks, line.encode())


def merge(root: str, seed: int, acks: int) -> None:
    """Drain for ever."""
    store = MemStore(root, settings=TINY)
    while True:
        with contextlib.suppress(LockedError):
            store.drain(timeout_s=0.02)


ROLES = {"writer": write, "merger": merge}


def main(roles: Mapping[str, Callable[[str, int, int], None]] = ROLES) -> None:
    """Serve until standard input ends."""
    acks = int(sys.argv[1])
    for command in sys.stdin:
        word, *arguments = command.split()
        if word == "wait":
            _, status = os.waitpid(int(arguments[0]), 0)
            print(os.waitstatus_to_exitcode(status), flush=True)
            continue
        role, seed, root = arguments
        pid = os.fork()
        if pid == 0:
            try:
                roles[role](root, int(seed), acks)
            except BaseException:  # noqa: BLE001 - the parent is told by the exit code
                traceback.print_exc()
            finally:
                os._exit(1)
        print(pid, flush=True)


if __name__ == "__main__":
    main()
