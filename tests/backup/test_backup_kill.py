"""kill -9 at any moment of a backup or a restore: whole points or none, the store as it was."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys

import pytest
from looking import lines_at
from support import QUIET

from memstore import MemStore, restore

ROUNDS = int(os.environ.get("BACKUP_KILL_ROUNDS", "4"))
_BACK_UP = """
import sys
from memstore import MemStore
with MemStore(sys.argv[1], settings={"merging.background": False, "storage.ballast_bytes": 0}) as store:
    print("begun", flush=True)
    while True:
        store.append(agent_id="a", content="x" * 100)
        store.backup(sys.argv[2])
        print("done", flush=True)
"""
_RESTORE = """
import sys
from memstore import restore
print("begun", flush=True)
while True:
    restore(sys.argv[2], sys.argv[1], replace=True, discard_old=True)
    print("done", flush=True)
"""


def killed_after(code: str, lines: int, delay_bytes: int, *arguments: str) -> int:
    """Run it, kill it a moment after so many lines of output; how many times it was done."""
    with subprocess.Popen(
        [sys.executable, "-c", code, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        done = 0
        for _ in range(lines):
            line = process.stdout.readline()
            assert line, process.stderr.read().decode() if process.stderr else ""
            done += line == b"done\n"
        sum(range(delay_bytes))  # somewhere in the next round
        process.send_signal(signal.SIGKILL)
        done += process.stdout.read().count(b"done\n")
        return done


@pytest.mark.kill
def test_killed_backups_leave_whole_points_and_the_next_one_is_whole(tmp_path):
    rng = random.Random(3)
    root, dest = str(tmp_path / "store"), str(tmp_path / "backups")
    with MemStore(root, settings=QUIET) as store:
        store.append_many({"agent_id": f"agent{n % 7}", "content": "y" * 50} for n in range(500))
    told = 0
    for _ in range(ROUNDS):
        told += killed_after(_BACK_UP, rng.randrange(1, 3), rng.randrange(600_000), root, dest)
        if not os.path.exists(os.path.join(dest, "REPOSITORY.json")):
            continue
        with MemStore(root, settings=QUIET) as store:
            points = store.backups(dest)
            assert len(points) >= told
            for point in points[-2:]:
                assert point.error is None
                assert store.verify_backup(dest, point.name, compare=True).differing == 0
                assert store.verify_backup(dest, point.name).is_good
            store.backup(dest)
            told = len(points) + 1
            assert store.verify_backup(dest).is_good
            assert not [name for name in os.listdir(dest) if name.startswith(".incoming")]
    assert told >= ROUNDS // 2


@pytest.mark.kill
def test_a_killed_restore_leaves_the_old_store_or_the_restored_one(tmp_path):
    rng = random.Random(4)
    root, dest = str(tmp_path / "store"), str(tmp_path / "backups")
    with MemStore(root, settings=QUIET) as store:
        store.append_many({"agent_id": f"agent{n % 7}", "content": "y" * 50} for n in range(500))
        store.backup(dest)
    expected = lines_at(root)
    for _ in range(ROUNDS):
        killed_after(_RESTORE, rng.randrange(1, 3), rng.randrange(600_000), root, dest)
        if not os.path.exists(root):  # between the two renames: the old one lies beside its place, whole
            (kept,) = [name for name in os.listdir(tmp_path) if name.startswith("store.before-restore-")]
            assert lines_at(str(tmp_path / kept)) == expected
            os.rename(tmp_path / kept, root)
        assert lines_at(root) == expected
    restore(dest, root, replace=True, discard_old=True)
    assert lines_at(root) == expected
