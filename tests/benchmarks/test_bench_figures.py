"""Percentiles, ratios, spreads, and how figures are written."""

import pytest

from benchmarks.figures import aligned, over, percentile, spread, written, written_us
from benchmarks.meter import Weight
from benchmarks.report import Headline, Ratio, Report, Row, judged
from benchmarks.targets import OF_FLOOR, TARGETS, target_of, workload_of


def test_a_percentile_is_a_value_that_was_measured():
    values = list(range(1, 101))
    assert percentile(values, 0.5) == 50
    assert percentile(values, 0.99) == 99
    assert percentile(values, 1.0) == 100
    assert percentile([7.0], 0.01) == 7.0


def test_the_percentile_of_nothing_is_0():
    assert percentile([], 0.5) == 0


def test_order_does_not_matter_to_a_percentile():
    assert percentile([3, 1, 2], 0.5) == 2


def test_rounds_are_compared_side_by_side():
    assert over([10, 40], [20, 20]) == [0.5, 2]
    with pytest.raises(ValueError, match="shorter"):
        over([1, 2], [1])


def test_a_spread_is_half_of_what_rounds_lie_apart():
    assert spread([0.9, 1.0, 1.1]) == pytest.approx(0.1)
    assert spread([5.0]) == 0


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (12345.6, "12,346"),
        (123.4, "123"),
        (12.34, "12.3"),
        (1.234, "1.23"),
        (0.0123, "0.012"),
        (0.00123, "0.0012"),
        (0, "0"),
    ],
)
def test_a_figure_has_the_digits_that_count(value, text):
    assert written(value) == text


@pytest.mark.parametrize(("us", "text"), [(0.5, "0.50 µs"), (1500, "1.50 ms"), (2_500_000, "2.50 s")])
def test_a_time_has_the_unit_in_which_it_reads_best(us, text):
    assert written_us(us) == text


def test_columns_of_figures_end_below_one_another():
    assert aligned([("a", "1"), ("bb", "100")]) == ["  a     1", "  bb  100"]


def test_the_median_of_the_rounds_is_held_against_the_target():
    assert Ratio("speed", [0.4, 0.6, 0.7], 0.5).verdict == "met"
    assert Ratio("speed", [0.4, 0.4, 0.7], 0.5).verdict == "MISSED"
    assert Ratio("time", [3.0], 2.0, at_most=True).verdict == "MISSED"
    assert Ratio("of interest", [3.0]).verdict == ""


def test_a_variant_has_its_own_target_or_that_of_its_workload():
    assert workload_of("fill_agents[10000]") == "fill_agents"
    assert target_of("fill_agents[10000]", OF_FLOOR).bound == 0.5
    assert target_of("fill_agents[10]", OF_FLOOR) is None
    assert target_of("growth[10 records]", "open") == TARGETS["growth"]["open"]


def test_a_ratio_knows_its_target_by_name():
    ratio = judged("get_cached", "median", [4.0])
    assert (ratio.target, ratio.at_most, ratio.unit, ratio.verdict) == (5, True, "µs", "met")
    assert judged("get_cached", "whatever", [4.0], unit="ms").target is None


def test_a_report_tells_what_every_workload_tells():
    report = Report("fill_batch", ".", "fsync", 1000, 780_000, rows=[Row("floor", [10.0, 20.0], "records/s")])
    report.headline = Headline("append", [1.0, 2.0, 300.0], [1000.0], "write", [0.7], Weight(50.0, 30.0, 2.5))
    told = report.as_dict()
    assert told["headline"]["us"] == {"median": 2.0, "p90": 300.0, "p99": 300.0, "max": 300.0, "n": 3}
    assert told["headline"]["written_per_byte"] == 2.5
    assert told["ratios"][OF_FLOOR] == {
        "value": 0.7, "rounds": [0.7], "target": 0.6, "at_most": False, "unit": "", "verdict": "met",
    }  # fmt: skip
    assert told["rows"]["floor"]["max"] == 20
    text = report.text()
    assert "1,000 records, 780,000 bytes, durability fsync" in text
    assert "median 2.00 µs, p90 300 µs" in text
    assert "2.50 bytes written for a byte stored" in text


def test_what_cannot_be_had_is_said():
    report = Report("get", ".", "reads only", 1, 780)
    report.headline = Headline("get", [1.0], [1.0], "read", [1.0])
    assert "unknown bytes written" in report.text()
