"""``memstore index``: how far it is, up to date, anew."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from support import flip

from memstore import MemStore
from memstore.format.names import StorePaths
from memstore.fs.local import LocalStorage
from memstore.fs.lock import locked

SETTINGS = {"storage.ballast_bytes": 0, "search.background": False}


@pytest.fixture
def filled(root):
    with MemStore(root, durability="os", settings=SETTINGS) as store:
        for month in ("01", "02", "03"):
            store.append_many({"agent_id": "bot", "content": n, "timestamp_utc": f"2025-{month}-01"} for n in range(5))
    return root


def test_without_an_index_it_says_how_to_get_one(memstore, filled):
    result = memstore("index", "status", "-o", "table")
    assert (result.code, "memstore index update" in result.out) == (0, True)
    assert json.loads(memstore("index", "status").out)["ready"] is False


def test_update_builds_it_and_status_tells_each_month(memstore, filled):
    assert json.loads(memstore("index", "update").out)["finished"] is True
    status = json.loads(memstore("index", "status", "-o", "json").out)
    assert [(each["month"], each["records"]) for each in status["partitions"]] == [
        ("202501", 5),
        ("202502", 5),
        ("202503", 5),
    ]
    assert status["behind_bytes"] == 0
    table = memstore("index", "status", "-o", "table").out
    assert "2025-02" in table
    assert "nothing waits to be indexed" in table
    rows = list(csv.DictReader(io.StringIO(memstore("index", "status", "-o", "csv").out, newline="")))
    assert [row["stale"] for row in rows] == ["false"] * 3


def test_damage_that_it_was_built_without_is_told(memstore, filled):
    with MemStore(filled) as store:
        store.drain()
    path = next(Path(filled).glob("memory/shards/*/*/*.jsonl"))
    flip(str(path), path.stat().st_size // 2)
    assert memstore("index", "rebuild").code == 0
    table = memstore("index", "status", "-o", "table").out
    assert "1 damaged left out" in table
    assert "1 damaged piece of the store left out: `memstore check --full` names it" in " ".join(table.split())
    rows = list(csv.DictReader(io.StringIO(memstore("index", "status", "-o", "csv").out, newline="")))
    assert [row["lacks"] for row in rows].count("1") == 1
    assert "1 damaged piece of " in memstore("search", "record", "-o", "json").err


def test_what_is_behind_is_told(memstore, filled):
    memstore("index", "update")
    with MemStore(filled, durability="os", settings={**SETTINGS, "merging.background": False}) as store:
        store.append(agent_id="bot", content="new")
        assert json.loads(memstore("index", "status").out)["behind_bytes"] > 0
        assert "not indexed yet" in memstore("index", "status", "-o", "table").out


def test_a_month_or_all_are_built_anew(memstore, filled):
    memstore("index", "update")
    assert json.loads(memstore("index", "rebuild", "2025-02", "202501").out)["built"] == ["202502", "202501"]
    assert sorted(json.loads(memstore("index", "rebuild").out)["built"]) == ["202501", "202502", "202503"]
    assert len(memstore("search", "", "-n", "all").out.splitlines()) == 15


@pytest.mark.parametrize("arguments", [("rebuild", "202513"), ("rebuild", "January"), (), ("rebuid",)])
def test_mistakes_are_told(memstore, filled, arguments):
    result = memstore("index", *arguments)
    assert (result.code, len(result.err.splitlines())) == (2, 1)


def test_while_another_process_indexes_it_exits_with_8(memstore, filled):
    memstore("index", "update")
    paths = StorePaths(filled)
    with locked(LocalStorage(), paths.lock("index")):
        result = memstore("index", "rebuild")
        assert result.code == 8
        assert "another process is indexing" in result.err
        assert len(memstore("search", "", "-n", "all").out.splitlines()) == 15, "searches go on"
    assert memstore("index", "rebuild").code == 0


def test_a_signal_ends_it_between_two_batches_and_the_next_goes_on(memstore, filled, monkeypatch):
    def index(self, *, rebuild, progress, stop):
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop()
        return {"added": 0, "built": [], "finished": False}

    monkeypatch.setattr(MemStore, "index", index)
    result = memstore("index", "rebuild")
    assert result.code == 130
    assert "goes on from here" in result.err
    monkeypatch.undo()
    assert memstore("index", "update").code == 0


def test_searches_go_on_while_the_index_is_built_anew(filled):
    command = [sys.executable, "-m", "memstore", "--root", filled]
    subprocess.run([*command, "index", "update"], check=True, capture_output=True, timeout=60)
    rebuilding = subprocess.Popen([*command, "index", "rebuild"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    with MemStore(filled, read_only=True) as store:
        while rebuilding.poll() is None:
            assert store.search("").total == 15
        assert store.search("").total == 15
    out, err = rebuilding.communicate()
    assert (rebuilding.returncode, err) == (0, b"")
    assert json.loads(out)["finished"]
