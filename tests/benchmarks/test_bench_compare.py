"""The last result against the one before."""

import pytest
from small_run import report, write_run

from benchmarks.compare import Change, last_two, main


def change(then, now, **options):
    return Change("fill_batch", "speed / floor", then, now, **options)


def test_less_than_the_noise_is_no_change():
    assert change(1.0, 0.95, noise=0.1).verdict == ""
    assert change(1.0, 1.05, noise=0.1).verdict == ""


def test_more_than_the_noise_is_worse_or_better():
    assert change(1.0, 0.8, noise=0.1).verdict == "WORSE"
    assert change(1.0, 1.3, noise=0.1).verdict == "better"


def test_where_less_is_better_more_is_worse():
    assert change(2.0, 3.0, noise=0.1, at_most=True).verdict == "WORSE"
    assert change(3.0, 2.0, noise=0.1, at_most=True).verdict == "better"


def test_what_was_measured_only_once_is_named():
    assert change(None, 1.0).verdict == "new"
    assert change(1.0, None).verdict == "gone"


def test_the_same_result_twice_ends_well(tmp_path, capsys):
    for name in ("1.json", "2.json"):
        write_run(tmp_path / name)
    assert main(["--directory", str(tmp_path)]) == 0
    assert "0 got worse" in capsys.readouterr().out


def test_a_ratio_that_fell_ends_with_1_and_is_named(tmp_path, capsys):
    write_run(tmp_path / "1.json", report("fill_batch", of_floor=[0.6, 0.6, 0.6]))
    write_run(tmp_path / "2.json", report("fill_batch", of_floor=[0.3, 0.3, 0.3]))
    assert main(["--directory", str(tmp_path)]) == 1
    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("  fill_batch"))
    assert line.split() == ["fill_batch", "speed", "/", "floor", "0.60", "0.30", "-50", "%", "10", "%", "WORSE"]


def test_rounds_that_lie_far_apart_are_noise(tmp_path):
    write_run(tmp_path / "1.json", report("fill_batch", of_floor=[0.2, 0.6, 1.0]))
    write_run(tmp_path / "2.json", report("fill_batch", of_floor=[0.4, 0.4, 0.4]))
    assert main(["--directory", str(tmp_path)]) == 0


def test_only_results_of_the_same_size_are_compared(tmp_path):
    write_run(tmp_path / "1.json")
    write_run(tmp_path / "2.json", size="full")
    write_run(tmp_path / "3.json")
    assert last_two(str(tmp_path)) == (str(tmp_path / "1.json"), str(tmp_path / "3.json"))


def test_what_an_interrupted_run_left_does_not_count(tmp_path):
    write_run(tmp_path / "1.json")
    write_run(tmp_path / "2.json")
    (tmp_path / "3.json").touch()
    assert last_two(str(tmp_path)) == (str(tmp_path / "1.json"), str(tmp_path / "2.json"))


@pytest.mark.parametrize("results", [0, 1])
def test_with_nothing_to_compare_it_says_so(tmp_path, results, capsys):
    for number in range(results):
        write_run(tmp_path / f"{number}.json")
    assert main(["--directory", str(tmp_path)]) == 2
    assert "run `make bench` twice" in capsys.readouterr().out


def test_another_machine_is_pointed_out(tmp_path, capsys):
    paths = [str(write_run(tmp_path / "1.json")), str(write_run(tmp_path / "2.json", machine_cpus=8))]
    assert main(paths) == 0
    assert "differ: cpus" in capsys.readouterr().out
