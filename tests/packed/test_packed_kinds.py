"""Counting kinds: what retention wants to know of a file, whatever people write into their metadata."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packing import STEP_US, T0_US, line_of

from memstore.errors import StorageError
from memstore.format.manifest import KindCount
from memstore.packed.kinds import RETENTION_DAYS_MAX, KindCounter, Repeat, own_period_us
from memstore.timestamps import US_PER_DAY

TYPES = ["INTERACTION", "ERROR", "SOMETHING_NEW"]
IMPORTANCES = ["LOW", "CRITICAL"]
SEP = (",", ":")


def record(number, memory_type="ERROR", importance="LOW", **fields):
    return line_of(
        number,
        fields=json.dumps({"memory_type": memory_type, "importance": importance, **fields}, separators=SEP)[
            1:-1
        ].encode(),
    )


def time_of(number):
    return T0_US + number * STEP_US


@given(
    st.lists(st.tuples(st.sampled_from(TYPES), st.sampled_from(IMPORTANCES)), max_size=40),
    st.integers(1, 10),
)
def test_every_record_is_counted_once_with_its_first_and_last_time(kinds, step):
    counter = KindCounter()
    lines = [record(number, *kind) for number, kind in enumerate(kinds)]
    starts = list(range(0, len(lines), step))
    for start in starts[::-1]:  # pieces in any order
        assert counter.add(b"".join(lines[start : start + step]), ingested_us=T0_US) == []
    numbers = {kind: [number for number, each in enumerate(kinds) if each == kind] for kind in set(kinds)}
    assert counter.kinds() == [
        KindCount(*kind, len(found), time_of(found[0]), time_of(found[-1])) for kind, found in sorted(numbers.items())
    ]
    assert counter.own is None


@pytest.mark.parametrize("days", [1, 30, 0.5, 1e6, 10**6, 7.25])
def test_a_period_of_its_own_ends_so_long_after_the_later_of_record_and_ingest(days):
    period = int(days * US_PER_DAY)
    counter = KindCounter()
    counter.add(record(1, metadata={"retention_days": days, "other": [1]}), ingested_us=time_of(0))
    assert counter.own == (1, time_of(1) + period, time_of(1) + period)
    counter.add(record(2, metadata={"retention_days": days}), ingested_us=time_of(500))
    assert counter.own == (2, time_of(1) + period, time_of(500) + period)


NONSENSE = [
    "null", "true", "false", "0", "-1", "-0.5", '"30"', "[]", "[30]", "{}", '{"days":3}', "1000001", "1e7", "1e999",
    "-1e999", "1" + "0" * 400, "9" * 30, '""', "0.0", "-0",
]  # fmt: skip


@pytest.mark.parametrize("text", NONSENSE)
def test_what_can_be_no_period_does_not_count(text):
    line = record(1, metadata={"retention_days": "HERE"}).replace(b'"HERE"', text.encode())
    counter = KindCounter()
    counter.add(line + record(2), ingested_us=1)
    assert counter.own is None
    assert [kind.records for kind in counter.kinds()] == [2]


@pytest.mark.parametrize("days", [True, False, None, "3", 0, -1, float("nan"), float("inf"), 10**400, 1e300, [1]])
def test_a_value_that_can_be_no_period_is_none(days):
    assert own_period_us(days) is None


def test_the_longest_period_is_one():
    assert own_period_us(RETENTION_DAYS_MAX) == RETENTION_DAYS_MAX * US_PER_DAY
    assert own_period_us(RETENTION_DAYS_MAX + 1) is None


@pytest.mark.parametrize("metadata", ["null", "[]", '"text"', "7", "true", '[{"retention_days":3}]'])
def test_metadata_that_is_no_object_does_no_harm(metadata):
    line = record(1, metadata={"x": 1}).replace(b'{"x":1}', metadata.encode())
    counter = KindCounter()
    counter.add(record(0, metadata={"retention_days": 2}) + line + record(2), ingested_us=1)
    assert counter.own == (1, time_of(0) + 2 * US_PER_DAY, time_of(0) + 2 * US_PER_DAY)
    assert [kind.records for kind in counter.kinds()] == [3]


def test_a_nested_retention_days_is_not_the_record_s_own():
    counter = KindCounter()
    counter.add(record(1, context={"metadata": {"retention_days": 3}}, retention_days=3), ingested_us=1)
    assert counter.own is None


def test_lines_that_stand_for_repeats_are_handed_back_and_counted_by_the_caller():
    original = json.loads(record(1))["memory_id"]
    repeated = json.loads(record(2))["memory_id"]
    stand_in = json.dumps({"memory_id": repeated, "timestamp_utc": "x", "repeat_of": original}, separators=SEP)
    counter = KindCounter()
    assert counter.add(record(1) + stand_in.encode() + b"\n" + record(3, "BELIEF"), ingested_us=1) == [
        Repeat(repeated, original)
    ]
    assert counter.kinds() == [
        KindCount("BELIEF", "LOW", 1, time_of(3), time_of(3)),
        KindCount("ERROR", "LOW", 1, time_of(1), time_of(1)),
    ]
    counter.add_record("ERROR", "LOW", time_us=time_of(2), ingested_us=time_of(9), retention_days=1)
    assert counter.kinds()[1] == KindCount("ERROR", "LOW", 2, time_of(1), time_of(2))
    assert counter.own == (1, time_of(9) + US_PER_DAY, time_of(9) + US_PER_DAY)


def test_many_megabytes_are_counted_in_pieces():
    lines = [record(number, content="x" * 5000) for number in range(500)]
    counter = KindCounter()
    counter.add(b"".join(lines) + record(501, content="y" * 3_000_000) + record(502), ingested_us=1)
    assert [kind.records for kind in counter.kinds()] == [502]


@pytest.mark.parametrize(
    "line", [b"{}\n", b"text\n", b"[]\n", b'{"memory_id":7}\n', b'{"memory_id":"a","metadata":[]\n']
)
def test_a_line_that_is_no_record_is_an_error_that_shows_it(line):
    with pytest.raises(StorageError, match="is no record"):
        KindCounter().add(record(1) + line, ingested_us=1)
