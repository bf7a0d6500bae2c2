"""Every workload runs from end to end at a tiny size, so that the suite never rots; times mean nothing here."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.targets import TARGETS, workload_of

ROOT = Path(__file__).parents[2]
NAMED = {
    "fill_one", "fill_batch", "fill_async", "fill_procs", "fill_agents", "get_cached", "get_hot", "get_warm",
    "get_cold", "recent", "range_day", "range_month", "search_terms", "search_filtered", "aggregate", "import_tree",
    "tier_warm",
    "tier_cold", "collapse", "check_full", "backup", "reopen", "mixed", "growth",
}  # fmt: skip
HEADLINE = {"operation", "us", "per_second", "floor", "of_floor"} | {
    "resident_mib",
    "before_mib",
    "written_per_byte",
}
NEEDS_SIZE = {("fill_agents[10000]", "speed / floor"), ("fill_agents[100000]", "speed / floor")} | {
    ("growth", "append rate / at 100,000 records")
}


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    scratch = tmp_path_factory.mktemp("smoke")
    command = [sys.executable, "-m", "pytest", "benchmarks", "--size=smoke", "-q", "-k=not peers"]
    run = subprocess.run(
        [*command, f"--bench-dir={scratch}", f"--benchmark-json={scratch}/smoke.json"],
        cwd=ROOT, capture_output=True, text=True, check=False,
        env={name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")},  # of a worker
    )  # fmt: skip
    assert run.returncode == 0, run.stdout[-5000:] + run.stderr[-2000:]
    assert {path.name for path in scratch.iterdir()} == {"smoke.json"}
    return [each["extra_info"] for each in json.loads((scratch / "smoke.json").read_text())["benchmarks"]]


def test_every_named_workload_gives_every_figure(told):
    named = {workload_of(each["name"]): each for each in told if each["headline"]}
    assert set(named) >= NAMED  # extra ones may give them too
    for name, each in named.items():
        assert set(each["headline"]) == HEADLINE, name
        assert each["headline"]["us"]["n"] > 0, name
        assert each["headline"]["of_floor"]["value"] > 0, name
        assert each["headline"]["resident_mib"] > 0, name
        assert each["records"] > 0, name
        assert each["bytes"] > 0, name


def test_every_target_is_measured_under_its_name(told):
    measured = {
        (name, what) for each in told for name in (each["name"], workload_of(each["name"])) for what in each["ratios"]
    }
    wanted = {(name, what) for name, targets in TARGETS.items() for what in targets}
    assert wanted - measured == NEEDS_SIZE
