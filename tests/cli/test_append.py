from __future__ import annotations

import json

import pytest


def _lines(*records) -> bytes:
    return b"".join(json.dumps(record).encode() + b"\n" for record in records)


def test_append_prints_the_bare_id_and_get_finds_it(memstore):
    result = memstore(
        "append", "--agent", "bot", "--input", "Analyze the market", "--importance", "high", "--tag", "market"
    )
    assert result.code == 0, result.err
    memory_id = result.out.strip()
    assert memory_id.startswith("bot_")
    record = json.loads(memstore("get", memory_id).out)
    assert record["input"] == {"content": "Analyze the market"}
    assert record["importance"] == "HIGH"
    assert record["tags"] == ["market"]


def test_every_field_flag_reaches_the_record(memstore):
    parent = memstore("append", "--agent", "bot", "--input", "first").out.strip()
    result = memstore(
        *("append", "--agent", "bot", "--type", "ERROR", "--response", "no", "--content", '{"code": 502}'),
        *("--session", "s1", "--context", "user_id=007", "--context", "attempt:=3", "--parent", parent),
        *("--metadata", '{"retention_days": 30}', "--timestamp", "2025-01-15T14:30:00+02:00", "--source-id", "old-1"),
    )
    assert result.code == 0, result.err
    record = json.loads(memstore("get", result.out.strip()).out)
    assert record["memory_type"] == "ERROR"
    assert record["content"] == {"code": 502}
    assert record["context"] == {"session_id": "s1", "user_id": "007", "attempt": 3}
    assert record["relationships"]["parent_memory_id"] == parent
    assert record["metadata"] == {"retention_days": 30}
    assert record["timestamp_utc"].startswith("2025-01-15T12:30:00")
    assert record["source_id"] == "old-1"


def test_asked_for_json_the_id_comes_as_json(memstore):
    result = memstore("append", "--agent", "bot", "--input", "x", "-o", "json")
    assert json.loads(result.out)["memory_id"].startswith("bot_")


def test_ndjson_on_standard_input_is_appended_in_order(memstore):
    result = memstore("append", "-", stdin=_lines(*({"agent_id": "bot", "input": f"line {n}"} for n in range(2500))))
    assert result.code == 0, result.err
    ids = result.out.split()
    assert len(ids) == 2500
    assert ids == sorted(ids)
    assert "2,500 records stored" in result.err


def test_piped_input_needs_no_dash_and_the_agent_flag_fills_in(memstore):
    result = memstore("append", "--agent", "bot", stdin=b'{"input": "a"}\n\n{"input": "b", "agent_id": "other"}')
    assert result.code == 0, result.err
    assert [line.split("_")[0] for line in result.out.split()] == ["bot", "other"]


def test_a_bad_line_is_named_with_what_was_stored_before_it(memstore):
    result = memstore("append", stdin=_lines(*({"agent_id": "bot", "content": n} for n in range(1000))) + b"{oops\n")
    assert result.code == 4
    assert "line 1001" in result.err
    assert "lines 1 to 1000 are stored" in result.err
    assert len(result.out.split()) == 1000


def test_a_record_the_store_refuses_is_named_by_its_line(memstore):
    lines = b'\n{"agent_id": "bot", "content": 1}\n\n{"agent_id": "bot", "memory_type": "DREAM"}\n'
    result = memstore("append", stdin=lines)
    assert result.code == 4
    assert "line 4" in result.err
    assert "no line is stored" in result.err
    assert result.out == ""
    assert memstore("agents").out == ""


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (b"[1]\n", "not an object"),
        (b'{"input": "x"}\n', "no agent_id"),
        (b"\xff\xfe\n", "not JSON"),
        (b'{"agent_id": "bot", "content": NaN}\n', "not JSON"),
    ],
)
def test_lines_that_are_no_records_are_refused(memstore, line, words):
    result = memstore("append", stdin=line)
    assert result.code == 4
    assert words in result.err


def test_an_integer_too_large_for_json_libraries_is_refused_and_not_rounded(memstore):
    result = memstore("append", stdin=b'{"agent_id": "bot", "content": 1180591620717411303425}\n')
    assert result.code == 4


def test_content_that_is_no_json_is_refused_with_the_way_to_write_it(memstore):
    result = memstore("append", "--agent", "bot", "--content", "plain words")
    assert result.code == 4
    assert "'\"plain words\"'" in result.err


def test_nothing_to_append_on_a_terminal_is_a_usage_error(memstore):
    assert memstore("append", "--agent", "bot").code == 2


def test_field_flags_do_not_go_with_standard_input(memstore):
    result = memstore("append", "-", "--agent", "bot", "--type", "ERROR", stdin=b"{}\n")
    assert result.code == 2
    assert "--type" in result.err


def test_an_agent_is_needed(memstore):
    assert memstore("append", "--input", "x").code == 2
