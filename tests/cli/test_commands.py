"""The commands that move, show and set things up."""

from __future__ import annotations

import json
import os
import pathlib
import re
import shlex

import pytest

from memstore import MemStore
from memstore.cli.main import build_parser

DOCS = pathlib.Path(__file__).parents[2] / "docs" / "CLI.md"


@pytest.fixture
def filled(root):
    with MemStore(root) as store:
        store.append_many(
            {"agent_id": f"bot_{n % 3}", "content": {"n": n}, "timestamp_utc": "2025-01-15"} for n in range(30)
        )
    return root


@pytest.fixture
def tree(tmp_path):
    day = tmp_path / "tree" / "stm" / "bot" / "20250115"
    day.mkdir(parents=True)
    for n in range(3):
        memory = {
            "agent_id": "bot",
            "content": {"n": n},
            "context": {},
            "importance": 2,
            "memory_id": f"m{n}",
            "memory_type": "learning",
            "parent_memory_id": None,
            "tags": ["t"],
            "timestamp": f"2025-01-15T10:00:0{n}",
        }
        (day / f"20250115_10000{n}_000000.learning.memory.json").write_text(json.dumps(memory))
    (day / "20250115_100009_000000.learning.memory.json").write_text('{"agent_id": "bo')
    return str(tmp_path / "tree")


def test_import_tree_as_json_is_one_object_and_a_second_import_adds_nothing(memstore, tree):
    result = memstore("import", "tree", tree, "-o", "json")
    assert result.code == 0, result.err
    found = json.loads(result.out)
    assert (found["files"], found["imported"], found["already_present"], found["damaged"]) == (4, 3, 0, 1)
    assert found["damaged_files"][0]["path"].endswith("20250115_100009_000000.learning.memory.json")
    assert "damaged" in result.err
    again = json.loads(memstore("import", "tree", tree, "-o", "json").out)
    assert (again["imported"], again["already_present"]) == (0, 3)


def test_a_dry_run_writes_nothing_and_needs_no_store(memstore, tree, root):
    found = json.loads(memstore("import", "tree", tree, "--dry-run", "-o", "json").out)
    assert found["imported"] == 3
    assert not os.path.exists(root)


def test_import_of_an_unknown_place_or_zone_is_told(memstore, tree):
    assert memstore("import", "tree", tree + "-not").code == 5
    result = memstore("import", "tree", tree, "--tz", "Mars/Olympus")
    assert result.code == 2
    assert "Europe/Berlin" in result.err


def test_what_is_exported_as_ndjson_can_be_imported(memstore, filled, tmp_path):
    exported = memstore("export", "ndjson").out
    other = str(tmp_path / "other")
    result = memstore("--root", other, "import", "ndjson", "-", "-o", "json", stdin=exported.encode(), with_root=False)
    assert result.code == 0, result.err
    assert json.loads(result.out)["imported"] == 30


def test_export_to_a_file_is_whole_or_not_there(memstore, filled, tmp_path):
    target = str(tmp_path / "out.ndjson")
    assert memstore("export", "ndjson", target, "--agent", "bot_1").code == 0
    with open(target, encoding="utf-8") as file:
        assert len(file.readlines()) == 10
    taken = memstore("export", "csv", target)
    assert taken.code == 2
    assert "--force" in taken.err
    assert memstore("export", "csv", target, "--force").code == 0
    assert memstore("export", "csv", str(tmp_path / "no" / "such" / "directory.csv")).code == 6
    assert memstore("export", "csv", str(tmp_path / "unknown.csv"), "--agent", "nobody").code == 5
    assert sorted(os.listdir(tmp_path)) == ["out.ndjson", "store"]


def test_export_as_tree_can_be_imported_again(memstore, filled, tmp_path):
    target = str(tmp_path / "tree")
    assert memstore("export", "tree", target).code == 0
    found = json.loads(
        memstore("--root", str(tmp_path / "b"), "import", "tree", target, "-o", "json", with_root=False).out
    )
    assert (found["imported"], found["damaged"]) == (30, 0)
    assert memstore("export", "tree", "-").code == 2


def test_config_show_tells_each_setting_and_where_it_comes_from(memstore, tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text('[storage]\ndurability = "os"\n')
    plain = json.loads(memstore("config", "show", "-o", "json", with_root=False).out)
    assert plain["storage.durability"] == "fsync"
    told = json.loads(memstore("config", "show", "--origin", "--config", str(file), "-o", "json", with_root=False).out)
    assert told["storage.durability"] == {"value": "os", "origin": f"file {file}"}
    flag = memstore("config", "show", "--origin", "--durability", "os", "-o", "csv", with_root=False).out
    assert "storage.durability,os,flag --durability" in flag
    assert "storage.durability" in memstore("config", "show", "-o", "table", with_root=False).out


def test_a_wrong_setting_exits_with_3(memstore, tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text('[storage]\ndurabilty = "os"\n')
    result = memstore("append", "--agent", "bot", "--input", "x", "--config", str(file))
    assert result.code == 3
    assert "storage.durability" in result.err


def test_durability_and_config_reach_the_store(memstore, filled):
    assert json.loads(memstore("--durability", "os", "stats", "-o", "json").out)["durability"] == "os"


def test_shards_are_listed_added_and_pinned(memstore, filled):
    before = [json.loads(line) for line in memstore("shards").out.splitlines()]
    assert sum(shard["agents"] for shard in before) == 3
    assert "heaviest" in memstore("shards", "list", "-o", "table").out
    added = json.loads(memstore("shards", "add", "-o", "json").out)
    assert added["shard"] not in {shard["name"] for shard in before}
    assert memstore("shards", "pin", "bot_1", added["shard"]).code == 0
    after = {shard["name"]: shard for shard in map(json.loads, memstore("shards").out.splitlines())}
    assert after[added["shard"]]["pinned"] == ["bot_1"]
    assert memstore("shards", "unpin", "bot_1").code == 0
    assert memstore("shards", "pin", "bot_1", "no_such_shard").code == 5
    assert json.loads(memstore("stats", "-o", "json").out)["records"] == 30


def test_drain_leaves_no_lane(memstore, filled):
    found = json.loads(memstore("drain", "-o", "json").out)
    assert found["pending"] == []
    assert os.listdir(os.path.join(filled, "lanes")) == []


@pytest.mark.parametrize("shell", ["bash", "zsh", "tcsh"])
def test_completion_scripts_name_the_commands(memstore, shell):
    result = memstore("completion", shell, with_root=False)
    assert result.code == 0
    assert "--min-importance" in result.out
    assert "recent" in result.out


def test_version_and_help_exit_with_0(memstore):
    assert memstore("--version", with_root=False).out.startswith("memstore ")
    assert "commands:" in memstore("--help", with_root=False).out


def test_every_command_of_the_docs_is_one_the_parser_knows():
    text = DOCS.read_text(encoding="utf-8")
    commands = re.findall(
        r"^(?:\S.*\| )?memstore ([^|<>#\n]*)", "\n".join(re.findall(r"```sh\n(.*?)```", text, re.DOTALL)), re.MULTILINE
    )
    assert len(commands) > 25
    for command in commands:
        if command.strip() not in ("--help", "--version"):
            args = build_parser().parse_args(shlex.split(command))
            assert callable(args.run), command


def test_every_command_is_in_the_docs():
    text = DOCS.read_text(encoding="utf-8")
    for name in build_parser()._subparsers._group_actions[0].choices:
        assert re.search(rf"^memstore (.* )?{name}\b|\| memstore {name}\b", text, re.MULTILINE), name
