"""A repair in a process of its own is killed at one step after the other, and the next one finishes it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from typing import Any

import pytest
from support import QUIET, files_named, lane_files

from memstore import MemStore

JOIN_S = 60.0


def spoil(path: str, offset: int) -> None:
    with open(path, "r+b") as file:
        file.seek(offset)
        file.write(b"????")


@pytest.fixture(scope="module")
def spoiled(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, set[str]]:
    """A store of six agents, each damaged in another way, and a lane that was kept."""
    root = str(tmp_path_factory.mktemp("kills") / "store")
    ids: set[str] = set()
    with MemStore(root, settings=QUIET) as store:
        for number in range(3):
            for agent in range(6):
                ids |= set(
                    store.append_many(
                        {"agent_id": f"a{agent}", "content": f"{number} {n} " + "x" * 80} for n in range(9)
                    )
                )
            store.drain()
    spoil(files_named(root, "a0/MANIFEST")[0], 300)
    os.unlink(files_named(root, "a1/MANIFEST")[0])
    for agent in ("a2", "a3"):
        path = next(path for path in files_named(root, "") or _files(root) if f"/{agent}/" in path and ".jsonl" in path)
        spoil(path, 200)
    with MemStore(root, settings=QUIET) as store:
        ids |= set(store.append_many({"agent_id": f"a{agent}", "content": "in a lane"} for agent in range(6)))
        store.drain(timeout_s=0.1)
    assert lane_files(root, ".kept")
    os.unlink(os.path.join(root, "STORE.json"))
    return root, ids


def _files(root: str) -> list[str]:
    return sorted(os.path.join(directory, name) for directory, _, names in os.walk(root) for name in names)


def repair(root: str, *, kill_after_lines: int | None) -> tuple[int, list[dict[str, Any]]]:
    """Run it as a process; kill it once it has told so many steps."""
    command = [sys.executable, "-m", "memstore", "--root", root, "repair", "-o", "ndjson"]
    told: list[dict[str, Any]] = []
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert process.stdout is not None
    with process:
        for line in process.stdout:
            told.append(json.loads(line))
            if len(told) == kill_after_lines:
                process.send_signal(signal.SIGKILL)
        process.wait(JOIN_S)
    return process.returncode, told


@pytest.mark.kill
def test_a_repair_that_is_killed_at_any_step_is_finished_by_the_next(
    spoiled: tuple[str, set[str]], tmp_path: Any
) -> None:
    source, ids = spoiled
    whole = str(shutil.copytree(source, tmp_path / "whole"))
    code, told = repair(whole, kill_after_lines=None)
    assert code == 0
    steps = len(told) - 1
    assert steps >= 6
    with MemStore(whole, settings=QUIET) as store:
        expected = {record.memory_id for agent in store.agents() for record in store.agent(agent).range()}
    assert expected < ids
    for step in range(1, steps + 1):
        root = str(shutil.copytree(source, tmp_path / f"step-{step}"))
        code, told = repair(root, kill_after_lines=step)
        assert code == -signal.SIGKILL or told[-1]["event"] == "summary"
        code, told = repair(root, kill_after_lines=None)
        assert code == 0, told
        with MemStore(root, settings=QUIET) as store:
            found = [record.memory_id for agent in store.agents() for record in store.agent(agent).range()]
            assert len(found) == len(set(found)), "doubled"
            assert set(found) == expected
            assert store.check(full=True).is_clean
