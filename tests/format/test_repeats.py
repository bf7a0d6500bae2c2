"""Repeats: a line that stands for a record expands to exactly that record's line, or is not written at all."""

from __future__ import annotations

import json
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from memstore.format.lines import agent_prefix, encode_line, id_needle, line_time_us
from memstore.format.repeats import (
    content_key,
    encode_repeat,
    expand_repeat,
    is_repeat,
    line_needle,
    looks_like_repeat,
    original_id,
    original_needle,
    take_apart,
)
from memstore.ids import number_suffix
from memstore.timestamps import iso_and_id_stamp
from tests.support import T0_US

AGENT = "bot"
PREFIX = len(agent_prefix(AGENT))
BIG = {"agent_id": AGENT, "memory_type": "SYSTEM_STATE", "importance": "LOW", "content": "x" * 300}


def line_of(fields: dict[str, Any], number: int = 0, agent: str = AGENT) -> bytes:
    iso, stamp = iso_and_id_stamp(T0_US + number * 1_000_003)
    return encode_line(agent, iso, stamp, number_suffix(number), orjson.dumps(fields))[:-1]


TEXTS = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=12),
    st.sampled_from([',"source_id":"x"', '"source_id":"', "\\", '"', '\\",', "a{b", "[", "}", "…", "\x00\n", ""]),
)
KEYS = st.one_of(
    TEXTS, st.sampled_from(["source_id", "timestamp_local", "repeat_of", "memory_id", 'x,"source_id', "metadata"])
)
JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-5, 5), st.floats(allow_nan=False, allow_infinity=False), TEXTS),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(KEYS, inner, max_size=3)),
    max_leaves=8,
)
OWN = st.fixed_dictionaries({}, optional={"source_id": TEXTS, "timestamp_local": TEXTS})


@st.composite
def twins(draw: st.DrawFn) -> tuple[dict[str, Any], dict[str, Any]]:
    """Two records in one order of fields, that differ in their own fields, or in anything."""
    names = KEYS.filter(lambda name: name != "memory_id")  # a second one: no record has that
    fields = {**BIG, **draw(st.dictionaries(names, JSON, max_size=4)), **draw(OWN)}
    order = draw(st.permutations(list(fields)))
    one = {name: fields[name] for name in order}
    two = {name: draw(TEXTS) if name in {"source_id", "timestamp_local"} else value for name, value in one.items()}
    if draw(st.integers(0, 3)) == 0:
        two["content"] = draw(JSON)
    return one, two


def in_sql(repeat: bytes, original: bytes) -> dict[str, Any]:
    """What a join on ``repeat_of`` gives: the original's fields, and over them what the repeat says itself."""
    return {**json.loads(original), **{k: v for k, v in json.loads(repeat).items() if k != "repeat_of"}}


@given(twins())
def test_a_repeat_expands_to_the_very_line_and_so_does_a_join(pair: tuple[dict[str, Any], dict[str, Any]]) -> None:
    original, line = line_of(pair[0], 1), line_of(pair[1], 2)
    repeat = encode_repeat(line, original, PREFIX)
    if repeat is None:
        return
    assert len(repeat) < len(line)
    assert is_repeat(repeat, PREFIX)
    assert expand_repeat(repeat, original, PREFIX) == line
    assert in_sql(repeat, original) == json.loads(line)
    assert line_time_us(repeat, PREFIX) == line_time_us(line, PREFIX)
    assert original.startswith(original_needle(repeat, PREFIX))


@given(twins())
def test_a_line_is_its_parts_joined_and_only_top_level_fields_are_its_own(
    pair: tuple[dict[str, Any], dict[str, Any]],
) -> None:
    line = line_of(pair[0])
    parts = take_apart(line, PREFIX)
    if parts is None:
        assert is_repeat(line, PREFIX)
        return
    assert b"".join(parts.parts) == line
    for name, at in (("source_id", parts.source_at), ("timestamp_local", parts.local_at)):
        own = json.loads(b'"%b"' % parts.parts[at]) if at else None
        value = pair[0].get(name)
        assert own == value or (own is None and not isinstance(value, str))


def test_records_that_differ_only_in_their_own_fields_share_a_key_and_no_others_do() -> None:
    one, two, other = (
        content_key(line_of(fields, number), PREFIX)
        for number, fields in enumerate(
            [{**BIG, "source_id": "a"}, {**BIG, "source_id": 'b"\\'}, {**BIG, "source_id": "a", "tags": ["t"]}]
        )
    )
    assert one is not None
    assert two is not None
    assert other is not None
    assert one[0] == two[0] != other[0]


@pytest.mark.parametrize(
    "order",
    [
        ["source_id", "timestamp_local", "content"],
        ["timestamp_local", "source_id", "content"],
        ["content", "source_id", "timestamp_local"],
        ["source_id", "content", "timestamp_local"],
        ["timestamp_local", "content", "source_id"],
    ],
)
def test_own_fields_are_found_in_any_order_behind_nested_ones_of_the_same_name(order: list[str]) -> None:
    nested = {"a": 1, "source_id": "nested", "b": [{"c": 1, "timestamp_local": "nested"}], "long": "x" * 200}
    one, two = (
        {**BIG, **{name: nested if name == "content" else f"{name}{number}" for name in order}} for number in (1, 2)
    )
    one, two = ({k: f[k] for k in ["agent_id", "memory_type", "importance", *order]} for f in (one, two))
    original, line = line_of(one, 1), line_of(two, 2)
    repeat = encode_repeat(line, original, PREFIX)
    assert repeat is not None
    assert b'"source_id":"source_id2","timestamp_local":"timestamp_local2"}' in repeat
    assert expand_repeat(repeat, original, PREFIX) == line


def test_a_nested_source_id_is_content() -> None:
    one, two = ({**BIG, "context": {"a": 1, "source_id": f"s{number}"}} for number in (1, 2))
    assert encode_repeat(line_of(two, 2), line_of(one, 1), PREFIX) is None


def test_many_nested_source_ids_cost_no_more_than_some_tries() -> None:
    fields = {**BIG, "content": [{"a": 1, "source_id": "s"}] * 5000, "source_id": "own"}
    parts = take_apart(line_of(fields), PREFIX)
    assert parts is not None
    assert parts.source_at == 0  # not found, and so part of what repeats
    assert encode_repeat(line_of(fields, 2), line_of(fields, 1), PREFIX) is not None


def test_a_record_too_short_to_gain_stays_whole() -> None:
    fields = {"agent_id": AGENT, "memory_type": "GOAL", "importance": "LOW"}
    assert encode_repeat(line_of(fields, 2), line_of(fields, 1), PREFIX) is None


@pytest.mark.parametrize("agent", ['a"b\\c', "ünïcode…", "under_score_20250115_143000_1"])
def test_agents_of_any_name_have_repeats(agent: str) -> None:
    prefix = len(agent_prefix(agent))
    fields = {**BIG, "agent_id": agent, "source_id": "s"}
    original, line = line_of(fields, 1, agent), line_of(fields, 2, agent)
    repeat = encode_repeat(line, original, prefix)
    assert repeat is not None
    memory_id = json.loads(original)["memory_id"]
    assert json.loads(repeat)["repeat_of"] == memory_id
    assert json.loads(b'"%b"' % original_id(repeat, prefix)) == memory_id
    assert original_needle(repeat, prefix) == id_needle(memory_id) == line_needle(original, prefix)
    assert expand_repeat(repeat, original, prefix) == line


def test_a_repeat_is_no_original_and_is_not_collapsed_again() -> None:
    first, second, third = (line_of(BIG, number) for number in (1, 2, 3))
    repeat = encode_repeat(second, first, PREFIX)
    assert repeat is not None
    assert encode_repeat(third, repeat, PREFIX) is None
    assert encode_repeat(repeat, first, PREFIX) is None
    assert content_key(repeat, PREFIX) is None


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (line_of({"repeat_of": "x", **BIG}), True),
        (line_of({**BIG, "repeat_of": 7}), True),
        (line_of({**BIG, "content": {"repeat_of": "x"}}), False),
        (line_of({**BIG, "content": '"repeat_of":'}), False),
        (b'{"repeat_of"', True),
        (line_of(BIG), False),
    ],
)
def test_a_field_repeat_of_of_its_own_is_noticed(line: bytes, expected: bool) -> None:
    assert looks_like_repeat(line) is expected


def test_what_does_not_fit_is_refused() -> None:
    original, line = line_of(BIG, 1), line_of(BIG, 2)
    repeat = encode_repeat(line, original, PREFIX)
    assert repeat is not None
    other = line_of(BIG, 3)
    for bad, whole in [
        (line, original),  # no repeat
        (repeat, other),  # another original
        (repeat, repeat),  # an original that is a repeat
        (repeat[:-1], original),
        (repeat[:-1] + b',"tags":[]}', original),
        (repeat[:-1] + b',"source_id":"x"}', original),
        (repeat[:-1] + b',"source_id":"x', original),
        (repeat.replace(b'"repeat_of":"bot', b'"repeat_of":"cat'), original),
        (repeat[: PREFIX + 120], original),
    ]:
        with pytest.raises(ValueError):
            expand_repeat(bad, whole, PREFIX)


@given(st.binary(max_size=400), st.binary(max_size=100))
def test_any_bytes_are_refused_rather_than_misread(tail: bytes, other: bytes) -> None:
    line = line_of(BIG)[: PREFIX + 85] + tail
    assert encode_repeat(line, other, PREFIX) is None
    repeat = encode_repeat(line, line_of(BIG, 1), PREFIX)
    assert repeat is None or expand_repeat(repeat, line_of(BIG, 1), PREFIX) == line
