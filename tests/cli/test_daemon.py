"""The daemon: as a real process, and its parts."""

from __future__ import annotations

import datetime as dt
import io
import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from memstore import MemStore
from memstore.cli.json_log import JsonLog, json_line
from memstore.cli.signals import StopSignals
from memstore.format.names import StorePaths
from memstore.fs.local import LocalStorage
from memstore.lifecycle.heartbeat import read_heartbeat

PATIENCE_S = 60.0


def record(message="hello", *args, level=logging.INFO, exc_info=None, **extra):
    made = logging.LogRecord("memstore.x", level, __file__, 1, message, args, exc_info)
    for name, value in extra.items():
        setattr(made, name, value)
    return made


# --- JSON lines -----------------------------------------------------------------------------------


def test_a_log_record_is_one_json_object():
    line = json_line(record("two %s\nlines", "or more", level=logging.WARNING))
    assert line.count(b"\n") == 1
    found = json.loads(line)
    assert found.pop("time").endswith("Z")
    assert found == {"level": "warning", "event": "log", "logger": "memstore.x", "message": "two or more\nlines"}


def test_an_event_has_its_fields_and_keeps_its_name_and_time():
    line = json.loads(json_line(record("x", event="action", fields={"kind": "pack", "files": ("a",), "event": "no"})))
    assert (line["event"], line["kind"], line["files"]) == ("action", "pack", ["a"])
    assert "message" not in line


def test_what_is_no_json_is_told_as_text():
    path = "/data/\udcff"
    found = json.loads(json_line(record("x", event="failed", fields={"path": path, "error": ValueError("no"), 1: 2})))
    assert (found["path"], found["error"], found["1"]) == (path, "no", 2)


def test_a_traceback_is_part_of_its_line():
    try:
        raise ZeroDivisionError("oops")
    except ZeroDivisionError:
        line = json_line(record("bug", exc_info=sys.exc_info()))
    assert line.count(b"\n") == 1
    assert "ZeroDivisionError: oops" in json.loads(line)["traceback"]


class _Failing(io.BytesIO):
    def __init__(self, error):
        super().__init__()
        self.error = error

    def write(self, data):
        raise self.error


def test_a_full_disk_behind_the_log_drops_lines_and_goes_on():
    closed = []
    log = JsonLog(_Failing(OSError(28, "No space left on device")), on_closed=lambda: closed.append(1))
    log.handle(record())
    log.handle(record())
    assert (log.dropped, closed) == (2, [])


def test_a_closed_pipe_is_told_once():
    closed = []
    log = JsonLog(_Failing(BrokenPipeError()), on_closed=lambda: closed.append(1))
    log.handle(record())
    log.handle(record())
    assert closed == [1]


# --- signals --------------------------------------------------------------------------------------


def test_a_signal_ends_the_wait_and_handlers_are_put_back():
    before = signal.getsignal(signal.SIGTERM)
    with StopSignals() as signals:
        os.kill(os.getpid(), signal.SIGTERM)
        assert signals.wait() == "SIGTERM"
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL, "a second one acts at once"
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_signal_that_the_kernel_gives_to_another_thread_ends_the_wait_too():
    ended = threading.Event()

    def other():
        time.sleep(0.1)  # the main thread sleeps by now
        signal.pthread_kill(threading.get_ident(), signal.SIGTERM)
        if not ended.wait(5.0):
            signals.wake("nobody told the main thread")

    with StopSignals() as signals:
        thread = threading.Thread(target=other)
        thread.start()
        reason = signals.wait()
        ended.set()
        thread.join()
    assert reason == "SIGTERM"


def test_another_thread_ends_the_wait():
    with StopSignals() as signals:
        thread = threading.Thread(target=signals.wake, args=("done",))
        thread.start()
        assert signals.wait() == "done"
        thread.join()


# --- the whole of it ------------------------------------------------------------------------------


@pytest.fixture
def aged(root):
    """Ten records that are due for warm, and one of now."""
    now = dt.datetime.now(dt.UTC)
    with MemStore(root, durability="os", settings={"storage.ballast_bytes": 0}) as store:
        ids = store.append_many(
            {"agent_id": "bot", "content": n, "timestamp_utc": (now - dt.timedelta(days=10, seconds=n)).isoformat()}
            for n in range(10)
        )
        ids.append(store.append(agent_id="bot", content="now"))
    return root, sorted(ids)


@pytest.fixture
def often(tmp_path):
    path = tmp_path / "often.toml"
    path.write_text("[scheduling]\nheartbeat_s = 0.1\nmerge_s = 0.1\ntier_s = 0.1\nretention_s = 0.1\n")
    return str(path)


@pytest.fixture
def daemon(often):
    """Starts daemons, and ends what a failed test leaves."""
    started = []

    def start(root, *flags, **streams):
        command = [sys.executable, "-m", "memstore", "--root", root, "--config", often, "daemon", *flags]
        started.append(subprocess.Popen(command, stderr=subprocess.PIPE, **{"stdout": subprocess.PIPE, **streams}))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


def soon(condition):
    """What the condition gives as soon as it gives something."""
    deadline = time.monotonic() + PATIENCE_S
    while not (found := condition()):
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)
    return found


def heartbeat_of(root):
    return read_heartbeat(LocalStorage(), StorePaths(root))


def ended(process):
    out, err = process.communicate(timeout=PATIENCE_S)
    return process.returncode, [json.loads(line) for line in out.splitlines()], err.decode()


def packed_files(root):
    return [name for _, _, names in os.walk(os.path.join(root, "memory")) for name in names if name.endswith(".zst")]


def test_a_daemon_packs_what_is_due_tells_it_and_stops_cleanly_when_asked(aged, daemon):
    root, ids = aged
    process = daemon(root)
    state = soon(lambda: heartbeat_of(root))
    assert state["pid"] == process.pid
    assert {"heartbeat", "merge", "index", "replica", "tier", "retention", "scrub"} == set(state["jobs"])
    soon(lambda: heartbeat_of(root)["counters"]["actions_done"])
    assert packed_files(root)
    assert heartbeat_of(root)["time"] > state["time"]
    with MemStore(root, durability="os") as store:
        ids.append(store.append(agent_id="bot", content="while it runs"))
    process.send_signal(signal.SIGTERM)
    code, lines, err = ended(process)
    assert (code, err) == (0, "")
    events = [line["event"] for line in lines]
    assert (events[0], events[-2:]) == ("started", ["stopping", "stopped"])
    (action,) = [line for line in lines if line["event"] == "action"]
    assert (action["kind"], action["agent"], action["records_done"]) == ("pack", "bot", 10)
    assert all({"time", "level", "event"} <= line.keys() for line in lines)
    assert lines[-1]["reason"] == "SIGTERM"
    assert heartbeat_of(root) is None
    with MemStore(root, read_only=True) as store:
        assert [record.memory_id for record in store.agent("bot").range()] == sorted(ids)


def test_ctrl_c_stops_it_as_cleanly(aged, daemon):
    process = daemon(aged[0])
    soon(lambda: heartbeat_of(aged[0]))
    process.send_signal(signal.SIGINT)
    code, lines, err = ended(process)
    assert (code, lines[-1]["reason"], err) == (0, "SIGINT", "")


def test_a_second_daemon_is_refused_and_the_first_goes_on(aged, daemon):
    root, _ = aged
    first = daemon(root)
    soon(lambda: heartbeat_of(root))
    code, lines, err = ended(daemon(root))
    assert (code, lines) == (8, [])
    assert f"another daemon (process {first.pid}" in err
    assert err.count("\n") == 1
    before = heartbeat_of(root)["time"]
    soon(lambda: heartbeat_of(root)["time"] > before)


def test_what_a_killed_daemon_left_does_not_keep_the_next_from_working(aged, daemon):
    root, ids = aged
    process = daemon(root)
    soon(lambda: heartbeat_of(root))
    process.kill()
    process.wait()
    assert heartbeat_of(root)["pid"] == process.pid
    next_one = daemon(root)
    soon(lambda: (heartbeat_of(root) or {}).get("pid") == next_one.pid)
    soon(lambda: packed_files(root))
    next_one.send_signal(signal.SIGTERM)
    assert ended(next_one)[0] == 0
    with MemStore(root, read_only=True) as store:
        assert [record.memory_id for record in store.agent("bot").range()] == ids


def test_a_daemon_ends_when_nobody_reads_what_it_says(aged, daemon):
    process = daemon(aged[0])
    assert json.loads(process.stdout.readline())["event"] == "started"
    process.stdout.close()
    assert process.wait(timeout=PATIENCE_S) == 141
    assert process.stderr.read() == b""


def test_once_runs_every_job_once(memstore, aged):
    root, ids = aged
    result = memstore("daemon", "--once")
    assert result.code == 0, result.err
    lines = [json.loads(line) for line in result.out.splitlines()]
    assert [line["event"] for line in lines] == ["started", "indexed", "action", "scrub", "stopped"]
    assert (lines[3]["files"], lines[3]["damage"]) == (2, 0)
    assert (lines[0]["once"], lines[-1]["reason"], lines[-1]["actions_done"]) == (True, "done", 1)
    assert result.err == ""
    assert heartbeat_of(root) is None
    with MemStore(root, read_only=True) as store:
        assert [record.memory_id for record in store.agent("bot").range()] == ids
        assert os.path.exists(StorePaths(root).schedule)


def test_once_reads_everything_again_only_when_that_is_due(memstore, aged):
    events = [[json.loads(line)["event"] for line in memstore("daemon", "--once").out.splitlines()] for _ in range(2)]
    assert events == [["started", "indexed", "action", "scrub", "stopped"], ["started", "stopped"]]


def test_damage_that_a_scrub_finds_is_told_with_its_place_and_is_the_exit_code(memstore, aged):
    root, _ = aged
    memstore("maintain")
    (path,) = [os.path.join(d, name) for d, _, names in os.walk(root) for name in names if name.endswith(".zst")]
    with open(path, "r+b") as file:
        file.seek(40)
        byte = file.read(1)[0]
        file.seek(40)
        file.write(bytes([byte ^ 1]))
    result = memstore("daemon", "--once")
    assert result.code == 7
    lines = [json.loads(line) for line in result.out.splitlines()]
    (damage,) = [line for line in lines if line["event"] == "damage"]
    assert (damage["path"], damage["offset_bytes"], damage["records"]) == (path, 0, 10)
    assert lines[-1]["damage_found"] == 1


def test_once_exits_with_the_code_of_what_failed(memstore, aged):
    root, _ = aged
    with open(StorePaths(root).holds, "wb") as file:
        file.write(b"nonsense\n")
    result = memstore("daemon", "--once")
    assert result.code == 7
    lines = [json.loads(line) for line in result.out.splitlines()]
    assert sum("HOLDS.json" in line.get("message", "") for line in lines) == 3, "tier, retention and scrub"
    assert all(line["level"] == "error" or line["event"] in {"indexed", "scrub"} for line in lines[1:-1])
    assert lines[-1]["event"] == "stopped"


def test_without_retention_nothing_is_removed_by_age(memstore, aged):
    lines = [json.loads(line) for line in memstore("daemon", "--once", "--no-retention").out.splitlines()]
    assert "retention" not in lines[0]["jobs"]


def test_a_daemon_prints_json_lines_and_nothing_else(memstore, aged):
    assert memstore("daemon", "--once", "-o", "table").code == 2
    assert memstore("daemon", "--once", "-o", "ndjson").code == 0


def test_a_daemon_makes_no_store(memstore, root):
    assert memstore("daemon").code == 5
    assert not os.path.exists(root)
