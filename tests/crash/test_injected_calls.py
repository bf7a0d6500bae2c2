"""The kernel itself refuses a call of a real process, or kills it there: nothing acknowledged is lost (P1, P5, P7).

``strace -e inject`` fails the n-th call of a kind in each of the process's threads, or delivers SIGKILL at it.
``INJECTIONS`` multiplies the number of n that are tried.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections import defaultdict
from typing import Any

import pytest
from support import QUIET
from tally import FAULTS, KILLS, tally
from test_kill import check

from memstore import MemStore

HERE = os.path.dirname(os.path.abspath(__file__))
ROUNDS = int(os.environ.get("INJECTIONS", "1"))
STORY_S = 300.0
CALLS = {
    "fdatasync": ("EIO", "ENOSPC"),
    "fsync": ("EIO",),
    "syncfs": ("EIO",),
    "pwrite64": ("ENOSPC", "EIO"),
    "rename": ("EIO",),
    "unlink": ("EIO",),
    "ftruncate": ("EIO",),
}


def works() -> str:
    """Why strace cannot be used here; empty where it can."""
    if shutil.which("strace") is None:
        return "needs strace: apt-get install strace"
    tried = subprocess.run(
        ["strace", "-e", "inject=fsync:error=EIO", "true"], capture_output=True, text=True, check=False
    )
    return "" if tried.returncode == 0 else f"strace may not trace here: {tried.stderr.strip()[:100]}"


why_not = works()
pytestmark = [pytest.mark.kill, pytest.mark.skipif(bool(why_not), reason=why_not)]


def tell(root: str, seed: int, injection: str) -> tuple[dict[str, list[str]], int]:
    """Run the story under strace; what was acknowledged by agent, and how it ended."""
    call = injection.partition(":")[0]
    traced = ["strace", "-f", "--seccomp-bpf", "-o", "/dev/null", "-e", f"trace={call}", "-e", f"inject={injection}"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([HERE, os.path.dirname(HERE), *sys.path])}
    done = subprocess.run(
        [*traced, sys.executable, os.path.join(HERE, "injected_story.py"), root, str(seed)],
        stdout=subprocess.PIPE,
        env=environment,
        timeout=STORY_S,
        text=True,
        check=False,
    )
    acked: dict[str, list[str]] = defaultdict(list)
    for line in done.stdout.splitlines():
        _, agent, memory_id = line.split(" ")
        acked[agent].append(memory_id)
    return acked, done.returncode


def look(root: str, acked: dict[str, list[str]], told: str) -> None:
    if not acked and not os.path.exists(os.path.join(root, "STORE.json")):
        return
    with MemStore(root, settings=QUIET, read_only=True) as store:
        check(store, acked, told)
    with MemStore(root, settings=QUIET) as store:
        assert store.drain().pending == [], told
        assert store.maintain().failed == [], told
        check(store, acked, f"{told}, drained and maintained")


@pytest.mark.parametrize("call", CALLS)
def test_a_system_call_that_the_kernel_refuses_loses_nothing(call: str, tmp_path: Any) -> None:
    for number in range(ROUNDS):
        for step, error in enumerate(CALLS[call]):
            when = 2 + 3 * number + step
            root = str(tmp_path / f"{error}-{when}")
            injection = f"{call}:error={error}:when={when}"
            acked, code = tell(root, when, injection)
            assert code == 0, f"{injection}: the process ended with {code}; see its traceback above"
            look(root, acked, injection)
            shutil.rmtree(root, ignore_errors=True)
            tally(FAULTS)


@pytest.mark.parametrize("call", ["fdatasync", "pwrite64", "rename", "unlink"])
def test_a_process_that_is_killed_at_a_system_call_loses_nothing(call: str, tmp_path: Any) -> None:
    for number in range(ROUNDS):
        when = 1 + 4 * number + len(call) % 5
        root = str(tmp_path / f"killed-{when}")
        injection = f"{call}:signal=KILL:when={when}"
        acked, code = tell(root, when, injection)
        assert code in {0, 137, -9}, f"{injection}: {code}"
        look(root, acked, injection)
        shutil.rmtree(root, ignore_errors=True)
        tally(KILLS, code != 0)
