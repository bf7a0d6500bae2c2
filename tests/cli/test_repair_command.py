"""`memstore repair` as people and scripts meet it."""

from __future__ import annotations

import json
import os
import shutil

import pytest
from support import flip

from memstore import MemStore

STEP = {"kind", "path", "sentence", "agent", "records_kept", "records_lost", "copied"}
REPORT = {
    "copies",
    "copies_missing",
    "before",
    "steps",
    "records_lost",
    "withheld",
    "failed",
    "quarantine",
    "after",
}


@pytest.fixture
def filled(root):
    with MemStore(root, settings={"storage.ballast_bytes": 0}) as store:
        for number in range(2):
            for agent in ("bot_1", "bot_2"):
                store.append_many({"agent_id": agent, "content": f"{number} {n} " + "x" * 90} for n in range(50))
            store.drain()
    return root


def files(root, ending, agent="bot_1"):
    found = [os.path.join(directory, name) for directory, _, names in os.walk(root) for name in names]
    return sorted(path for path in found if f"/{agent}/" in path and path.endswith(ending) and "quarantine" not in path)


def spoil(path, offset):
    with open(path, "r+b") as file:
        file.seek(offset)
        file.write(b"????")


def test_a_plan_lists_steps_and_exits_with_7_and_a_repair_does_them_and_exits_with_0(memstore, filled):
    spoil(files(filled, ".jsonl")[0], 100)
    planned = memstore("repair", "--plan", "-o", "json")
    assert planned.code == 7
    plan = json.loads(planned.out)
    assert plan["after"] is None
    assert [step["kind"] for step in plan["steps"]] == ["salvage_file", "write_manifest"]
    assert all(step.keys() == STEP for step in plan["steps"])
    assert memstore("check", "--full").code == 7
    result = memstore("repair", "-o", "json")
    assert result.code == 0, result.err
    report = json.loads(result.out)
    assert report.keys() == REPORT
    assert report["steps"] == plan["steps"]
    assert report["records_lost"] == 50
    assert report["after"]["clean"]
    assert os.path.isdir(report["quarantine"])
    assert "the store is clean; 50 record(s) known to be lost" in result.err
    assert memstore("check", "--full").code == 0
    assert len(memstore("range", "--agent", "bot_1").out.splitlines()) == 50
    assert len(memstore("range", "--agent", "bot_2").out.splitlines()) == 100


def test_steps_are_told_before_they_are_done(memstore, filled):
    flip(files(filled, ".jsonl")[0], 100)
    result = memstore("repair")
    *steps, last = [json.loads(line) for line in result.out.splitlines()]
    assert [step["event"] for step in steps] == ["step"]
    assert steps[0]["kind"] == "restore_file"
    assert last["event"] == "summary"
    table = memstore("repair", "-o", "table")
    assert (table.code, table.out) == (0, "")
    assert "nothing is damaged that a repair could mend" in table.err


def test_good_bytes_come_from_a_copy(memstore, filled, tmp_path):
    copy = shutil.copytree(filled, tmp_path / "copy")
    (path, *_) = files(filled, ".jsonl")
    os.unlink(path)
    assert memstore("repair", "--plan").code == 7
    result = memstore("repair", "--from", str(copy), "-o", "table")
    assert result.code == 0
    assert "good copy" in result.err
    assert len(memstore("range", "--agent", "bot_1").out.splitlines()) == 100


def test_copies_that_the_store_knows_of_are_asked_unless_that_is_refused(memstore, filled, tmp_path):
    backups = str(tmp_path / "backups")
    assert memstore("backup", "create", backups).code == 0
    (path, *_) = files(filled, ".jsonl")
    spoil(path, 100)
    plan = json.loads(memstore("repair", "--plan", "--no-copies", "-o", "json").out)
    assert (plan["copies"], plan["records_lost"]) == ([], 50)
    planned = memstore("repair", "--plan", "-o", "json")
    plan = json.loads(planned.out)
    (step,) = plan["steps"]
    assert step["kind"] == "restore_file"
    (copied,) = step["copied"]
    assert copied.keys() == {"offset_bytes", "length_bytes", "source"}
    assert copied["source"] == plan["copies"][0]
    assert copied["source"] in step["sentence"]
    assert memstore("repair").code == 0
    assert len(memstore("range", "--agent", "bot_1").out.splitlines()) == 100


def test_a_copy_that_cannot_be_asked_is_told(memstore, filled, tmp_path):
    backups = str(tmp_path / "backups")
    assert memstore("backup", "create", backups).code == 0
    shutil.move(backups, backups + ".away")
    spoil(files(filled, ".jsonl")[0], 100)
    result = memstore("repair", "--plan")
    assert result.code == 7
    assert f"a copy could not be asked: backups: {backups} holds no backups" in result.err


def test_a_lost_first_file_is_written_anew(memstore, filled):
    os.unlink(os.path.join(filled, "STORE.json"))
    assert memstore("repair", "--plan").code == 7
    assert not os.path.exists(os.path.join(filled, "STORE.json"))
    assert memstore("repair").code == 0
    assert memstore("agents", "-o", "json").code == 0


def test_what_a_person_has_to_see_to_is_told_and_the_code_says_so(memstore, filled):
    shards = os.path.join(filled, "memory", "shards")
    os.unlink(os.path.join(filled, "STORE.json"))
    for name in sorted(os.listdir(shards))[:1]:
        shutil.move(os.path.join(shards, name), os.path.join(filled, "away"))
    result = memstore("repair", "-o", "table")
    assert result.code == 7
    assert "shard_000 is nowhere below" in result.err
    assert "the store is not clean yet" in result.err


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("repair", "--form", "x"), 2, "did you mean --from?"),
        (("repiar",), 2, "did you mean repair?"),
        (("repair", "--from", "/nowhere/at/all"), 5, "--from takes the directory of a copy"),
        (("--root", "/nowhere/at/all", "repair"), 5, "holds no store"),
        (("repair", "bot_1"), 2, "unrecognized arguments: bot_1"),
    ],
)
def test_mistakes_get_one_line_that_says_what_to_do(memstore, filled, arguments, code, words):
    result = memstore(*arguments)
    assert result.code == code
    assert words in result.err
    assert len(result.err.splitlines()) == 1
