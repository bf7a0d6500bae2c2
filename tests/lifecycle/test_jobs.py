"""What the scheduler's jobs do with the reports of maintenance."""

from __future__ import annotations

import datetime as dt
import logging
import threading
import time
from dataclasses import dataclass, field

import pytest

from memstore import MemStore
from memstore.config import SchedulingSettings
from memstore.errors import CorruptionError, StorageError, StorageFullError, UsageError
from memstore.lifecycle.action import CleanUp, Compact, Pack
from memstore.lifecycle.jobs import LifecycleJobs
from memstore.lifecycle.scrub_report import ScrubReport

PATIENCE_S = 60.0
FIRST = Compact(agent="bot", manifest_bytes=100)
PACK = Pack(
    agent="bot",
    reason="warm",
    tier="warm",
    month="202501",
    sources=("20250101.1.jsonl",),
    records=9,
    raw_bytes=1000,
    stored_bytes=1000,
)
SECOND = CleanUp(agent="bot", names=("x",))


@dataclass
class Result:
    action: object = FIRST
    seconds: float = 0.5
    bytes_before: int = 100
    bytes_after: int = 40
    records: int = 7


@dataclass
class Report:
    done: list = field(default_factory=list)
    skipped: list = field(default_factory=list)
    failed: list = field(default_factory=list)
    finished: bool = True


@dataclass
class Merged:
    lanes: list
    records: int


class Maintain:
    """Gives one report, and tells of what is done as it goes."""

    def __init__(self, report=None, meanwhile=lambda: None):
        self.report = report or Report()
        self.meanwhile = meanwhile
        self.stopped = None

    def __call__(self, *, stop, on_done):
        for result in self.report.done:
            on_done(result)
        self.meanwhile()
        self.stopped = stop()
        return self.report


def jobs(tier=None, merge=lambda: None, **options):
    return LifecycleJobs(SchedulingSettings(), merge=merge, tier=tier or Maintain(), **options)


def work_of(made, name):
    return next(job for job in made.jobs() if job.name == name).work


@pytest.fixture
def events(caplog):
    caplog.set_level(logging.INFO, logger="memstore")
    return lambda: [(record.event, record.fields) for record in caplog.records]


def test_only_jobs_that_have_work_are_planned():
    assert [job.name for job in jobs().jobs()] == ["merge", "tier"]
    hook = lambda stop: None  # noqa: E731
    every = jobs(retention=Maintain(), analytics=hook, scrub=hook).jobs(heartbeat=hook)
    assert [job.name for job in every] == ["heartbeat", "merge", "tier", "retention", "analytics", "scrub"]
    assert [job.every_s for job in every] == [10, 60, 3600, 86_400, 86_400, 604_800]
    assert [job.name for job in every if job.alone] == ["tier", "retention", "analytics"]
    assert [job.name for job in every if job.costly] == ["scrub"]


def test_each_action_is_told_and_counted_as_it_is_done(events):
    seen = []
    made = jobs(Maintain(Report([Result(), Result(action=PACK)]), meanwhile=lambda: seen.append(len(events()))))
    work_of(made, "tier")(threading.Event())
    assert seen == [2]
    figures = made.figures()
    assert (figures["actions_done"], figures["records_moved"], figures["bytes_freed"]) == (2, 14, 120)
    (event, fields), (_, packed) = events()
    assert event == "action"
    assert (fields["kind"], fields["agent"], fields["records_done"], fields["bytes_before"]) == (
        "compact",
        "bot",
        7,
        100,
    )
    assert (packed["records"], packed["records_done"]) == (9, 7)


def test_a_stop_is_heard_by_what_runs():
    stop = threading.Event()
    tier = Maintain(meanwhile=stop.set)
    work_of(jobs(tier), "tier")(stop)
    assert tier.stopped


def test_what_was_skipped_is_told_with_the_reason(events):
    made = jobs(Maintain(Report(skipped=[(FIRST, "no room")])))
    work_of(made, "tier")(threading.Event())
    ((event, fields),) = events()
    assert (event, fields["skipped_because"]) == ("skipped", "no room")
    assert made.figures()["actions_skipped"] == 1


def test_a_failed_action_is_told_and_is_the_failure_of_its_job(events):
    made = jobs(Maintain(Report([Result()], failed=[(SECOND, StorageFullError("full"))])))
    with pytest.raises(StorageFullError, match="full"):
        work_of(made, "tier")(threading.Event())
    assert [event for event, _ in events()] == ["action", "failed"]
    assert events()[1][1]["error"] == "StorageFullError: full"
    assert made.figures()["actions_failed"] == 1


def test_several_failed_actions_are_summed_up():
    failed = [(FIRST, StorageFullError("full")), (SECOND, StorageError("gone"))]
    with pytest.raises(StorageError, match=r"2 actions failed; the first: Compact .* full"):
        work_of(jobs(Maintain(Report(failed=failed))), "tier")(threading.Event())


def test_a_merge_is_told_when_there_was_one(events):
    work_of(jobs(merge=lambda: None), "merge")(threading.Event())
    work_of(jobs(merge=lambda: Merged([], 0)), "merge")(threading.Event())
    assert events() == []
    made = jobs(merge=lambda: Merged(["a", "b"], 30))
    work_of(made, "merge")(threading.Event())
    assert events() == [("merge", {"lanes": 2, "records": 30})]
    assert (made.figures()["lanes_merged"], made.figures()["records_merged"]) == (2, 30)


def test_a_scrub_is_told_and_what_it_found_is_the_failure_of_its_job(events):
    sound = jobs(scrub=lambda _: ScrubReport(files=3, bytes=900, finished=True))
    work_of(sound, "scrub")(threading.Event())
    assert events() == [("scrub", {"files": 3, "bytes": 900, "damage": 0, "finished": True})]
    damage = CorruptionError("x.zst", offset_bytes=7, length_bytes=9, reason="its checksum does not agree")
    rotten = jobs(scrub=lambda _: ScrubReport(files=1, bytes=20, damage=2, errors=[damage, damage], finished=True))
    with pytest.raises(CorruptionError, match=r"x\.zst"):
        work_of(rotten, "scrub")(threading.Event())
    assert (rotten.figures()["bytes_scrubbed"], rotten.figures()["damage_found"]) == (20, 2)


# --- a store that looks after itself --------------------------------------------------------------

OFTEN = {
    "storage": {"ballast_bytes": 0, "durability": "os"},
    "scheduling": {"merge_s": 0.1, "tier_s": 0.1, "retention_s": 0.1},
}


def old_records(agent="bot"):
    now = dt.datetime.now(dt.UTC)
    return [
        {"agent_id": agent, "content": n, "timestamp_utc": (now - dt.timedelta(days=10, seconds=n)).isoformat()}
        for n in range(10)
    ]


def test_a_store_that_is_asked_to_packs_what_is_due_while_it_is_open(tmp_path):
    with MemStore(tmp_path / "s", settings=OFTEN, maintain=True) as store:
        ids = store.append_many(old_records())
        deadline = time.monotonic() + PATIENCE_S
        while not any(row["records"] for row in store.tiers()["tiers"] if row["tier"] == "warm"):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        assert [record.memory_id for record in store.agent("bot").range()] == sorted(ids)
    store.close()
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("memstore-job")]


def test_a_store_that_is_read_only_cannot_look_after_itself(tmp_path):
    MemStore(tmp_path / "s").close()
    with pytest.raises(UsageError, match="read-only"):
        MemStore(tmp_path / "s", read_only=True, maintain=True)
