from __future__ import annotations

import csv
import io
import json
import os

import pytest

from memstore import MemStore


@pytest.fixture
def ids(root):
    with MemStore(root) as store:
        bot = store.agent("bot")
        found = [
            bot.append(
                input=f"question {n}",
                timestamp=f"2025-01-15T10:00:{n:02d}Z",
                tags=["even" if n % 2 == 0 else "odd", "all"],
            )
            for n in range(10)
        ]
        found.append(
            bot.append(
                memory_type="ERROR", importance="CRITICAL", content={"code": 502}, session="s1", timestamp="2025-01-16"
            )
        )
        found.append(store.append(agent_id="other", content="elsewhere", timestamp="2025-01-14", context={"n": 3}))
    return found


def _ids_of(result) -> list[str]:
    assert result.code == 0, result.err
    return [json.loads(line)["memory_id"] for line in result.out.splitlines()]


def test_ndjson_is_the_stored_line_byte_for_byte(memstore, ids, root):
    with MemStore(root, read_only=True) as store:
        stored = b"".join(line + b"\n" for line in store.agent("bot").lines())
    assert memstore("range", "--agent", "bot").out.encode() == stored


def test_get_prints_the_asked_records_in_order(memstore, ids):
    assert _ids_of(memstore("get", ids[5], ids[2])) == [ids[5], ids[2]]


def test_get_of_an_unknown_id_exits_with_1_and_still_prints_the_others(memstore, ids):
    missing = f"{ids[0][:-16]}{'0' * 15}f"
    result = memstore("get", missing, ids[1])
    assert result.code == 1
    assert ids[1] in result.out
    assert missing in result.err


def test_get_of_one_id_as_json_is_one_object(memstore, ids):
    assert json.loads(memstore("get", ids[0], "-o", "json").out)["memory_id"] == ids[0]
    assert [record["memory_id"] for record in json.loads(memstore("get", *ids[:2], "-o", "json").out)] == ids[:2]


def test_get_of_something_that_is_no_id_is_a_usage_error(memstore, ids):
    assert memstore("get", "nonsense").code == 2


def test_recent_is_newest_first_and_limited(memstore, ids):
    assert _ids_of(memstore("recent", "--agent", "bot", "-n", "3")) == [ids[10], ids[9], ids[8]]


def test_recent_of_an_agent_without_records_is_empty_and_no_error(memstore, ids):
    result = memstore("recent", "--agent", "nobody")
    assert (result.code, result.out) == (0, "")
    assert memstore("recent", "--agent", "nobody", "-o", "json").out == "[]\n"


@pytest.mark.parametrize(
    ("flags", "wanted"),
    [
        ((), [*range(11), 11]),
        (("--agent", "other"), [11]),
        (("--agent", "other", "--agent", "bot", "--limit", "2"), [11, 0]),
        (("--agent", "bot", "--newest-first", "--limit", "1"), [10]),
        (("--since", "2025-01-15T10:00:08Z"), [8, 9, 10]),
        (("--until", "2025-01-15"), [11]),
        (("--type", "error"), [10]),
        (("--importance", "CRITICAL"), [10]),
        (("--min-importance", "HIGH"), [10]),
        (("--tag", "odd", "--limit", "1"), [1]),
        (("--tag", "even", "--tag", "all", "--all-tags"), [0, 2, 4, 6, 8]),
        (("--session", "s1"), [10]),
        (("--context", "n:=3"), [11]),
        (("--context", "n=3"), []),
        (("--on-damage", "skip", "--since", "2025-01-16"), [10]),
    ],
)
def test_range_takes_the_filters(memstore, ids, flags, wanted):
    assert _ids_of(memstore("range", *flags)) == [ids[index] for index in wanted]


def test_json_is_one_array_of_whole_records(memstore, ids):
    assert [record["memory_id"] for record in json.loads(memstore("range", "-o", "json").out)] == ids


def test_csv_has_a_header_and_one_row_a_record(memstore, ids):
    rows = list(csv.DictReader(io.StringIO(memstore("range", "-o", "csv").out)))
    assert [row["memory_id"] for row in rows] == ids
    assert json.loads(rows[10]["content"]) == {"code": 502}


def test_csv_of_a_read_is_the_csv_of_an_export(memstore, ids):
    assert memstore("range", "-o", "csv").out == memstore("export", "csv").out


def test_the_output_flag_goes_before_and_after_the_command(memstore, ids):
    before, after = memstore("-o", "csv", "recent", "--agent", "bot"), memstore("recent", "--agent", "bot", "-o", "csv")
    assert before.out == after.out
    assert memstore("-o", "json", "recent", "--agent", "bot", "-o", "csv").out == after.out


def test_a_table_shows_time_agent_type_importance_and_text_cut_to_the_width(memstore, ids):
    result = memstore("range", "-o", "table")
    lines = result.out.splitlines()
    assert lines[0].split() == ["time", "(UTC)", "agent", "type", "importance", "text"]
    assert lines[1].split()[:5] == ["2025-01-15", "10:00:00", "bot", "INTERACTION", "MEDIUM"]
    assert len(lines) == 13
    assert max(map(len, lines)) <= 100


def test_control_characters_of_a_record_do_not_reach_a_table(memstore, root):
    with MemStore(root) as store:
        store.append(agent_id="b\u202et", content="red \x1b[31m bell \x07 bidi \u202e null \x00 csi \x9b2J\nnext")
    out = memstore("range", "-o", "table").out
    assert not [char for char in out if not char.isprintable() and char != "\n"]
    assert "\\x1b[31m" in out
    assert len(out.splitlines()) == 2


def test_wide_characters_are_cut_by_the_columns_they_take(memstore, root):
    rich_cells = pytest.importorskip("rich.cells")
    with MemStore(root) as store:
        store.append(agent_id="bot", content="記憶" * 200)
    assert max(rich_cells.cell_len(line) for line in memstore("range", "-o", "table").out.splitlines()) <= 100


def test_agents_are_listed_and_counted(memstore, ids):
    assert [json.loads(line) for line in memstore("agents").out.splitlines()] == [
        {"agent_id": "bot"},
        {"agent_id": "other"},
    ]
    assert memstore("agents", "--count", "-o", "csv").out.splitlines() == ["agent_id,records", "bot,11", "other,1"]


def test_stats_as_json_has_what_is_promised(memstore, ids):
    found = json.loads(memstore("stats", "-o", "json").out)
    assert found["agents"] == 2
    assert found["records"] == 12
    assert {"bytes_on_disk", "shards", "lanes", "caches"} <= found.keys()
    assert json.loads(memstore("stats", "--agent", "bot", "-o", "json").out)["records"] == 11
    assert "records" in memstore("stats", "-o", "table").out


def test_reading_commands_change_nothing_and_make_no_store(memstore, root):
    for command in (("agents",), ("stats",), ("range",), ("recent", "--agent", "a"), ("shards",), ("drain",)):
        result = memstore(*command)
        assert result.code == 5, command
        assert "holds no store" in result.err
    assert not os.path.exists(root)


@pytest.mark.parametrize(
    "arguments",
    [
        ("range", "--type", "DREAM"),
        ("range", "--since", "whenever"),
        ("range", "--all-tags"),
        ("range", "--context", "novalue"),
        ("recent", "--agent", "bot", "-n", "0"),
        ("range", "--newest"),
        ("export",),
        ("import",),
        ("nonsense",),
        (),
    ],
)
def test_wrong_arguments_exit_with_2_and_one_line(memstore, ids, arguments):
    result = memstore(*arguments)
    assert result.code == 2
    assert result.out == ""
    assert len(result.err.splitlines()) == 1


def test_the_root_is_needed_and_may_come_from_the_environment(memstore, ids, root, monkeypatch):
    missing = memstore("agents", with_root=False)
    assert missing.code == 2
    assert "--root" in missing.err
    assert "MEMSTORE_ROOT" in missing.err
    monkeypatch.setenv("MEMSTORE_ROOT", root)
    assert memstore("agents", with_root=False).code == 0
