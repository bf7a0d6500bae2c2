"""Times in and out."""

import datetime as dt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memstore.errors import UsageError
from memstore.timestamps import (
    YEAR_10000_US,
    datetime_to_us,
    day_start_us,
    day_text,
    id_stamp_to_us,
    iso_and_id_stamp,
    parse_time,
)

NOW_US = 1_736_951_400_000_000  # 2025-01-15T14:30:00Z
times = st.integers(min_value=0, max_value=YEAR_10000_US - 1)


@given(times)
def test_both_texts_of_a_time_give_it_back(time_us):
    iso, stamp = iso_and_id_stamp(time_us)
    assert (len(iso), len(stamp)) == (27, 22)
    assert id_stamp_to_us(stamp) == time_us
    assert parse_time(iso, now_us=0) == time_us
    assert day_start_us(day_text(time_us)) <= time_us < day_start_us(day_text(time_us)) + 86_400_000_000


@pytest.mark.parametrize(
    ("given_time", "seconds_before"),
    [("90s", 90), ("15min", 900), ("15m", 900), ("12h", 43_200), ("7d", 604_800), ("4w", 2_419_200)],
)
def test_ages_count_back_from_now(given_time, seconds_before):
    assert parse_time(given_time, now_us=NOW_US) == NOW_US - seconds_before * 1_000_000


@pytest.mark.parametrize(
    "same",
    [
        "2025-01-15T14:30:00Z",
        "2025-01-15T14:30:00",
        "2025-01-15 16:30:00+02:00",
        "20250115T143000",
        dt.datetime(2025, 1, 15, 14, 30),
        dt.datetime(2025, 1, 15, 15, 30, tzinfo=dt.timezone(dt.timedelta(hours=1))),
        NOW_US,
    ],
)
def test_the_same_moment_in_many_forms(same):
    assert parse_time(same, now_us=0) == NOW_US


@pytest.mark.parametrize("bad", ["", "yesterday", "7", "2025-13-01", "7 years", 1.5, None, True, b"7d"])
def test_what_is_no_time_is_refused_with_examples(bad):
    with pytest.raises(UsageError):
        parse_time(bad, now_us=NOW_US)


def test_naive_datetimes_take_the_zone_that_is_asked_for():
    zone = dt.timezone(dt.timedelta(hours=-5))
    assert datetime_to_us(dt.datetime(1970, 1, 1), assume_tz=zone) == 5 * 3600 * 1_000_000
