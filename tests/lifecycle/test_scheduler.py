"""When jobs run: real threads and APScheduler's real times, with waits on events and never on the clock."""

from __future__ import annotations

import datetime as dt
import logging
import os
import subprocess
import sys
import threading

import pytest
from support import T0_US

from memstore.clock import ManualClock
from memstore.errors import StorageError, StorageFullError, UnsupportedError
from memstore.format.checked import decode_checked
from memstore.format.names import StorePaths
from memstore.fs.local import LocalStorage
from memstore.lifecycle.heartbeat import Heartbeat, read_heartbeat
from memstore.lifecycle.job import Every, Job
from memstore.lifecycle.schedule_file import ScheduleFile
from memstore.lifecycle.scheduler import LifecycleScheduler
from memstore.testing.faulty import FaultyStorage

HOUR_S = 3600.0
PATIENCE_S = 30.0


class Work:
    """Counts its runs; `ran` is set by the first, `twice` by the second."""

    def __init__(self, error=None):
        self.runs = 0
        self.error = error
        self.ran, self.twice = threading.Event(), threading.Event()

    def __call__(self, stop):
        self.runs += 1
        (self.ran if self.runs == 1 else self.twice).set()
        if self.error is not None:
            raise self.error


@pytest.fixture
def paths(tmp_path):
    (tmp_path / "locks").mkdir()
    return StorePaths(str(tmp_path))


@pytest.fixture
def clock():
    return ManualClock(T0_US)


@pytest.fixture
def make(paths, clock):
    made = []

    def build(*jobs, storage=None, clock=clock):
        made.append(LifecycleScheduler(jobs, storage=storage or LocalStorage(), paths=paths, clock=clock))
        return made[-1]

    yield build
    for each in made:
        each.close()


def last_runs(paths):
    with open(paths.schedule, "rb") as file:
        kind, jobs = decode_checked(file.read().rstrip(b"\n"))
    assert kind == "schedule"
    return jobs


def test_a_job_runs_at_the_start_and_again_at_its_interval(make):
    work = Work()
    make(Job("merge", 0.05, work)).start()
    assert work.twice.wait(PATIENCE_S)


def test_a_job_whose_last_run_nobody_knows_runs_at_the_start_and_is_noted(make, paths):
    work = Work()
    scheduler = make(Job("tier", HOUR_S, work))
    scheduler.run_all()
    assert work.runs == 1
    assert last_runs(paths) == {"tier": T0_US}


def test_a_job_that_is_not_due_waits_for_the_rest_of_its_interval(make, paths, clock):
    make(Job("tier", HOUR_S, Work())).run_all()
    clock.advance(HOUR_S / 4)
    work = Work()
    later = make(Job("tier", HOUR_S, work))
    assert later._first_delays_s() == {"tier": HOUR_S * 3 / 4}
    later.start()
    status = later.status()["tier"]
    assert status["last"] == "2025-01-15T00:00:00.000000Z"
    assert status["next"] is not None
    assert work.runs == 0


def test_missed_runs_are_caught_up_once_one_job_after_another(make, clock):
    names = ["tier", "retention", "scrub"]
    make(*(Job(name, HOUR_S, Work()) for name in names)).run_all()
    clock.advance(1000 * HOUR_S)
    works = [Work() for _ in names]
    later = make(*(Job(name, HOUR_S, work) for name, work in zip(names, works, strict=True)))
    assert later._first_delays_s() == {"tier": 0.0, "retention": 1.0, "scrub": 2.0}
    later.start()
    assert works[0].ran.wait(PATIENCE_S)
    later.close()
    assert works[0].runs == 1


def test_a_last_run_in_the_future_makes_no_job_wait_longer_than_its_interval(make, clock):
    make(Job("tier", HOUR_S, Work())).run_all()
    clock.step(-1000 * HOUR_S)
    assert make(Job("tier", HOUR_S, Work()))._first_delays_s() == {"tier": HOUR_S}


def test_a_trigger_fires_once_however_long_the_pause_was():
    every = Every(dt.timedelta(seconds=10))
    start = dt.datetime(2025, 1, 15, tzinfo=dt.UTC)
    second = dt.timedelta(seconds=1)
    assert every.get_next_fire_time(None, start) == start + 10 * second
    assert every.get_next_fire_time(start, start + 3 * second) == start + 10 * second
    year = dt.timedelta(days=365)
    assert every.get_next_fire_time(start, start + year) == start + year + 10 * second


def test_jobs_do_not_wait_for_a_clock_that_was_set_back_to_catch_up(make, clock, caplog):
    make(Job("tier", HOUR_S, Work())).run_all()
    work = Work()
    scheduler = make(Job("tier", HOUR_S, work))
    scheduler.start()
    scheduler.look_at_clock()
    assert work.runs == 0
    clock.step(-2 * HOUR_S)  # only this clock: APScheduler's stands, so that moving along means being due
    scheduler.look_at_clock()
    assert work.ran.wait(PATIENCE_S)
    assert "set back by 7200 s" in caplog.text


def test_a_job_that_fails_is_told_in_one_line_and_counted_and_the_others_go_on(make, caplog):
    bad, good = Work(StorageFullError("no space here; free some")), Work()
    scheduler = make(Job("tier", 0.05, bad), Job("merge", 0.05, good))
    scheduler.start()
    assert bad.twice.wait(PATIENCE_S)
    assert good.twice.wait(PATIENCE_S)
    scheduler.close()
    status = scheduler.status()
    assert status["tier"]["failures"] == status["tier"]["runs"] >= 2
    assert status["tier"]["error"] == "StorageFullError: no space here; free some"
    assert (status["merge"]["failures"], status["merge"]["error"]) == (0, None)
    assert scheduler.failed_with is StorageFullError
    assert "the job tier failed and runs again in 0.05 s: no space here; free some" in caplog.text
    assert "Traceback" not in caplog.text


def test_a_bug_in_a_job_is_logged_with_its_traceback(make, caplog):
    make(Job("tier", HOUR_S, Work(ZeroDivisionError("oops")))).run_all()
    assert "Traceback" in caplog.text
    assert "ZeroDivisionError: oops" in caplog.text


def test_a_job_never_runs_beside_itself(make):
    inside, most = [0], [0]
    third = threading.Event()
    runs = [0]

    def work(stop):
        inside[0] += 1
        most[0] = max(most[0], inside[0])
        stop.wait(0.05)
        inside[0] -= 1
        runs[0] += 1
        if runs[0] == 3:
            third.set()

    make(Job("merge", 0.01, work)).start()
    assert third.wait(PATIENCE_S)
    assert most == [1]


def test_jobs_that_want_to_be_alone_take_turns_and_others_run_beside_them(make):
    held, let_go, second, beside = (threading.Event() for _ in range(4))

    def hold(stop):
        held.set()
        assert let_go.wait(PATIENCE_S)

    def next_one(stop):
        assert let_go.is_set()
        second.set()

    scheduler = make(Job("tier", HOUR_S, hold, alone=True), Job("retention", 0.01, next_one, alone=True))
    other = make(Job("merge", 0.01, lambda stop: held.is_set() and beside.set()))
    scheduler.start()
    other.start()
    assert held.wait(PATIENCE_S)
    assert beside.wait(PATIENCE_S)
    assert not second.is_set()
    let_go.set()
    assert second.wait(PATIENCE_S)


def test_close_waits_for_the_running_job_and_nothing_runs_after_it(make, paths):
    began, ended = threading.Event(), []
    starts = [0]

    def work(stop):
        starts[0] += 1
        began.set()
        assert stop.wait(PATIENCE_S)  # asked to end after its step
        ended.append(True)

    scheduler = make(Job("tier", 0.01, work, alone=True), Job("retention", HOUR_S, Work(), alone=True))
    scheduler.start()
    assert began.wait(PATIENCE_S)
    scheduler.close()
    scheduler.close()
    assert ended == [True]
    assert starts == [1]
    assert not os.path.exists(paths.schedule), "what may have ended early is not noted as done"
    assert not [t.name for t in threading.enumerate() if t.name.startswith(("memstore-job", "APScheduler"))]


def test_a_scheduler_that_was_closed_before_it_started_stays_quiet(make):
    work = Work()
    scheduler = make(Job("tier", 0.01, work))
    scheduler.close()
    scheduler.start()
    assert scheduler.status()["tier"]["next"] is None
    assert work.runs == 0


def test_a_job_may_close_its_own_scheduler(make):
    closed = threading.Event()

    def work(stop):
        scheduler.close()
        closed.set()

    scheduler = make(Job("tier", HOUR_S, work))
    scheduler.start()
    assert closed.wait(PATIENCE_S)


def test_the_next_start_remembers_jobs_of_other_processes(make, paths, clock):
    make(Job("tier", HOUR_S, Work())).run_all()
    clock.advance(60)
    make(Job("scrub", HOUR_S, Work())).run_all()
    assert last_runs(paths) == {"tier": T0_US, "scrub": T0_US + 60_000_000}


def test_runs_more_often_than_every_five_minutes_are_not_noted(make, paths):
    make(Job("merge", 299.0, Work())).run_all()
    assert not os.path.exists(paths.schedule)


@pytest.mark.parametrize("content", [b"", b"nonsense", b'{"schedule":{"tier":1},"xxh3":"0000000000000000"}\n'])
def test_a_damaged_schedule_makes_every_job_run_once_and_is_replaced(make, paths, content, caplog):
    with open(paths.schedule, "wb") as file:
        file.write(content)
    scheduler = make(Job("tier", HOUR_S, Work()))
    assert scheduler._first_delays_s() == {"tier": 0.0}
    assert "does not verify" in caplog.text
    scheduler.run_all()
    assert last_runs(paths) == {"tier": T0_US}


def test_a_full_disk_costs_the_note_and_not_the_job(make, paths, caplog):
    storage = FaultyStorage(LocalStorage())
    storage.fill()
    work = Work()
    scheduler = make(Job("tier", HOUR_S, work), storage=storage)
    scheduler.run_all()
    assert (work.runs, scheduler.failed_with) == (1, None)
    assert "cannot be noted" in caplog.text


def test_a_schedule_that_cannot_be_read_is_no_reason_not_to_start(paths, caplog):
    storage = FaultyStorage(LocalStorage())
    storage.fail("open_read")
    with open(paths.schedule, "wb"):
        pass
    assert ScheduleFile(storage, paths).read() == {}
    assert "cannot be read" in caplog.text


def test_a_forked_child_has_no_scheduler(make):
    work = Work()
    scheduler = make(Job("tier", 0.01, work))
    scheduler.start()
    assert work.ran.wait(PATIENCE_S)
    pid = os.fork()
    if pid == 0:
        ok = False
        try:
            before = work.runs
            quiet = scheduler.status()["tier"]["next"] is None
            scheduler.close()
            ok = quiet and work.runs == before and scheduler._stop.is_set()
        finally:
            os._exit(0 if ok else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    work.twice.clear()
    assert work.twice.wait(PATIENCE_S), "the parent's goes on"


def test_a_process_without_threads_is_told(make, monkeypatch):
    monkeypatch.setitem(sys.modules, "uwsgi", type("uwsgi", (), {"has_threads": False}))
    with pytest.raises(UnsupportedError, match="--enable-threads"):
        make(Job("tier", HOUR_S, Work())).start()


def test_an_interpreter_ends_without_waiting_for_a_job(tmp_path):
    code = (
        "import threading\n"
        "from memstore.clock import WallClock\n"
        "from memstore.format.names import StorePaths\n"
        "from memstore.fs.local import LocalStorage\n"
        "from memstore.lifecycle.job import Job\n"
        "from memstore.lifecycle.scheduler import LifecycleScheduler\n"
        "began = threading.Event()\n"
        "work = lambda stop: (began.set(), threading.Event().wait())\n"
        f"paths = StorePaths({str(tmp_path)!r})\n"
        "s = LifecycleScheduler([Job('x', 9, work)], storage=LocalStorage(), paths=paths, clock=WallClock())\n"
        "s.start()\n"
        "assert began.wait(20)\n"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, b"")


def test_opening_a_store_does_not_import_apscheduler():
    code = "import sys, memstore, memstore.lifecycle.scheduler; sys.exit('apscheduler' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=60, check=False).returncode == 0


# --- heartbeat ------------------------------------------------------------------------------------


def test_a_heartbeat_is_replaced_whole_and_removed_at_the_end(paths):
    heartbeat = Heartbeat(LocalStorage(), paths)
    assert read_heartbeat(LocalStorage(), paths) is None
    heartbeat.beat({"pid": 1})
    heartbeat.beat({"pid": 2})
    assert read_heartbeat(LocalStorage(), paths) == {"pid": 2}
    assert os.listdir(paths.runtime) == ["heartbeat.json"]
    heartbeat.remove()
    heartbeat.remove()
    assert os.listdir(paths.runtime) == []


def test_a_heartbeat_that_cannot_be_written_leaves_the_last_one_and_nothing_else(paths):
    storage = FaultyStorage(LocalStorage())
    heartbeat = Heartbeat(storage, paths)
    heartbeat.beat({"pid": 1})
    storage.fail("rename")
    with pytest.raises(StorageError):
        heartbeat.beat({"pid": 2})
    assert read_heartbeat(LocalStorage(), paths) == {"pid": 1}
    assert os.listdir(paths.runtime) == ["heartbeat.json"]


def test_what_a_killed_daemon_left_beside_its_heartbeat_is_cleaned_away(paths):
    heartbeat = Heartbeat(LocalStorage(), paths)
    heartbeat.clean()
    heartbeat.beat({"pid": 1})
    with open(os.path.join(paths.runtime, ".tmp-0123"), "wb"):
        pass
    heartbeat.clean()
    assert os.listdir(paths.runtime) == ["heartbeat.json"]


@pytest.mark.parametrize("content", [b"", b"[1]", b'{"pid": 1'])
def test_a_heartbeat_that_is_none_is_no_error(paths, content):
    os.makedirs(paths.runtime)
    with open(paths.heartbeat, "wb") as file:
        file.write(content)
    assert read_heartbeat(LocalStorage(), paths) is None


@pytest.fixture(autouse=True)
def _log_everything(caplog):
    caplog.set_level(logging.WARNING, logger="memstore")
