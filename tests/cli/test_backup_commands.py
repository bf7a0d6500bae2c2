"""`memstore backup` as people and scripts meet it."""

from __future__ import annotations

import json
import os

import pytest
from support import files_named, flip

from memstore import MemStore


@pytest.fixture
def filled(root):
    with MemStore(root, settings={"storage.ballast_bytes": 0}) as store:
        for agent in ("bot_1", "bot_2"):
            store.append_many({"agent_id": agent, "content": n} for n in range(50))
        store.drain()
    return root


@pytest.fixture
def dest(tmp_path):
    return str(tmp_path / "backups")


def test_create_tells_what_it_did(memstore, filled, dest):
    result = memstore("backup", "create", dest, "-o", "json")
    assert result.code == 0
    told = json.loads(result.out)
    assert (told["agents"], told["records"], told["gap"], told["damage"]) == (2, 100, None, [])
    assert "100 records of 2 agents" in result.err
    assert json.loads(memstore("backup", "create", dest, "-o", "json").out)["copied_bytes"] < told["copied_bytes"]


def test_list_and_verify_need_no_store(memstore, filled, dest):
    memstore("backup", "create", dest)
    memstore("backup", "create", dest)
    listed = [json.loads(line) for line in memstore("backup", "list", dest, with_root=False).out.splitlines()]
    assert [row["follows"] for row in listed] == [False, True]
    assert set(listed[0]) == {
        "name", "at", "agents", "records", "files", "bytes", "follows", "gap", "damaged", "error",
    }  # fmt: skip
    result = memstore("backup", "verify", dest, "--point", listed[0]["name"], with_root=False)
    assert result.code == 0
    assert "good: 100 records" in result.err
    assert "20" in memstore("backup", "list", dest, "-o", "table", with_root=False).out


def test_verify_compares_with_the_store_if_asked_to(memstore, filled, dest):
    memstore("backup", "create", dest)
    result = memstore("backup", "verify", dest, "--compare")
    assert json.loads(result.out)["compared"] == 100
    assert "it has 0 of them no longer" in result.err


def test_a_damaged_backup_has_the_exit_code_of_damage(memstore, filled, dest):
    memstore("backup", "create", dest)
    (point,) = [name for name in os.listdir(dest) if name.startswith("2")]
    damaged = next(p for p in files_named(os.path.join(dest, point), "MANIFEST") if "bot_1" in p)
    flip(damaged, 30)
    result = memstore("backup", "verify", dest, with_root=False)
    assert result.code == 7
    assert damaged in result.err


def test_a_damaged_store_is_backed_up_and_told(memstore, filled, dest):
    day = next(
        os.path.join(d, n) for d, _, names in os.walk(filled) for n in names if d.endswith("bot_1") and n != "MANIFEST"
    )
    flip(day, 30)
    result = memstore("backup", "create", dest)
    assert result.code == 7
    assert day in result.err


def test_mistakes_are_explained(memstore, filled, dest, tmp_path):
    assert memstore("backup", "list", str(tmp_path), with_root=False).code == 5
    assert memstore("backup", "create", os.path.join(filled, "in")).code == 2
    assert memstore("backup", with_root=False).code == 2
    assert memstore("backup", "verify", dest, with_root=False).code == 5


def test_restore_to_a_new_directory_and_in_place(memstore, filled, dest, tmp_path):
    memstore("backup", "create", dest)
    new = str(tmp_path / "new")
    told = json.loads(memstore("restore", dest, "--to", new).out)
    assert (told["complete"], told["target"], told["kept"]) == (True, new, None)
    result = memstore("restore", dest, "--replace")
    kept = json.loads(result.out)["kept"]
    assert kept in result.err
    assert os.path.exists(kept)
    for root in (new, filled, kept):
        with MemStore(root, read_only=True) as store:
            assert store.agent("bot_1").count() == 50


def test_restore_as_of_a_moment(memstore, filled, dest, tmp_path):
    moment = json.loads(memstore("backup", "create", dest, "-o", "json").out)["at"]
    memstore("append", "--agent", "bot_1", "--content", "1")
    memstore("backup", "create", dest)
    result = memstore("restore", dest, "--to", str(tmp_path / "then"), "--at", moment, with_root=False)
    assert result.code == 0, result.err
    with MemStore(tmp_path / "then", read_only=True) as store:
        assert store.agent("bot_1").count() == 50


def test_restore_of_a_part_makes_a_store_where_there_is_none(memstore, filled, dest, tmp_path):
    memstore("backup", "create", dest)
    other = str(tmp_path / "other")
    result = memstore("--root", other, "restore", dest, "--agent", "bot_1", with_root=False)
    assert json.loads(result.out)["imported"] == 50
    assert "50 records restored" in result.err
    again = memstore("--root", other, "restore", dest, "--agent", "bot_1", "--since", "1d", with_root=False)
    assert json.loads(again.out)["already"] == 50


def test_flags_of_restore_that_do_not_go_together_are_refused(memstore, filled, dest):
    memstore("backup", "create", dest)
    assert memstore("restore", dest).code == 2
    assert memstore("restore", dest, "--replace", "--to", "x").code == 2
    assert memstore("restore", dest, "--agent", "bot_1", "--replace").code == 2
    assert memstore("restore", dest, "--to", "x", "--discard-old").code == 2
    assert memstore("restore", dest, "--to", filled).code == 2


def test_prune_says_what_it_would_remove_and_removes_it(memstore, filled, dest):
    for _ in range(3):
        memstore("backup", "create", dest)
    flags = ("--keep-daily", "1", "--keep-weekly", "0", "--keep-monthly", "0")
    planned = json.loads(memstore("backup", "prune", dest, *flags, "--dry-run", with_root=False).out)
    assert (len(planned["kept"]), len(planned["removed"]), planned["done"]) == (1, 2, False)
    result = memstore("backup", "prune", dest, *flags)
    assert json.loads(result.out)["removed"] == planned["removed"]
    assert "2 backup(s) removed, 1 kept" in result.err
    assert memstore("backup", "prune", dest, "--keep-daily", "-1", with_root=False).code == 2


def test_detach_lets_go(memstore, filled, dest):
    memstore("backup", "create", dest)
    assert memstore("backup", "detach", dest).code == 0
    assert memstore("backup", "detach", dest).code == 1


def test_erase_tells_of_backups(memstore, filled, dest):
    memstore("backup", "create", dest)
    result = memstore("erase", "--agent", "bot_1", "--yes")
    assert result.code == 0, result.err
    assert f"pending in backups at {dest}" in result.err
