"""`memstore check` as people and scripts meet it."""

from __future__ import annotations

import csv
import io
import json
import os

import pytest
from support import files_named, flip

from memstore import MemStore

SUMMARY = {
    "root",
    "full",
    "finished",
    "clean",
    "damaged",
    "unread",
    "notes",
    "records_affected",
    "checked",
    "seconds",
}
FINDING = {"kind", "severity", "path", "reason", "offset_bytes", "length_bytes", "records", "agent", "repair"}


@pytest.fixture
def filled(root):
    with MemStore(root, settings={"storage.ballast_bytes": 0}) as store:
        for agent in ("bot_1", "bot_2"):
            store.append_many({"agent_id": agent, "content": n} for n in range(50))
        store.drain()
    return root


def day_file(root, agent="bot_1"):
    return next(path for path in files_named(root, "") or _files(root) if f"/{agent}/" in path and ".jsonl" in path)


def _files(root):
    return sorted(os.path.join(directory, name) for directory, _, names in os.walk(root) for name in names)


def test_a_clean_store_exits_with_0_and_says_what_was_looked_at(memstore, filled):
    result = memstore("check", "-o", "table")
    assert (result.code, result.out) == (0, "")
    assert "clean: 2 agents, 0 lanes, 4 files, 100 records (structure only; --full reads every byte)" in result.err
    result = memstore("check", "--full", "-o", "table")
    assert result.code == 0
    assert "structure only" not in result.err


def test_damage_exits_with_7_and_names_file_range_and_records(memstore, filled):
    path = day_file(filled)
    flip(path, 30)
    assert memstore("check").code == 0
    result = memstore("check", "--full", "-o", "json")
    assert result.code == 7
    document = json.loads(result.out)
    assert document.keys() == SUMMARY | {"findings", "findings_left_out"}
    assert document["checked"].keys() == {"agents", "lanes", "files", "bytes", "records"}
    (finding,) = document["findings"]
    assert finding.keys() == FINDING
    assert (finding["path"], finding["offset_bytes"], finding["records"], finding["agent"]) == (path, 0, 50, "bot_1")
    assert document["records_affected"] == 50
    assert not document["clean"]
    assert "1 damaged place(s), 50 record(s)" in result.err


def test_the_second_copy_is_checked_and_mended_from_the_store(memstore, filled, tmp_path):
    assert memstore("check", "--copy").code == 5
    volume = tmp_path / "second"
    volume.mkdir()
    assert memstore("replica", "add", str(volume)).code == 0
    assert memstore("check", "--copy", "--full").code == 0
    (copy,) = volume.iterdir()
    path = day_file(str(copy))
    flip(path, 30)
    assert memstore("check", "--full").code == 0, "the store itself is whole"
    result = memstore("check", "--copy", "--full", "-o", "json")
    assert result.code == 7
    document = json.loads(result.out)
    assert document["root"] == str(copy)
    (finding,) = document["findings"]
    assert finding.keys() == FINDING
    assert (finding["path"], finding["offset_bytes"], finding["records"], finding["agent"]) == (path, 0, 50, "bot_1")
    assert "`memstore repair --copy --plan` says what can be done" in result.err
    planned = memstore("repair", "--copy", "--plan", "-o", "json")
    assert planned.code == 7
    assert [step["kind"] for step in json.loads(planned.out)["steps"]] == ["copy_again"]
    mended = memstore("repair", "--copy", "-o", "table")
    assert mended.code == 0, mended.err
    assert "the second copy is clean" in mended.err
    assert memstore("check", "--copy", "--full").code == 0
    result = memstore("repair", "--copy", "--from", str(copy))
    assert result.code == 2
    assert "mended from the store alone" in result.err


def test_a_second_copy_that_is_not_there_exits_with_6(memstore, filled, tmp_path):
    volume = tmp_path / "second"
    volume.mkdir()
    assert memstore("replica", "add", str(volume)).code == 0
    volume.rename(tmp_path / "away")
    result = memstore("check", "--copy", "-o", "json")  # the lines of a table break where the path is long
    assert result.code == 6
    assert "is not there" in result.out


def test_ndjson_has_a_line_for_each_finding_and_the_figures_last(memstore, filled):
    for agent in ("bot_1", "bot_2"):
        flip(day_file(filled, agent), 30)
    result = memstore("check", "--full")
    *findings, last = [json.loads(line) for line in result.out.splitlines()]
    assert {each["event"] for each in findings} == {"finding"}
    assert all(each.keys() == FINDING | {"event"} for each in findings)
    assert last.keys() == SUMMARY | {"event"}
    assert (last["event"], last["damaged"]) == ("summary", 2)


def test_table_and_csv_have_a_row_for_each_finding(memstore, filled):
    flip(day_file(filled), 30)
    table = memstore("check", "--full", "-o", "table").out.splitlines()
    assert table[0].split()[:3] == ["severity", "kind", "path"]
    assert table[1].split()[:2] == ["damage", "day_file"]
    header, row = csv.reader(io.StringIO(memstore("check", "--full", "-o", "csv").out))
    assert dict(zip(header, row, strict=True))["kind"] == "day_file"


def test_a_store_whose_first_file_is_damaged_can_be_checked(memstore, filled):
    flip(os.path.join(filled, "STORE.json"), 40)
    result = memstore("check", "--full", "-o", "json")
    assert result.code == 7
    assert [finding["kind"] for finding in json.loads(result.out)["findings"]] == ["store_file"]


def test_a_volume_that_is_missing_exits_with_6(memstore, filled):
    shards = os.path.join(filled, "memory", "shards")
    name = min(os.listdir(shards))
    os.rename(os.path.join(shards, name), os.path.join(filled, "away"))
    result = memstore("check", "-o", "json")
    assert result.code == 6
    assert json.loads(result.out)["unread"] == 1


def test_damage_is_told_once_and_not_logged_on_the_way(memstore, filled):
    with open(os.path.join(filled, "lanes", f"00000009-{'ab' * 16}.lane"), "wb") as file:
        file.write(b"nothing of a lane\n")
    result = memstore("check", "--full", "-o", "json")
    assert result.code == 7
    assert len(result.err.splitlines()) == 2


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("check", "--ful"), 2, "did you mean --full?"),
        (("chek",), 2, "did you mean check?"),
        (("check", "bot_1"), 2, "unrecognized arguments: bot_1"),
        (("--root", "/nowhere/at/all", "check"), 5, "holds no store"),
    ],
)
def test_mistakes_get_one_line_that_says_what_to_do(memstore, filled, arguments, code, words):
    result = memstore(*arguments)
    assert result.code == code
    assert words in result.err
    assert len(result.err.splitlines()) == 1


def test_a_check_of_a_store_that_may_only_be_read_works(run_process, filled):
    run = run_process("check", "--full", "-o", "json")
    assert run.returncode == 0, run.stderr
    assert json.loads(run.stdout)["clean"]


def test_the_search_index_is_checked_too(memstore, filled):
    assert memstore("index", "update").code == 0
    assert memstore("check", "--full").code == 0
    path = next(path for path in _files(filled) if path.endswith(".term"))
    flip(path, 30)
    assert memstore("check").code == 0
    result = memstore("check", "--full", "-o", "json")
    assert result.code == 7
    (finding,) = json.loads(result.out)["findings"]
    assert finding.keys() == FINDING
    assert (finding["kind"], finding["severity"]) == ("search_index", "damage")
    month = os.path.basename(os.path.dirname(path)).partition(".")[0]
    assert f"memstore index rebuild {month}" in finding["repair"]
    assert memstore("index", "rebuild", month).code == 0
    assert memstore("check", "--full").code == 0


def test_an_index_of_a_store_that_cannot_be_opened_is_not_looked_at(memstore, filled):
    assert memstore("index", "update").code == 0
    flip(os.path.join(filled, "STORE.json"), 30)
    result = memstore("check", "-o", "json")
    assert result.code == 7
    assert [f["kind"] for f in json.loads(result.out)["findings"]] == ["store_file", "search_index"]
