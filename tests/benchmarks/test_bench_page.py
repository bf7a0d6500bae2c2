"""The page is made from a result, and says what is in it."""

import re
import xml.dom.minidom

import pytest
from small_run import growth, write_run

from benchmarks.page.__main__ import main
from benchmarks.page.slopes import Slope, slopes
from benchmarks.results import read_run
from benchmarks.targets import OF_FLOOR, TARGETS


@pytest.fixture
def page(tmp_path):
    assert main([str(write_run(tmp_path / "run.json")), "--docs", str(tmp_path)]) == 0
    return (tmp_path / "benchmarks.md").read_text(), (tmp_path / "benchmarks.html").read_text()


def test_both_pages_say_on_what_it_was_measured_and_how_to_repeat_it(page):
    for text in page:
        for wanted in (
            "2, a processor",
            "Linux 6",
            "cpython 3.11.7",
            "orjson 3.10",
            "make bench bench-page",
            "10 minutes",
            "0.1 before, 1.4",
        ):
            assert wanted in text, wanted


def test_every_target_is_there_measured_or_not(page):
    markdown, _ = page
    assert f"| fill_batch | {OF_FLOOR} | 0.55 | at least 0.60 | MISSED |" in markdown
    assert "| get_cached | median | 4.00 µs | at most 5.00 µs | met |" in markdown
    for name, wanted in TARGETS.items():
        for what in wanted:
            assert re.search(rf"^\| {re.escape(name)}.* \| {re.escape(what)} \|", markdown, flags=re.MULTILINE), (
                name,
                what,
            )
    assert "| recent | recent(50) / 50 lines of one open file, decoded | - | at most 2.00 | not measured |" in markdown


def test_where_memstore_loses_is_told(page):
    for text in page:
        losses = text.split("Where memstore loses")[1].split("Workloads")[0]
        assert "wanted is at least 0.60" in losses
        assert "lmdb (does not matter) is 2.00 times faster than memstore" in losses
        assert "append, records/s: -50 % each time there are ten times as many records" in losses
        assert "open, ms" not in losses


def test_what_one_run_has_not_is_taken_from_another_and_said(tmp_path):
    paths = [
        str(write_run(tmp_path / "a.json", growth(10_000, 100.0), growth(100_000, 50.0))),
        str(write_run(tmp_path / "b.json", growth(100_000, 1.0), growth(10_000_000, 25.0))),
    ]
    assert main([*paths, "--docs", str(tmp_path)]) == 0
    markdown = (tmp_path / "benchmarks.md").read_text()
    assert "| from another run | growth[10000000 records]: set bench, 2025-01-15T14:30:00" in markdown
    assert "| `growth[10000000 records]` | append" in markdown
    assert markdown.count("| `growth[100000 records]` | append") == 1


def test_results_of_different_machines_are_not_joined(tmp_path):
    paths = [str(write_run(tmp_path / f"{cpus}.json", machine_cpus=cpus)) for cpus in (2, 4)]
    with pytest.raises(ValueError, match="different machines"):
        main([*paths, "--docs", str(tmp_path)])


def test_a_missing_peer_stands_there_as_missing(page):
    assert "| chroma | does not matter | - | - | - | - | missing: chromadb is not installed |" in page[0]


def test_a_bar_in_a_name_does_not_break_the_table(page):
    assert "append \\| get" in page[0]


def test_rows_have_as_many_cells_as_their_header(page):
    columns = None
    for line in page[0].splitlines():
        cells = len(re.findall(r"(?<!\\)\|", line)) if line.startswith("|") else None
        assert cells is None or columns in (None, cells), line
        columns = cells


def test_the_html_fetches_and_runs_nothing(page):
    _, html = page
    assert not re.search(r"<script|<link|<img|@import|url\(|src=", html)
    assert set(re.findall(r"https?://[^\s\"]+", html)) == {"http://www.w3.org/2000/svg"}
    assert "prefers-color-scheme: dark" in html


def test_every_chart_is_whole(page):
    charts = re.findall(r"<svg.*?</svg>", page[1], flags=re.DOTALL)
    assert len(charts) == 4  # shares of the floor, two plots of growth, one question to peers
    for chart in charts:
        xml.dom.minidom.parseString(chart)


def test_words_are_escaped(page):
    assert "encode &amp; write" in page[1]
    assert "encode & write" not in page[1]


def test_without_a_result_it_says_what_to_do(tmp_path, capsys):
    assert main(["--directory", str(tmp_path), "--docs", str(tmp_path)]) == 2
    assert "make bench" in capsys.readouterr().out


def test_another_json_is_refused(tmp_path):
    (tmp_path / "other.json").write_text("{}")
    with pytest.raises(ValueError, match="no result of this suite"):
        read_run(str(tmp_path / "other.json"))


def test_a_slope_is_the_change_at_each_tenfold():
    assert Slope("records", "open, ms", ((10, 1.0), (100, 2.0), (1000, 4.0))).per_tenfold == pytest.approx(1.0)
    assert Slope("records", "open, ms", ((10, 1.0), (100, 1.0))).is_flat
    assert Slope("records", "open, ms", ((10, 1.0), (100, 1.09))).is_flat


def test_a_rate_that_falls_and_a_time_that_rises_are_losses():
    falling, rising = ((10, 100.0), (100, 50.0)), ((10, 50.0), (100, 100.0))
    assert Slope("records", "append, records/s", falling).is_loss
    assert not Slope("records", "append, records/s", rising).is_loss
    assert Slope("agents", "open, ms", rising).is_loss
    assert not Slope("agents", "open, ms", falling).is_loss


def test_one_point_has_no_slope():
    assert slopes([growth(10, 1.0).point]) == []
