"""What becomes of a record on its way to a line and back."""

import msgspec
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from memstore.draft import FIELD_NAMES, draft_record
from memstore.draft_shape import StoredShape, stored_shape
from memstore.errors import InvalidRecordError, StorageError
from memstore.format.lines import agent_prefix, encode_line, id_needle, line_time_us, time_bound
from memstore.record import Importance, InputPart, MemoryRecord, MemoryType, Relationships, ResponsePart, decode_record
from memstore.timestamps import iso_and_id_stamp

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner, max_size=4)
    ),
    max_leaves=12,
)


def line_of(fields, time_us=1_736_951_400_123_456, suffix="0" * 16):
    draft = draft_record(fields)
    iso, stamp = iso_and_id_stamp(time_us)
    return encode_line(draft.agent_id, iso, stamp, suffix, draft.body)


@given(json_values, st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=20))
def test_free_json_comes_back_as_it_went_in(content, agent):
    line = line_of({"agent_id": agent, "content": content})
    assert line.count(b"\n") == 1
    assert line.endswith(b"\n")
    record = decode_record(line)
    assert record.content == content
    assert record.agent_id == agent
    assert record.memory_id == f"{agent}_20250115_143000_123456{'0' * 16}"
    assert line.startswith(id_needle(record.memory_id))
    assert line_time_us(line, len(agent_prefix(agent))) == 1_736_951_400_123_456


def test_the_line_begins_with_id_and_time_and_always_names_type_and_importance():
    assert line_of({"agent_id": "bot", "content": {"a": 1}}) == (
        b'{"memory_id":"bot_20250115_143000_1234560000000000000000","timestamp_utc":"2025-01-15T14:30:00.123456Z",'
        b'"memory_type":"INTERACTION","importance":"MEDIUM","agent_id":"bot","content":{"a":1}}\n'
    )


def test_every_field_survives_the_way_through_a_line():
    record = MemoryRecord(
        agent_id="bot",
        timestamp_local="2025-01-15T15:30:00+01:00",
        shard_id="shard_001",
        source_id="old-7",
        memory_type=MemoryType.GOAL,
        importance=Importance.CRITICAL,
        input=InputPart(content={"q": [1]}, source="user", context_id="c1"),
        response=ResponsePart(content="yes", success=True, confidence=0.5, processing_time_ms=12),
        content=[1, {"x": None}],
        context={"session_id": "s", "n": 1},
        tags=["a", "b"],
        relationships=Relationships(parent_memory_id="p", related_memories=["r"]),
        metadata={"memory_version": "2.0", "retention_days": 30},
    )
    back = decode_record(line_of(record))
    assert msgspec.structs.replace(back, memory_id="", timestamp_utc="") == record
    assert {f.name for f in msgspec.structs.fields(MemoryRecord)} == FIELD_NAMES


def test_plain_text_stands_for_the_content_of_input_and_response():
    record = decode_record(line_of({"agent_id": "bot", "input": "hi", "response": "ho"}))
    assert (record.input, record.response) == (InputPart(content="hi"), ResponsePart(content="ho"))


def test_unknown_fields_of_a_stored_line_do_not_stop_it_being_read():
    assert decode_record(b'{"memory_id":"x","agent_id":"a","invented_later":{"a":1}}').agent_id == "a"


def test_a_line_that_is_no_record_says_so():
    with pytest.raises(StorageError, match="no record"):
        decode_record(b'{"memory_id":"x","memory_type":"DREAM"}')


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"memory_type": "DREAM"}, "DREAM.*INTERACTION"),
        ({"importance": "high"}, "high.*CRITICAL"),
        ({"importance": 3}, "importance"),
        ({"content": float("nan")}, "NaN"),
        ({"content": {"deep": [1, {"er": float("inf")}]}}, r"record\.content\.deep\.1\.er"),
        ({"context": {"x": float("-inf")}}, "NaN or infinite"),
        ({"content": {1, 2}}, "not JSON"),
        ({"content": b"bytes"}, "not JSON"),
        ({"content": {1: "key"}}, "not JSON"),
        ({"content": object()}, "not JSON"),
        ({"content": 2**64}, "not JSON"),
        ({"content": "\ud800"}, "not JSON"),
        ({"tags": "market"}, "tags must be a list"),
        ({"tags": [1]}, "tags must be a list"),
        ({"context": [1]}, "context must be a JSON object"),
        ({"input": {"text": "x"}}, "no field 'text'"),
        ({"response": {"success": "yes"}}, "success"),
        ({"response": {"confidence": True}}, "confidence"),
        ({"metadata": {"retention_days": -1}}, "retention_days"),
        ({"memory_id": "mine"}, "source_id"),
        ({"mmory_type": "ERROR"}, "did you mean 'memory_type'"),
        ({"agent_id": ""}, "empty"),
        ({"source_id": 5}, "source_id"),
        ({"relationships": {"parent_memory_id": 5}}, "parent_memory_id"),
    ],
)
def test_bad_fields_are_refused_by_name(fields, says):
    with pytest.raises(InvalidRecordError, match=says):
        draft_record({"agent_id": "bot", **fields})


def test_a_null_inside_content_is_no_nan():
    assert decode_record(line_of({"agent_id": "a", "content": {"x": None, "y": [None]}})).content == {
        "x": None,
        "y": [None],
    }


def test_a_record_over_the_limit_is_refused():
    with pytest.raises(InvalidRecordError, match="limit is 1000"):
        draft_record({"agent_id": "a", "content": "x" * 1000}, record_bytes_max=1000)


def test_a_raw_fragment_cannot_break_a_line():
    with pytest.raises(InvalidRecordError, match="line break"):
        draft_record({"agent_id": "a", "content": orjson.Fragment(b"[1,\n2]")})


@given(st.integers(0, 2**51), st.integers(0, 2**51))
def test_a_time_bound_divides_lines_by_their_time(line_us, bound_us):
    line = line_of({"agent_id": "a_b"}, time_us=line_us)
    assert (line < time_bound(agent_prefix("a_b"), bound_us)) == (line_us < bound_us)


@pytest.mark.parametrize(
    "fields",
    [
        {"content": 1},
        {"memory_type": "ERROR", "content": None},
        {"importance": Importance.LOW, "memory_type": MemoryType.PLAN},
        {"input": "text", "response": "text"},
        {"input": InputPart(content="x"), "tags": ("a", "b")},
        {"tags": [], "context": {}, "metadata": {}, "relationships": None},
        {"metadata": {"retention_days": 3}, "relationships": {"parent_memory_id": "p"}},
        {"response": {"confidence": 1, "success": False}},
        {"content": {"null": [None, "null"]}, "source_id": "s"},
        {"timestamp_utc": "2025-01-15", "content": "x"},
    ],
)
def test_records_that_are_encoded_as_given_say_the_same_as_those_that_are_brought_into_shape(fields, monkeypatch):
    quick = draft_record({"agent_id": "bot", **fields})
    monkeypatch.setattr("memstore.draft.stored_shape", lambda fields: None)
    slow = draft_record({"agent_id": "bot", **fields})
    assert (quick.agent_id, quick.timestamp, quick.source_id) == (slow.agent_id, slow.timestamp, slow.source_id)
    assert decode_record(quick.body) == decode_record(slow.body)


def test_the_quick_shape_knows_every_field_type_and_importance():
    assert {f.name for f in msgspec.structs.fields(StoredShape)} == FIELD_NAMES - {"memory_id"}
    for field, members in (("memory_type", MemoryType), ("importance", Importance)):
        for member in members:
            assert getattr(stored_shape({"agent_id": "a", field: member.value}), field) == member.value
    with pytest.raises(InvalidRecordError):
        draft_record({"agent_id": "a", "memory_type": ""})
