"""``memstore sql``: outputs, where the query comes from, mistakes and their exit codes, pipes and signals."""

from __future__ import annotations

import csv
import json
import signal
import subprocess
import sys

import pytest
from support import files_named, flip

from memstore import MemStore

pytest.importorskip("duckdb")
pytest.importorskip("fsspec")


@pytest.fixture
def filled(root):
    with MemStore(root, durability="os") as store:
        for agent in ("bot", "planner"):
            store.append_many(
                {
                    "agent_id": agent,
                    "memory_type": "ERROR" if number % 2 else "GOAL",
                    "content": {"number": number},
                    "timestamp_utc": f"2025-01-15T00:00:{number:02d}Z",
                }
                for number in range(10)
            )
        store.drain()
    return root


COUNTS = "SELECT agent_id, count(*) AS records FROM memories GROUP BY ALL ORDER BY ALL"


def test_an_answer_in_every_format(memstore, filled):
    assert memstore("sql", COUNTS).out == '{"agent_id":"bot","records":10}\n{"agent_id":"planner","records":10}\n'
    assert json.loads(memstore("sql", COUNTS, "-o", "json").out)[1] == {"agent_id": "planner", "records": 10}
    assert memstore("sql", COUNTS, "-o", "csv").out == "agent_id,records\r\nbot,10\r\nplanner,10\r\n"
    assert memstore("sql", COUNTS, "-o", "table").out == "agent_id records\nbot           10\nplanner       10\n"


def test_no_rows_in_every_format(memstore, filled):
    none = "SELECT agent_id, 1 AS n FROM memories WHERE false"
    assert [memstore("sql", none, "-o", form).out for form in ("ndjson", "json", "csv", "table")] == [
        "",
        "[]\n",
        "agent_id,n\r\n",
        "agent_id n\n",
    ]


def test_values_of_every_kind_keep_their_meaning(memstore, filled):
    query = """SELECT 170141183460469231731687303715884105727::HUGEINT AS huge, 1.50::DECIMAL(4, 2) AS exact,
        'NaN'::DOUBLE AS nan, DATE '2025-01-15' AS day, TIMESTAMP '2025-01-15 00:00:01' AS moment, 'x'::BLOB AS bytes,
        INTERVAL 1 DAY AS span, [1, NULL] AS list, {'a': [true]} AS struct, MAP {2: 'b'} AS map,
        '00000000-0000-0000-0000-000000000001'::UUID AS uuid, E'{"a":\\n1}'::JSON AS free, E'two\\nlines' AS text"""
    (line,) = memstore("sql", query).out.splitlines()
    assert '"huge":170141183460469231731687303715884105727,"exact":1.50,' in line
    found = json.loads(line)
    assert {**found, "huge": 0, "exact": 0} == {
        "huge": 0,
        "exact": 0,
        "nan": "nan",
        "day": "2025-01-15",
        "moment": "2025-01-15T00:00:01",
        "bytes": "78",
        "span": "1 day, 0:00:00",
        "list": [1, None],
        "struct": {"a": [True]},
        "map": {"2": "b"},
        "uuid": "00000000-0000-0000-0000-000000000001",
        "free": {"a": 1},
        "text": "two\nlines",
    }
    header, row = csv.reader(memstore("sql", query, "-o", "csv").out.splitlines(keepends=True))
    assert dict(zip(header, row, strict=True))["struct"] == '{"a":[true]}'
    assert dict(zip(header, row, strict=True))["text"] == "two\nlines"


def test_a_table_is_safe_and_fits_the_width(memstore, filled):
    assert memstore("sql", "-o", "table", "SELECT chr(27) || '[31m' AS a").out == "a\n\\x1b[31m\n"
    out = memstore("sql", "-o", "table", "SELECT * FROM memories").out
    assert max(map(len, out.splitlines())) <= 100
    assert len(out.splitlines()) == 21


def test_a_table_of_many_pages_has_one_header(memstore, filled):
    lines = memstore("sql", "-o", "table", "SELECT range AS number FROM range(1000)").out.splitlines()
    assert len(lines) == 1001
    assert lines.count("number") == 1
    assert lines[-1] == "   999"


def test_a_plan_is_drawn(memstore, filled):
    out = memstore("sql", "-o", "table", "EXPLAIN SELECT agent_id FROM memories").out
    assert "READ_NDJSON" in out
    assert len(out.splitlines()) > 3


def test_the_schema_needs_no_store(memstore):
    result = memstore("sql", "--schema", with_root=False)
    assert result.code == 0
    columns = [json.loads(line) for line in result.out.splitlines()]
    assert {"column", "type", "meaning"} == columns[0].keys()
    assert {"memory_id", "content", "tags", "session_id"} <= {each["column"] for each in columns}
    assert memstore("sql", "--tables", with_root=False).out == result.out


def test_the_schema_is_that_of_the_view(memstore, filled):
    described = [json.loads(line) for line in memstore("sql", "DESCRIBE memories").out.splitlines()]
    said = [json.loads(line) for line in memstore("sql", "--schema").out.splitlines()]
    assert [(each["column_name"], each["column_type"]) for each in described] == [
        (each["column"], each["type"]) for each in said
    ]


def test_the_query_may_come_from_standard_input(memstore, filled):
    assert memstore("sql", "-", stdin=COUNTS.encode()).out == memstore("sql", COUNTS).out
    wrong = memstore("sql", "-", stdin=b"SELECT '\xff'")
    assert (wrong.code, "is no text" in wrong.err) == (2, True)


def test_agents_times_and_parameters(memstore, filled):
    assert memstore("sql", COUNTS, "--agent", "b*").out == '{"agent_id":"bot","records":10}\n'
    assert memstore("sql", COUNTS, "--since", "2025-01-15T00:00:08Z", "--agent", "bot").out.endswith('"records":2}\n')
    found = memstore("sql", "SELECT $a AS a, $b + 1 AS b", "--param", "a=007", "--param", "b:=2")
    assert found.out == '{"a":"007","b":3}\n'


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((), "no query is given"),
        (("",), "no query is given"),
        (("SELEC",), "Parser Error"),
        (("SELECT nothing FROM memories",), "Binder Error"),
        (("COPY memories TO 'x'",), "one SELECT"),
        (("SELECT * FROM read_csv('/etc/passwd')",), "Permission Error"),
        (("SELECT 1", "--agent", "nobody"), "no agent of the store is 'nobody'"),
        (("SELECT 1", "--since", "soon"), "'soon' is not a time"),
        (("SELECT $a", "--param", "a"), "--param 'a' is not KEY=VALUE"),
        (("SELECT $a", "--param", "a:=x"), "--param a is not JSON"),
        (("SELECT 1", "--memory", "0"), "at least 1"),
    ],
)
def test_mistakes_exit_with_2_and_say_what_is_wrong(memstore, filled, arguments, told):
    result = memstore("sql", *arguments)
    assert result.code == 2
    assert result.out == ""
    assert told in result.err
    assert len(result.err.splitlines()) == 1


def test_a_missing_library_is_told(memstore, filled, monkeypatch):
    monkeypatch.setitem(sys.modules, "duckdb", None)
    result = memstore("sql", "SELECT 1")
    assert result.code == 2
    assert "pip install 'memstore[sql]'" in result.err


def test_damage_exits_with_7_and_can_be_read_around(memstore, filled):
    (path,) = files_named(filled, "bot/20250115.1.jsonl")
    flip(path, 50)
    result = memstore("sql", COUNTS)
    assert (result.code, result.out) == (7, "")
    assert path in result.err
    result = memstore("sql", COUNTS, "--on-damage", "skip")
    assert (result.code, result.out) == (0, '{"agent_id":"planner","records":10}\n')
    assert "reading around damage" in result.err


def test_no_store_exits_with_5(memstore, root):
    assert memstore("sql", "SELECT 1").code == 5


@pytest.mark.parametrize("form", ["ndjson", "json", "csv", "table"])
def test_a_closed_pipe_ends_quietly(filled, form):
    query = "SELECT m.*, range FROM memories m, range(1000000)"
    command = [sys.executable, "-m", "memstore", "--root", filled, "sql", query, "-o", form]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.read(10)
        process.stdout.close()
        err = process.stderr.read()
        assert process.wait(timeout=60) == 141
    assert err == b""


def test_ctrl_c_exits_with_130(filled):
    query = "SELECT range FROM memories, range(100000) UNION ALL SELECT a.range FROM range(1000000) a, range(1000000) b"
    command = [sys.executable, "-m", "memstore", "--root", filled, "sql", query]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert err == b"memstore: interrupted; what was acknowledged is stored\n"
