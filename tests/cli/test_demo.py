from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import psutil
import pytest

from memstore import MemStore
from memstore.demo import writer
from memstore.demo.generator import Plan

SMALL = ("demo", "--agents", "5", "--records", "300", "--processes", "2", "--days", "3")


@pytest.mark.parametrize("form", ["json", None])
def test_the_demo_writes_with_processes_and_checks_what_it_reads(memstore, root, form):
    result = memstore(*SMALL, "--seed", "7", *(("-o", form) if form else ()))
    assert result.code == 0, result.err
    if form:
        found = json.loads(result.out)
        assert (found["records"], found["records_checked"], found["agents"], found["processes"]) == (300, 300, 5, 2)
        assert found["latency_s"]["get"]["calls"] > 0
    else:
        for words in (
            "300 acknowledged records are there",
            "INTERACTION",
            "recent(50)",
            "STORE.json",
            "What to try next",
        ):
            assert words in result.out
        assert "\x1b" not in result.out
    with MemStore(root, read_only=True, create=False) as store:
        assert store.stats()["records"] == 300


def test_without_root_nothing_is_left_and_the_environment_is_not_looked_at(memstore, tmp_path, monkeypatch):
    monkeypatch.setenv("MEMSTORE_ROOT", str(tmp_path / "in-use"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    result = memstore(*SMALL, with_root=False)
    assert result.code == 0, result.err
    assert os.listdir(tmp_path) == []


def test_a_directory_that_holds_something_is_refused(memstore, root):
    os.makedirs(root)
    with open(os.path.join(root, "precious"), "w", encoding="utf-8"):
        pass
    assert memstore(*SMALL).code == 2
    assert os.listdir(root) == ["precious"]


def test_fewer_records_than_agents_is_refused(memstore):
    assert memstore("demo", "--agents", "5", "--records", "4").code == 2


def test_a_missing_record_is_a_loud_failure(root):
    from memstore.demo.survey import survey
    from memstore.errors import StorageError

    plan = Plan(seed=1, agents=3, records=60, days=2, now_us=1_760_000_000_000_000)
    report = writer.write(writer.Job(root, plan, 0, 1, "os"))
    report.records_of[plan.agent_id(1)] += 1
    with pytest.raises(StorageError, match="were acknowledged"):
        survey(root, plan, [report], progress=lambda done, total: None)


def test_a_writer_that_fails_ends_the_demo(memstore, tmp_path, monkeypatch):
    blocked = tmp_path / "file"
    blocked.write_text("")
    from memstore.demo.fleet import write_with_processes
    from memstore.errors import StorageError

    plan = Plan(seed=1, agents=3, records=60, days=2, now_us=1_760_000_000_000_000)
    with pytest.raises(StorageError, match="writer process"):
        write_with_processes(str(blocked), plan, processes=2, durability="os", progress=lambda done, total: None)


def test_ctrl_c_ends_the_writers_and_leaves_nothing(tmp_path):
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    command = [sys.executable, "-m", "memstore", "demo", "--records", "1000000"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment) as process:
        process.stderr.readline()  # it says that it writes
        children: list[psutil.Process] = []
        while not children:
            children = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
    assert process.returncode == 130
    _, alive = psutil.wait_procs(children, timeout=30)
    assert alive == []
    assert os.listdir(tmp_path) == []
