"""Digests: long text is cut, the record says so, and nothing else about it changes."""

from __future__ import annotations

import json
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from memstore.codec.checksum import checksum
from memstore.lifecycle.digest import digest_line
from tests.format.test_repeats import AGENT, BIG, JSON, KEYS, line_of
from tests.support import T0_US

LONG = "é" * 400
AT = "2025-01-15T00:00:00.000000Z"


def digest(line: bytes, text_bytes_max: int = 100) -> bytes | None:
    return digest_line(line, at_us=T0_US, text_bytes_max=text_bytes_max)


def digested(fields: dict[str, Any], text_bytes_max: int = 100) -> dict[str, Any]:
    line = digest(line_of(fields), text_bytes_max)
    assert line is not None
    record: dict[str, Any] = json.loads(line)
    return record


def test_long_text_is_cut_at_any_depth_and_the_record_says_so() -> None:
    fields = {
        **BIG,
        "content": {"a": [LONG, {"b": LONG, "n": 1}], "short": "s"},
        "input": {"content": LONG, "source": "user"},
        "response": {"content": [LONG], "success": True},
        "metadata": {"memory_version": "2.0"},
    }
    record = digested(fields)
    cut = "é" * 50 + "…"
    assert record["content"] == {"a": [cut, {"b": cut, "n": 1}], "short": "s"}
    assert record["input"] == {"content": cut, "source": "user"}
    assert record["response"] == {"content": [cut], "success": True}
    assert record["metadata"] == {
        "memory_version": "2.0",
        "digest": {"at": AT, "bytes": 4 * 700, "xxh3": checksum(line_of(fields))},
    }


def test_text_anywhere_else_and_keys_stay_whole() -> None:
    kept = {"context": {"c": LONG}, "tags": [LONG], "source_id": LONG, "unknown": {"content": LONG}}
    record = digested({**BIG, "content": {LONG: LONG * 2}, **kept, "input": {"source": LONG}})
    assert list(record["content"]) == [LONG]
    assert {name: record[name] for name in kept} == kept
    assert record["input"] == {"source": LONG}


def test_metadata_is_added_last_where_there_is_none() -> None:
    assert list(digested({**BIG, "content": LONG, "unknown": 1}))[-2:] == ["unknown", "metadata"]


def test_a_character_is_never_split() -> None:
    record = digested({**BIG, "content": "a" + LONG}, 100)
    assert record["content"] == "a" + "é" * 49 + "…"
    assert record["metadata"]["digest"]["bytes"] == 801 - 99


@pytest.mark.parametrize(
    "fields",
    [
        {**BIG, "content": "short"},
        {**BIG, "content": "é" * 51},  # 102 bytes: with the ellipsis it would be 103
        {**BIG, "content": "x" * 130},  # what it gains is less than what saying so costs
        {**BIG, "context": {"c": LONG}, "content": None},
        {**BIG, "content": LONG, "metadata": {"digest": None}},
        {**BIG, "content": LONG, "metadata": []},
    ],
)
def test_a_record_with_nothing_to_gain_stays_as_it_is(fields: dict[str, Any]) -> None:
    assert digest(line_of(fields)) is None


def test_a_digest_is_not_digested_again() -> None:
    once = digest(line_of({**BIG, "content": LONG}))
    assert once is not None
    assert digest(once, 10) is None


@pytest.mark.parametrize(
    "raw",
    [b"123456789012345678901234567890", b"1e400", b"1.10", b"1E5", b'{"a":1,"a":2}', b"[1, 2]", b'"\\u0041"', b"x"],
)
def test_a_record_that_json_would_not_give_back_stays_as_it_is(raw: bytes) -> None:
    line = line_of({**BIG, "content": LONG, "x": 0})
    assert digest(line.replace(b'"x":0', b'"x":%b' % raw)) is None


@pytest.mark.parametrize("line", [b"", b"[" + b"1," * 200 + b"1]", b'"' + b"x" * 300 + b'"', b"\xff" * 300])
def test_what_is_no_record_stays_as_it_is(line: bytes) -> None:
    assert digest(line) is None


@pytest.mark.parametrize(("depth", "expected"), [(200, True), (600, False), (2000, False)])
def test_nesting_is_followed_as_deep_as_json_can_be_written(depth: int, expected: bool) -> None:
    line = line_of({**BIG, "x": 0}).replace(b'"x":0', b'"content":%b"%b"%b' % (b"[" * depth, b"y" * 999, b"]" * depth))
    line = line.replace(b'"content":"', b'"text":"', 1)
    assert (digest(line) is not None) is expected


@given(st.dictionaries(KEYS, JSON, max_size=4), JSON, st.integers(0, 40))
def test_all_but_long_text_survives_in_its_order(extra: dict[str, Any], content: Any, text_bytes_max: int) -> None:
    fields = {**extra, **BIG, "content": [content, "long ☃ text " * 40, 2**63, 0.1], "agent_id": AGENT}
    line = line_of(fields)
    result = digest(line, text_bytes_max)
    if result is None:
        return
    before, after = orjson.loads(line), orjson.loads(result)
    assert len(result) < len(line)
    assert result[:100] == line[:100]
    said = after["metadata"].pop("digest")
    assert said["xxh3"] == checksum(line)
    assert [name for name in after if name != "metadata"] == [name for name in before if name != "metadata"]
    removed = 0
    pending = [(before.pop("content"), after.pop("content"))]
    for name in ("input", "response"):
        if isinstance(before.get(name), dict) and "content" in before[name]:
            pending.append((before[name].pop("content"), after[name].pop("content")))
    while pending:
        one, two = pending.pop()
        if isinstance(one, dict):
            assert list(one) == list(two)
            pending += [(one[key], two[key]) for key in one]
        elif isinstance(one, list):
            pending += zip(one, two, strict=True)
        elif isinstance(one, str) and one != two:
            assert two.endswith("…")
            assert one.startswith(two[:-1])
            assert text_bytes_max - 3 <= len(two[:-1].encode()) <= text_bytes_max
            removed += len(one.encode()) - len(two[:-1].encode())
        else:
            assert one == two
    assert removed == said["bytes"]
    assert before.pop("metadata", {}) == after.pop("metadata")
    assert before == after
